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
    swapped (Edgington & Onghena, Randomization Tests; `permutation_type="samples"` in scipy.stats.permutation_test).
    """
    difference = b - a
    low, high = intervals(difference[None], resamples, seed)[0]
    p_value = _p_value(difference[difference != 0.0], resamples, seed)
    mean_a, mean_b, mean = (float(values.mean()) for values in (a, b, difference))
    return Comparison(mean_a, mean_b, mean, float(low), float(high), p_value)


def _p_value(moved: Floats, resamples: int, seed: int) -> float:
    """How often random signs give a sum as far from zero as the one of `moved` [N]: all of them where they are few.

    Rows that moved equally far are drawn together: how many of them keep their sign is binomial. So a draw costs one
    number for each distinct distance, and not for each row.
    """
    if not len(moved):
        return 1.0
    least = abs(moved.sum()) - 1e-12 * np.abs(moved).sum()
    if 2 ** len(moved) <= resamples:
        signs = 1 - 2 * (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1)
        return float((np.abs(signs @ moved) >= least).mean())
    distances, times = np.unique(np.abs(moved), return_counts=True)
    generator, at_least = np.random.default_rng(seed), 0
    at_once = max(1, 2**22 // len(distances))
    for start in range(0, resamples, at_once):
        size = (min(at_once, resamples - start), len(distances))
        sums = (2 * generator.binomial(times, 0.5, size=size) - times) @ distances
        at_least += int((np.abs(sums) >= least).sum())
    return (at_least + 1) / (resamples + 1)
