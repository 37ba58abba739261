"""From the rank of the held-out positive in its candidate list to hit ratio, NDCG, MRR and recall.

In: how many other candidates score above the positive, and how many tie with it. Out: one value a held-out
row. Averaging is left to the caller, who may also need sums over users.

The decision worth knowing is the tie rule. Under `expected` a metric is its mean over every order of the tied
candidates: a constant scorer over 1 + 99 candidates gets HR@10 = .10, what guessing gets. `pessimistic` puts
the positive behind all its ties and `optimistic` before them (a constant scorer then gets 0 and 1).

Legend: T held-out rows, C candidates.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ncf.evaluation.significance import sums_by_user

Ties = Literal["expected", "pessimistic", "optimistic"]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def above_and_tied(scores_TC: Tensor, candidates_TC: Tensor) -> tuple[Tensor, Tensor]:
    """[T] each: how many candidates score higher than the positive in column 0, and how many score the same.

    `scores_TC` must not hold NaN. A candidate that is the positive itself does not count.
    """
    others_TC = candidates_TC != candidates_TC[:, :1]
    above_T = (scores_TC > scores_TC[:, :1]).logical_and_(others_TC).sum(1)
    tied_T = (scores_TC == scores_TC[:, :1]).logical_and_(others_TC).sum(1)
    return above_T, tied_T


@dataclass(frozen=True)
class TiedRanks:
    """The rank of each positive: `above` [T] others score higher, `tied` [T] others score the same."""

    above: Counts
    tied: Counts

    @classmethod
    def of_scores(cls, scores_TC: Tensor, candidates_TC: Tensor) -> "TiedRanks":
        """From the scores of `candidates_TC`, where the positive is in column 0.

        NaN ranks below every number; where the positive's score is NaN it ties with all others that are NaN.
        """
        scores_TC = scores_TC.float()
        # One sum is cheaper than asking every score. Infinities of both signs make it NaN too.
        if bool(scores_TC.sum().isnan()):
            scores_TC = torch.nan_to_num(scores_TC, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        above_T, tied_T = above_and_tied(scores_TC, candidates_TC)
        return cls(above_T.cpu().numpy(), tied_T.cpu().numpy())

    def resolve_ties(self, ties: Ties) -> "TiedRanks":
        """The ranks with ties decided by the rule `ties`; under `expected` they stay open."""
        if ties == "expected":
            return self
        above = self.above + self.tied if ties == "pessimistic" else self.above
        return TiedRanks(above, np.zeros_like(self.tied))

    def resolve_ties_of_users(self, ties: Ties, user_rows: npt.NDArray[np.integer[Any]]) -> "TiedRanks":
        """As `resolve_ties`, for positives of which those of one user (`user_rows` [T]) are in one list.

        Those that tie with each other share their positions, whose order no sum over them depends on.
        """
        if ties == "expected":
            return self
        key = np.stack([user_rows, self.above], axis=1)
        _, group, sizes = np.unique(key, axis=0, return_inverse=True, return_counts=True)
        others = np.minimum(sizes[group] - 1, self.tied)
        return TiedRanks(self.above + (self.tied - others if ties == "pessimistic" else 0), others)

    def __len__(self) -> int:
        return len(self.above)


def rank(ranks: TiedRanks) -> Floats:
    """[T]: 1 + others above + half of the ties, the expected position in the list."""
    return 1.0 + ranks.above + ranks.tied / 2.0


def hit_ratio(ranks: TiedRanks, k: int) -> Floats:
    """[T]: the probability that the positive is among the first `k` (1 or 0 where nothing ties)."""
    return _mean_over_positions(ranks, np.ones(k))


def ndcg(ranks: TiedRanks, k: int) -> Floats:
    """[T]: 1 / log2(1 + position) within the first `k`, else 0; the ideal gain of one positive is 1."""
    return _mean_over_positions(ranks, 1.0 / np.log2(np.arange(2, k + 2)))


def reciprocal_rank(ranks: TiedRanks) -> Floats:
    """[T]: 1 / position, over the whole list."""
    longest = int((ranks.above + ranks.tied).max(initial=0)) + 1
    return _mean_over_positions(ranks, 1.0 / np.arange(1, longest + 1))


def recall(ranks: TiedRanks, k: int, user_rows: npt.NDArray[np.integer[Any]]) -> Floats:
    """One value a user: the share of the user's held-out positives among the first `k`.

    `user_rows` [T] names the user of each row. With one positive a user (leave-one-out) this is the hit
    ratio.
    """
    hits, rows = sums_by_user(hit_ratio(ranks, k)[None], user_rows)
    return np.asarray(hits[0] / rows)


def ndcg_of_users(ranks: TiedRanks, k: int, user_rows: npt.NDArray[np.integer[Any]]) -> Floats:
    """One value a user: the gains of all its positives, over those of the best order of min(k, n) of n."""
    gains, rows = sums_by_user(ndcg(ranks, k)[None], user_rows)
    ideal = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))
    return np.asarray(gains[0] / ideal[np.minimum(rows.astype(np.int64), k) - 1])


def _mean_over_positions(ranks: TiedRanks, gains: Floats) -> Floats:
    """[T]: the mean of `gains` over the equally likely positions above + 1 ... above + tied + 1."""
    # A difference of prefix sums; positions beyond the last gain add nothing.
    total = np.concatenate([[0.0], np.cumsum(gains)])
    first = np.minimum(ranks.above, len(gains))
    behind = np.minimum(ranks.above + ranks.tied + 1, len(gains))
    return np.asarray((total[behind] - total[first]) / (ranks.tied + 1), dtype=np.float64)
