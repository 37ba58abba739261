"""The board: what the folder holds, as figures that can be shown.

In: the folder of a leaderboard, finished or not. Out: a `LeaderboardResults`: one `Row` a contender with means and standard deviations
over seeds and 95% intervals over users, all pairs tested, and how orders agree. Nothing is trained or judged here.
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
NOT_DONE = "It is not done yet."
_RESAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """One contender. `means` and `deviations` are over its seeds; a single run has no deviation.

    `intervals` are over users, of the mean over seeds. Empty figures and a `failure` where it failed, or is not done.
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
class Swap:
    """Two contenders that the protocols put in another order: sampled puts `a` first, full `b`.

    `certain` where both tests are significant.
    """

    a: str
    b: str
    certain: bool


@dataclass(frozen=True)
class LeaderboardResults:
    """Everything that is shown; `rows` are ordered by NDCG@10 (sampled), best first, `missing` are not judged."""

    data: dict[str, Any]
    rows: list[Row]
    missing: list[Row]
    pairs: dict[str, list[PairwiseTest]]
    swaps: list[Swap]
    agreement: float
    """Kendall's tau of the orders by NDCG@10 under the sampled and the full protocol."""
    validation_test_tau: float
    """Kendall's tau of validation NDCG@10 against test NDCG@10 (sampled)."""
    users: int = 0
    """Users that intervals and tests are over."""

    def pair(self, measure: str, a: str, b: str) -> PairwiseTest | None:
        """The pair seen from `a`: the difference is a - b."""
        for one in self.pairs.get(measure, []):
            if (one.a, one.b) == (a, b):
                return one
            if (one.a, one.b) == (b, a):
                return PairwiseTest(a, b, -one.difference, -one.high, -one.low, one.p_value, one.corrected)
        return None


def read_board(folder: Path, entries: Sequence[Entry], seeds: int) -> LeaderboardResults:
    """What is there for these contenders, of the first `seeds` seeds; raises `ConfigError` where there is no leaderboard."""
    data = data_of(folder)
    found = [_row(EntryFolder(folder, contender), contender, seeds) for contender in entries]
    judged = sorted((one for one in found if one[1]), key=lambda one: -one[0].means[ORDER])
    rows = [row for row, _ in judged]
    names = [row.name for row in rows]
    pairs = {
        measure: compare_all(names, np.stack([values[measure] for _, values in judged])) if judged else []
        for measure in TESTED
    }
    return LeaderboardResults(
        data, rows, [row for row, values in found if not values], pairs, _swaps(rows, pairs),
        kendall([row.means[ORDER] for row in rows], [row.means[FULL_ORDER] for row in rows]),
        kendall([row.validation or 0.0 for row in rows], [row.means[ORDER] for row in rows]),
        len(judged[0][1][ORDER]) if judged else 0,
    )  # fmt: skip


def _row(place: EntryFolder, contender: Entry, seeds: int) -> tuple[Row, Values]:
    """A contender's row, and each measure user by user, the mean over seeds; no values where it was not judged."""
    chosen = place.chosen() or {}
    known: dict[str, Any] = {
        "name": contender.name, "title": contender.title, "source": contender.source,
        "baseline": contender.baseline is not None,
    }  # fmt: skip
    if chosen:
        known |= {
            "settings": chosen["settings"], "validation": chosen["validation_ndcg@10"], "trials": chosen["trials"],
            "failed_trials": chosen["failed"], "search_seconds": chosen["seconds"], "out_of_time": chosen["out_of_time"],
        }  # fmt: skip
    done = [seed for seed in range(seeds if contender.seeded else 1) if place.final(seed)]
    failure = place.failure()
    if failure or not done:
        return Row(**known, failure=failure or NOT_DONE), {}
    finals = [final for seed in done if (final := place.final(seed)) is not None]
    values = _mean_values([place.values(seed) for seed in done])
    figures = {name: [final["figures"][name] for final in finals] for name in finals[0]["figures"]}
    names = list(values)
    spans = intervals(np.stack([values[name] for name in names]), _RESAMPLES)
    return Row(
        **known, seeds=len(done),
        means={name: float(np.mean(one)) for name, one in figures.items()},
        deviations={name: float(np.std(one, ddof=1)) for name, one in figures.items() if len(one) > 1},
        intervals={name: (float(low), float(high)) for name, (low, high) in zip(names, spans, strict=True)},
        seconds=float(np.mean([final["seconds"] for final in finals])),
        seconds_of_halves=float(np.mean([final["seconds_of_halves"] for final in finals])),
        milliseconds=float(np.median([final["milliseconds"] for final in finals])),
        bytes=finals[0]["bytes"],
    ), values  # fmt: skip


def _mean_values(of_seeds: list[Values]) -> Values:
    return {name: np.mean([values[name] for values in of_seeds], axis=0) for name in of_seeds[0]}


def _swaps(rows: list[Row], pairs: dict[str, list[PairwiseTest]]) -> list[Swap]:
    title = {row.name: row.title for row in rows}
    swaps = []
    for sampled, full in zip(pairs[ORDER], pairs[FULL_ORDER], strict=True):
        if sampled.difference * full.difference < 0:  # rows are in the sampled order, so that a is ahead
            swaps.append(Swap(title[sampled.a], title[sampled.b], sampled.significant and full.significant))
    return swaps
