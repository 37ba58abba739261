"""The results of a leaderboard: what its folder holds, as figures to show.

In: the folder of a leaderboard, finished or not. Out: `LeaderboardResults`: a `Row` for each model with means
and standard deviations over seeds and 95% intervals over users, tests of all pairs, and how the orders agree.
Nothing is trained or evaluated here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ncf.evaluation.significance import intervals
from ncf.leaderboard.entries import Entry
from ncf.leaderboard.folder import EntryFolder, Values, data_of
from ncf.leaderboard.pairwise_tests import PairwiseTest, compare_all, kendall

ORDER = "sampled/ndcg@10"
FULL_ORDER = "full/ndcg@10"
TESTED = ("sampled/ndcg@10", "sampled/hr@10", "full/ndcg@10", "full/hr@10")
NOT_DONE = "It has not been run yet."
_RESAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """One model. `means` and `deviations` are over its seeds; a single run has no deviation.

    `intervals` are over users, of the mean over seeds. A model that failed or was not run has a `failure` and
    no figures.
    """

    name: str
    title: str
    source: str
    baseline: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    validation: float | None = None
    trials: int = 0
    failed_trials: int = 0
    search_seconds: float = 0.0
    out_of_time: bool = False
    seeds: int = 0
    means: dict[str, float] = field(default_factory=dict)
    deviations: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    seconds: float = 0.0
    seconds_of_halves: float = 0.0
    milliseconds: float = 0.0
    bytes: int = 0
    failure: str = ""


@dataclass(frozen=True)
class DiscordantPair:
    """Two models that the protocols order differently: `a` is first on the sampled ranking only."""

    a: str
    b: str
    both_significant: bool


@dataclass(frozen=True)
class LeaderboardResults:
    """Everything that is shown. `rows` are ordered by NDCG@10 (sampled), best first; `missing` were not
    evaluated.

    `pairs` are the tests by measure. `sampled_full_tau` is Kendall's tau between the orders by NDCG@10 under
    the two protocols, `validation_test_tau` between validation and test NDCG@10 (sampled). Intervals and
    tests are over `users` users.
    """

    data: dict[str, Any]
    rows: list[Row]
    missing: list[Row]
    pairs: dict[str, list[PairwiseTest]]
    discordant_pairs: list[DiscordantPair]
    sampled_full_tau: float
    validation_test_tau: float
    users: int = 0

    def pair(self, measure: str, a: str, b: str) -> PairwiseTest | None:
        """The test of `a` and `b` (names) by `measure`, in which the difference is a - b."""
        for pair in self.pairs.get(measure, []):
            if (pair.a, pair.b) == (a, b):
                return pair
            if (pair.a, pair.b) == (b, a):
                p_values = pair.p_value, pair.p_corrected
                return PairwiseTest(a, b, -pair.difference, -pair.high, -pair.low, *p_values)
        return None


def read_results(folder: Path, entries: Sequence[Entry], seeds: int) -> LeaderboardResults:
    """The results of `entries` in `folder`, of the first `seeds` seeds.

    Raises `ConfigError` where the folder holds no leaderboard.
    """
    data = data_of(folder)
    all_rows = [_row(EntryFolder(folder, entry), entry, seeds) for entry in entries]
    evaluated = sorted((pair for pair in all_rows if pair[1]), key=lambda pair: -pair[0].means[ORDER])
    rows = [row for row, _ in evaluated]
    names = [row.name for row in rows]
    pairs = {
        measure: compare_all(names, np.stack([values[measure] for _, values in evaluated]))
        if evaluated
        else []
        for measure in TESTED
    }
    by_test = [row.means[ORDER] for row in rows]
    return LeaderboardResults(
        data,
        rows,
        [row for row, values in all_rows if not values],
        pairs,
        _discordant_pairs(rows, pairs),
        kendall(by_test, [row.means[FULL_ORDER] for row in rows]),
        kendall([row.validation or 0.0 for row in rows], by_test),
        len(evaluated[0][1][ORDER]) if evaluated else 0,
    )


def _row(files: EntryFolder, entry: Entry, seeds: int) -> tuple[Row, Values]:
    """The row of an entry, and each measure by user (the mean over seeds); no values where it was not
    evaluated.
    """
    known: dict[str, Any] = {"name": entry.name, "title": entry.title, "source": entry.source}
    known["baseline"] = entry.baseline is not None
    if chosen := files.chosen():
        renamed = {"validation_ndcg@10": "validation", "failed": "failed_trials", "seconds": "search_seconds"}
        shown = ("settings", "validation_ndcg@10", "trials", "failed", "seconds", "out_of_time")
        known |= {renamed.get(name, name): chosen[name] for name in shown}
    done = [seed for seed in range(seeds if entry.seeded else 1) if files.final(seed)]
    failure = files.failure()
    if failure or not done:
        return Row(**known, failure=failure or NOT_DONE), {}
    finals = [final for seed in done if (final := files.final(seed)) is not None]
    of_seeds = [files.values(seed) for seed in done]
    values = {name: np.mean([seed_values[name] for seed_values in of_seeds], axis=0) for name in of_seeds[0]}
    figures = {name: [final["figures"][name] for final in finals] for name in finals[0]["figures"]}
    spans = intervals(np.stack(list(values.values())), _RESAMPLES)
    row = Row(
        **known,
        seeds=len(done),
        means={name: float(np.mean(of_name)) for name, of_name in figures.items()},
        deviations={
            name: float(np.std(of_name, ddof=1)) for name, of_name in figures.items() if len(done) > 1
        },
        intervals={name: (float(low), float(high)) for name, (low, high) in zip(values, spans, strict=True)},
        seconds=float(np.mean([final["seconds"] for final in finals])),
        seconds_of_halves=float(np.mean([final["seconds_of_halves"] for final in finals])),
        milliseconds=float(np.median([final["milliseconds"] for final in finals])),
        bytes=finals[0]["bytes"],
    )
    return row, values


def _discordant_pairs(rows: list[Row], pairs: dict[str, list[PairwiseTest]]) -> list[DiscordantPair]:
    title = {row.name: row.title for row in rows}
    return [
        DiscordantPair(title[sampled.a], title[sampled.b], sampled.significant and full.significant)
        for sampled, full in zip(pairs[ORDER], pairs[FULL_ORDER], strict=True)
        if sampled.difference * full.difference < 0  # rows are in the sampled order, so a is ahead there
    ]
