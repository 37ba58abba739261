"""From the standing of the held-out positive in its candidate list to hit ratio, NDCG, MRR and recall.

In: how many other candidates score above the positive, and how many tie with it. Out: one value a held-out row, to be
averaged by whoever needs to (sums and counts are divided once).

The decision worth knowing is the tie rule. Under `expected` a metric is its mean over every order of the tied
candidates: a constant scorer over 1 + 99 candidates gets HR@10 = .10, what guessing gets. `pessimistic` puts the
positive behind all its ties and `optimistic` before them (a constant scorer then gets 0 and 1).

Legend: T held-out rows, C candidates.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ncf.evaluation.significance import sums_by_user

Ties = Literal["expected", "pessimistic", "optimistic"]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def above_and_tied(scores_TC: Tensor, candidates_TC: Tensor) -> tuple[Tensor, Tensor]:
    """[T] each: how many others score higher than the positive in column 0, and how many the same. Scores are numbers."""
    others_TC = candidates_TC != candidates_TC[:, :1]
    above_T = (scores_TC > scores_TC[:, :1]).logical_and_(others_TC).sum(1)
    tied_T = (scores_TC == scores_TC[:, :1]).logical_and_(others_TC).sum(1)
    return above_T, tied_T


@dataclass(frozen=True)
class TiedRanks:
    """Where each positive stands: `above` [T] others score higher, `tied` [T] others score the same."""

    above: Counts
    tied: Counts

    @classmethod
    def of_scores(cls, scores_TC: Tensor, candidates_TC: Tensor) -> "TiedRanks":
        """The positive is in column 0; a candidate that is the positive itself does not count as another.

        A score that is not a number stands behind every number, and as a positive's score ties with all others.
        """
        scores_TC = scores_TC.float()
        if bool(
            scores_TC.sum().isnan()
        ):  # cheaper than asking every score; also of infinities, which are kept
            scores_TC = torch.nan_to_num(scores_TC, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        above_T, tied_T = above_and_tied(scores_TC, candidates_TC)
        return cls(above_T.cpu().numpy(), tied_T.cpu().numpy())

    def resolve_ties(self, ties: Ties) -> "TiedRanks":
        """The same standing with the ties decided; under `expected` they stay open."""
        if ties == "expected":
            return self
        above = self.above + self.tied if ties == "pessimistic" else self.above
        return TiedRanks(above, np.zeros_like(self.tied))

    def __len__(self) -> int:
        return len(self.above)


def rank(standing: TiedRanks) -> Floats:
    """[T]: 1 + others above + half of the ties, the expected place in the list."""
    return 1.0 + standing.above + standing.tied / 2.0


def hit_ratio(standing: TiedRanks, k: int) -> Floats:
    """[T]: the chance that the positive is among the first k (1 or 0 where nothing ties)."""
    return _mean_over_places(standing, np.ones(k))


def ndcg(standing: TiedRanks, k: int) -> Floats:
    """[T]: 1 / log2(1 + place) within the first k, else 0; the ideal gain of one positive is 1."""
    return _mean_over_places(standing, 1.0 / np.log2(np.arange(2, k + 2)))


def reciprocal_rank(standing: TiedRanks) -> Floats:
    """[T]: 1 / place, over the whole list."""
    longest = int((standing.above + standing.tied).max(initial=0)) + 1
    return _mean_over_places(standing, 1.0 / np.arange(1, longest + 1))


def recall(standing: TiedRanks, k: int, user_rows: npt.NDArray[np.int32]) -> Floats:
    """One value a user: the share of the user's held-out positives among the first k.

    With one positive a user (leave-one-out) this is the hit ratio.
    """
    hits, rows = sums_by_user(hit_ratio(standing, k)[None], user_rows)
    return np.asarray(hits[0] / rows)


def _mean_over_places(standing: TiedRanks, gains: Floats) -> Floats:
    """[T]: the mean of `gains` over the places above + 1 ... above + tied + 1, which are equally likely."""
    total = np.concatenate([[0.0], np.cumsum(gains)])
    first = np.minimum(standing.above, len(gains))
    behind = np.minimum(standing.above + standing.tied + 1, len(gains))
    return np.asarray((total[behind] - total[first]) / (standing.tied + 1), dtype=np.float64)
