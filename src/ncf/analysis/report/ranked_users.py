"""The rankings behind a page: the same held-out rows in their candidate lists and among the whole catalogue.

In: a scorer, a data set, held-out rows by user. Out: `RankedUsers`. The decision worth knowing: the rank of
the held-out item is taken from hit ratios at many cutoffs, whose differences are the probabilities of each
rank, so the tie rule of the protocol holds here too. Memory and time are bounded: of many rows a sample is
evaluated, chosen by the seed.

Legend: T held-out rows, C candidates, I items.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ncf.config import EvaluationConfig
from ncf.data import Dataset, HeldOut
from ncf.evaluation import EvaluationResult, evaluate_full, evaluate_sampled, significance
from ncf.evaluation.ranking import Scorer
from ncf.evaluation.slices import sample
from ncf.runtime import Workers

MOST_ROWS = 20_000
"""Most held-out rows that are evaluated in their candidate lists."""
MOST_SCORES = 2**26
"""Most scores of the full ranking: rows times items."""
K = 10
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ranking:
    """Rows evaluated under one protocol.

    `result` has hit ratios at every cutoff of `edges`. `ranked` [T] is the number of items that each positive
    is ranked among, itself included. `intervals` are the 95% intervals of the metrics that are shown.
    """

    rows: HeldOut
    result: EvaluationResult
    edges: Ints
    ranked: Ints
    intervals: dict[str, tuple[float, float]]

    @property
    def shares(self) -> Floats:
        """[len(edges)]: the share of rows whose positive ranks after the previous edge and up to this one."""
        reached = [self.result.means[f"hr@{edge}"] for edge in self.edges.tolist()]
        return np.diff(np.array([0.0, *reached]))

    @property
    def chance(self) -> Floats:
        """[len(edges)]: the same shares for a model that guesses."""
        reached = np.minimum(self.edges[:, None], self.ranked[None]) / self.ranked[None]
        return np.diff(reached.mean(axis=1), prepend=0.0)

    def to_json(self) -> dict[str, Any]:
        """The metrics that have an interval, and those of the recommended lists."""
        metrics = {name: self.result.means[name] for name in self.intervals} | self.result.catalogue
        return {
            "rows": len(self.rows),
            "ties": self.result.ties,
            "metrics": metrics,
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
        }


@dataclass(frozen=True)
class RankedUsers:
    """Both rankings, and the number of test rows there are in `total`."""

    sampled: Ranking
    full: Ranking
    total: int


def rank_users(
    scorer: Scorer, dataset: Dataset, held_out: HeldOut, config: EvaluationConfig, seed: int, pool: Workers
) -> RankedUsers:
    """Rank the positives of `held_out`, which is sorted by user and not empty, with the scores of `scorer`.

    `dataset` gives the catalogue and the known items, `config` the cutoffs, tie rule and number of resamples.
    `seed` chooses the samples.
    """
    rows = held_out.take(sample(len(held_out), MOST_ROWS, seed))
    edges = np.arange(1, rows.candidates.shape[1] + 1)
    result = evaluate_sampled(scorer, rows, _rules(config, edges), pool)
    ranked = 1 + (rows.candidates != rows.candidates[:, :1]).sum(1)
    sampled = Ranking(rows, result, edges, ranked, _intervals(result, config))
    few = rows.take(sample(len(rows), max(1, MOST_SCORES // len(dataset.items)), seed))
    edges = log_edges(len(dataset.items))
    result = evaluate_full(scorer, dataset, few, _rules(config, edges), pool)
    ranked = len(dataset.items) + 1 - dataset.known.counts[few.user_rows]
    full = Ranking(few, result, edges, ranked, _intervals(result, config))
    return RankedUsers(sampled, full, len(held_out))


def log_edges(last: int) -> Ints:
    """1, 2, 5, 10, 20, 50, … and `last`."""
    steps = [digit * 10**power for power in range(len(str(last))) for digit in (1, 2, 5)]
    return np.array([*(step for step in steps if step < last), last], np.int64)


def _cutoffs(config: EvaluationConfig) -> list[int]:
    return sorted({*config.cutoffs, K})


def _rules(config: EvaluationConfig, edges: Ints) -> EvaluationConfig:
    cutoffs = tuple(sorted({*edges.tolist(), *_cutoffs(config)}))
    return config.model_copy(update={"cutoffs": cutoffs, "bootstrap": 0})


def _intervals(result: EvaluationResult, config: EvaluationConfig) -> dict[str, tuple[float, float]]:
    names = [f"{metric}@{k}" for metric in ("hr", "ndcg") for k in _cutoffs(config)] + ["mrr"]
    values = np.stack([result.values[name] for name in names])
    pairs = significance.intervals(values, config.bootstrap or 1000, users=result.user_rows)
    return {name: (float(low), float(high)) for name, (low, high) in zip(names, pairs, strict=True)}
