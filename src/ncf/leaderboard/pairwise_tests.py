"""Every pair of models compared on the same users, all at once.

In: `values` [M, V], a row for each model and a column for each user (the mean over seeds). Out: for each pair
the difference with its 95% interval, p of the two-sided paired permutation test of `ncf.evaluation.compare`,
and p after Holm's correction. The statistics are those of `ncf.evaluation.significance`.

Legend: M models, V users, P pairs, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ncf.evaluation.significance import holm, intervals, paired_p_values

Floats = npt.NDArray[np.float64]
RESAMPLES = 10_000
LEVEL = 0.05
_INTERVAL_RESAMPLES = 2000


@dataclass(frozen=True)
class PairwiseTest:
    """Models `a` and `b` by name: mean(a) - mean(b), its 95% interval, p of the test, and p after Holm's
    correction.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float
    p_corrected: float

    @property
    def significant(self) -> bool:
        """Whether they differ at p < .05, after the correction."""
        return self.p_corrected < LEVEL


def compare_all(
    names: Sequence[str], values_MV: Floats, resamples: int = RESAMPLES, seed: int = 0
) -> list[PairwiseTest]:
    """The tests of all pairs of `names`, in the order of `itertools.combinations`; p is corrected over them.

    `values_MV` has a row for each name and a column for each user, `resamples` is the number of draws of
    signs.
    """
    if len(names) < 2:
        return []
    first, second = np.array(list(combinations(range(len(names)), 2)), dtype=np.int64).T
    differences_PV = values_MV[first] - values_MV[second]
    ends_P2 = intervals(differences_PV, min(resamples, _INTERVAL_RESAMPLES), seed)
    p_P = paired_p_values(values_MV, first, second, resamples, seed)
    figures = np.column_stack([differences_PV.mean(1), ends_P2, p_P, holm(p_P)])
    return [
        PairwiseTest(names[a], names[b], *row)
        for a, b, row in zip(first, second, figures.tolist(), strict=True)
    ]


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b of two orders: 1 where they are the same, -1 the reverse, 0 where one of them has no
    order.
    """
    from scipy.stats import kendalltau

    tau = float(kendalltau(a, b).statistic) if len(a) > 1 else 0.0
    return 0.0 if np.isnan(tau) else tau
