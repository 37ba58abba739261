"""Confidence intervals of a mean over users, and whether two models differ on the same users."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_NORMAL_FROM = 50_000
Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same held-out rows: means, the mean difference b - a with its 95% interval, and p."""

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_value: float


def intervals(values: Floats, resamples: int, seed: int = 0, users: Rows | None = None) -> Floats:
    """95% percentile-bootstrap intervals of the means of `values` [M, T]: [M, 2].

    `users` [T] says whose each row is: users are resampled with all their rows, as rows of one user are alike; by default
    each row is one of its own. From 50,000 users on the mean is as good as normal, and mean ± 1.96 standard errors is given
    instead (of a ratio of sums, Cochran, Sampling Techniques, equation 6.13, where users have unequal numbers of rows).
    """
    means = values.mean(axis=1)
    sums, rows = _by_user(values, users)
    number = len(rows)
    if number < 2:
        return np.stack([means, means], axis=1)
    if number >= _NORMAL_FROM:
        off = sums - means[:, None] * rows
        half = 1.959964 * off.std(axis=1, ddof=1) * np.sqrt(number) / rows.sum()
        return np.stack([means - half, means + half], axis=1)
    generator = np.random.default_rng(seed)
    resampled = np.empty((resamples, len(values)))
    uniform = np.full(number, 1.0 / number)
    for start in range(0, resamples, 64):
        times_drawn = generator.multinomial(number, uniform, size=min(64, resamples - start))
        resampled[start : start + 64] = times_drawn @ sums.T / (times_drawn @ rows)[:, None]
    return np.asarray(np.quantile(resampled, [0.025, 0.975], axis=0).T)


def compare(
    a: Floats, b: Floats, resamples: int = 10_000, seed: int = 0, users: Rows | None = None
) -> Comparison:
    """Paired two-sided permutation test of mean(b) = mean(a), and the interval of the difference.

    `a` and `b` are [T], the same held-out rows in the same order. Under the null hypothesis each row's pair may be
    swapped (Edgington & Onghena, Randomization Tests; `permutation_type="samples"` in scipy.stats.permutation_test); with
    `users` [T], who each row belongs to, all pairs of a user are swapped together.
    """
    difference = b - a
    low, high = intervals(difference[None], resamples, seed, users)[0]
    moved = _by_user(difference[None], users)[0][0]
    p_value = _p_value(moved[moved != 0.0], resamples, seed)
    mean_a, mean_b, mean = (float(values.mean()) for values in (a, b, difference))
    return Comparison(mean_a, mean_b, mean, float(low), float(high), p_value)


def sums_by_user(values: Floats, users: Rows) -> tuple[Floats, Floats]:
    """[M, U] sums of `values` [M, T] over the rows of each user, ascending, and [U] how many rows these are."""
    _, place, rows = np.unique(users, return_inverse=True, return_counts=True)
    sums = np.zeros((len(values), len(rows)))
    for own, row in zip(sums, values, strict=True):
        own[:] = np.bincount(place, weights=row)
    return sums, rows.astype(np.float64)


def _by_user(values: Floats, users: Rows | None) -> tuple[Floats, Floats]:
    """The same where users have several rows; else each row is a user of its own, in the order that is given."""
    if users is not None:
        sums, rows = sums_by_user(values, users)
        if len(rows) < len(users):
            return sums, rows
    return values, np.ones(values.shape[1])


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
