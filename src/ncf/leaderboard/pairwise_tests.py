"""Every pair of contenders compared on the same users, all at once.

In: `values` [M, V], one row a contender, one column a user (the mean over seeds). Out: for each pair the difference with
its 95% interval and p, the two-sided paired permutation test of `ncf.evaluation.compare`, and Holm's correction of it.
The decision worth knowing: one draw of signs serves all pairs, since signs times a difference is the difference of signs
times each; so a draw costs M products and not M (M - 1) / 2. Each test by itself is the same test as before.

Legend: M contenders, V users, P pairs, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
RESAMPLES = 10_000
LEVEL = 0.05
_AT_ONCE = 2**22


@dataclass(frozen=True)
class PairwiseTest:
    """Contenders `a` and `b` by name: mean(a) - mean(b), its 95% interval, p of the test and p after Holm's correction."""

    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float
    corrected: float

    @property
    def significant(self) -> bool:
        """Whether they differ at p < .05, after the correction."""
        return self.corrected < LEVEL


def compare_all(
    names: Sequence[str], values_MV: Floats, resamples: int = RESAMPLES, seed: int = 0
) -> list[PairwiseTest]:
    """All pairs, in the order of `itertools.combinations`; p is corrected over them."""
    first, second = _indices(len(names))
    if not len(first):
        return []
    difference_P = values_MV.mean(1)[first] - values_MV.mean(1)[second]
    p_P = _p_values(values_MV, first, second, resamples, seed)
    low_P, high_P = _intervals(values_MV, first, second, resamples, seed)
    corrected_P = holm(p_P)
    return [
        PairwiseTest(names[a], names[b], *map(float, figures))
        for a, b, *figures in zip(first, second, difference_P, low_P, high_P, p_P, corrected_P, strict=True)
    ]


def _indices(entries: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    pairs = np.array(list(combinations(range(entries), 2)), dtype=np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _p_values(values_MV: Floats, first: np.ndarray, second: np.ndarray, resamples: int, seed: int) -> Floats:
    """[P]: how often random signs give a sum as far from zero as the one seen, that one counted."""
    generator, users = np.random.default_rng(seed), values_MV.shape[1]
    seen_P = np.abs(values_MV.sum(1)[first] - values_MV.sum(1)[second])
    least_P = seen_P - 1e-9 * np.maximum(seen_P, 1.0)
    at_least_P = np.zeros(len(first), np.int64)
    rows = max(1, _AT_ONCE // users)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        bits = np.unpackbits(
            np.frombuffer(generator.bytes(size * (-(-users // 8))), np.uint8).reshape(size, -1), axis=1
        )
        sums_RM = (2.0 * bits[:, :users] - 1.0) @ values_MV.T
        at_least_P += (np.abs(sums_RM[:, first] - sums_RM[:, second]) >= least_P).sum(0)
    return np.asarray((at_least_P + 1) / (resamples + 1), dtype=np.float64)


def _intervals(
    values_MV: Floats, first: np.ndarray, second: np.ndarray, resamples: int, seed: int
) -> tuple[Floats, Floats]:
    """[P] twice: the 2.5% and 97.5% points of the mean difference over resampled users."""
    generator, users = np.random.default_rng(seed), values_MV.shape[1]
    resamples = min(resamples, 2000)
    means_RM = np.empty((resamples, len(values_MV)))
    rows = max(1, _AT_ONCE // users)
    for start in range(0, resamples, rows):
        drawn = generator.integers(0, users, (min(rows, resamples - start), users))
        times = np.stack([np.bincount(row, minlength=users) for row in drawn]).astype(np.float64)
        means_RM[start : start + rows] = times @ values_MV.T / users
    low, high = np.quantile(means_RM[:, first] - means_RM[:, second], [0.025, 0.975], axis=0)
    return low, high


def holm(p_P: Floats) -> Floats:
    """[P]: Holm's step-down correction (1979): the chance of any false finding among all is at most the level."""
    order = np.argsort(p_P, kind="stable")
    factors = np.arange(len(p_P), 0, -1)
    rising = np.maximum.accumulate(np.minimum(1.0, p_P[order] * factors))
    corrected = np.empty_like(p_P)
    corrected[order] = rising
    return corrected


def kendall(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b of two orders: 1 the same, -1 the reverse; 0 where one of them has no order."""
    x, y = (np.sign(np.subtract.outer(np.asarray(one, float), np.asarray(one, float))) for one in (a, b))
    scale = np.sqrt(float((x**2).sum()) * float((y**2).sum()))
    return float((x * y).sum() / scale) if scale else 0.0
