"""Every pair of models compared on the same users, all at once.

In: `values` [M, V], a row for each model and a column for each user (the mean over seeds). Out: for each pair
the difference with its 95% interval, p of the two-sided paired permutation test of `ncf.evaluation.compare`,
and p after Holm's correction. The decision worth knowing: one draw of signs serves all pairs, because signs
times a difference is the difference of signs times each. So a draw costs M products instead of M (M - 1) / 2,
and each test by itself is unchanged.

Legend: M models, V users, P pairs, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ncf.evaluation.significance import intervals

Floats = npt.NDArray[np.float64]
RESAMPLES = 10_000
LEVEL = 0.05
_INTERVAL_RESAMPLES = 2000
_AT_ONCE = 2**22


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
    p_P = _p_values(values_MV, first, second, resamples, seed)
    figures = np.column_stack([differences_PV.mean(1), ends_P2, p_P, holm(p_P)])
    return [
        PairwiseTest(names[a], names[b], *row)
        for a, b, row in zip(first, second, figures.tolist(), strict=True)
    ]


def _p_values(values_MV: Floats, first: np.ndarray, second: np.ndarray, resamples: int, seed: int) -> Floats:
    """[P]: how often random signs give a sum as far from zero as the observed one, which is counted too."""
    generator, users = np.random.default_rng(seed), values_MV.shape[1]
    observed_P = np.abs(values_MV.sum(1)[first] - values_MV.sum(1)[second])
    least_P = observed_P - 1e-9 * np.maximum(observed_P, 1.0)  # equal sums differ by rounding
    at_least_P = np.zeros(len(first), np.int64)
    rows = max(1, _AT_ONCE // users)
    for start in range(0, resamples, rows):
        size = (min(rows, resamples - start), -(-users // 8))
        # A random byte holds eight signs, so that drawing them costs less than the product below.
        packed = np.frombuffer(generator.bytes(size[0] * size[1]), np.uint8).reshape(size)
        signs_RV = 2.0 * np.unpackbits(packed, axis=1)[:, :users] - 1.0
        sums_RM = signs_RV @ values_MV.T
        at_least_P += (np.abs(sums_RM[:, first] - sums_RM[:, second]) >= least_P).sum(0)
    return np.asarray((at_least_P + 1) / (resamples + 1), dtype=np.float64)


def holm(p_P: Floats) -> Floats:
    """[P]: p after Holm's step-down correction (1979), which bounds the chance of any false finding by the
    level.
    """
    order = np.argsort(p_P, kind="stable")
    factors = np.arange(len(p_P), 0, -1)
    corrected = np.empty_like(p_P)
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, p_P[order] * factors))
    return corrected


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b of two orders: 1 where they are the same, -1 the reverse, 0 where one of them has no
    order.
    """
    from scipy.stats import kendalltau

    tau = float(kendalltau(a, b).statistic) if len(a) > 1 else 0.0
    return 0.0 if np.isnan(tau) else tau
