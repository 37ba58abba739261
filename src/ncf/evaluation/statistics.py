"""Confidence intervals of a mean over users, and whether two models differ on the same users."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_NORMAL_FROM = 50_000
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same held-out rows: means, the mean difference b - a with its 95% interval, and p."""

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_value: float


def intervals(values: Floats, resamples: int, seed: int = 0) -> Floats:
    """95% percentile-bootstrap intervals of the means of `values` [M, T]: [M, 2].

    From 50,000 rows on the mean is as good as normal, and mean ± 1.96 standard errors is given instead.
    """
    means = values.mean(axis=1)
    if values.shape[1] < 2:
        return np.stack([means, means], axis=1)
    if values.shape[1] >= _NORMAL_FROM:
        half = 1.959964 * values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
        return np.stack([means - half, means + half], axis=1)
    generator = np.random.default_rng(seed)
    resampled = np.empty((resamples, len(values)))
    uniform = np.full(values.shape[1], 1.0 / values.shape[1])
    for start in range(0, resamples, 64):
        times_drawn = generator.multinomial(values.shape[1], uniform, size=min(64, resamples - start))
        resampled[start : start + 64] = times_drawn @ values.T / values.shape[1]
    return np.asarray(np.quantile(resampled, [0.025, 0.975], axis=0).T)


def compare(a: Floats, b: Floats, resamples: int = 10_000, seed: int = 0) -> Comparison:
    """Paired two-sided permutation test of mean(b) = mean(a), and the interval of the difference.

    `a` and `b` are [T], the same held-out rows in the same order. Under the null hypothesis each row's pair may be
    swapped (Edgington & Onghena, Randomization Tests; scipy.stats.permutation_test, type "samples").
    """
    from scipy import stats  # type: ignore[import-untyped]

    difference = b - a
    low, high = intervals(difference[None], resamples, seed)[0]
    if not difference.any():
        return Comparison(float(a.mean()), float(b.mean()), 0.0, float(low), float(high), 1.0)
    moved = difference[difference != 0.0]
    test = stats.permutation_test(
        (moved, np.zeros_like(moved)),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2**22 // len(moved)),
        rng=np.random.default_rng(seed),
    )
    return Comparison(
        float(a.mean()),
        float(b.mean()),
        float(difference.mean()),
        float(low),
        float(high),
        float(test.pvalue),
    )
