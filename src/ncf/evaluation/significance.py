"""All statistics of ncf: intervals of means over users, and tests of whether two models differ on the same
users.

In: one value a held-out row (or user) for each metric or model. Out: intervals and p-values. The decision
worth knowing: this is NumPy only. The container evaluates a candidate without scipy, and the tests here agree
with scipy's.

Legend: M metrics or models, T held-out rows, U users, P pairs of models, R resamples.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_NORMAL_FROM = 50_000
_NUMBERS_AT_ONCE = 2**22
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
    """95% percentile-bootstrap intervals [M, 2] of the means of `values` [M, T], from this many `resamples`.

    `users` [T] names each row's user: users are resampled with all their rows, because rows of one user are
    alike. Without it each row counts as a user of its own. From 50,000 users on the mean is close enough to
    normal, and mean ± 1.96 standard errors is returned instead (where users have unequal numbers of rows, of
    a ratio of sums: Cochran, Sampling Techniques, equation 6.13).
    """
    means = values.mean(axis=1)
    sums, rows = _by_user(values, users)
    number = len(rows)
    if number < 2:
        return np.stack([means, means], axis=1)
    if number >= _NORMAL_FROM:
        residuals = sums - means[:, None] * rows
        half_width = 1.959964 * residuals.std(axis=1, ddof=1) * np.sqrt(number) / rows.sum()
        return np.stack([means - half_width, means + half_width], axis=1)
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

    `a` and `b` are [T], the same held-out rows in the same order. Under the null hypothesis each row's pair
    may be swapped (Edgington & Onghena, Randomization Tests; `permutation_type="samples"` in
    scipy.stats.permutation_test). With `users` [T], all pairs of a user are swapped together. `resamples` and
    `seed` are those of the test and of the interval.
    """
    difference = b - a
    low, high = intervals(difference[None], resamples, seed, users)[0]
    p_value = paired_p_value(a, b, resamples, seed, users)
    mean_a, mean_b, mean = (float(values.mean()) for values in (a, b, difference))
    return Comparison(mean_a, mean_b, mean, float(low), float(high), p_value)


def paired_p_value(
    a: Floats, b: Floats, resamples: int = 10_000, seed: int = 0, users: Rows | None = None
) -> float:
    """The p of `compare` without its interval, which takes most of the time."""
    moved = _by_user((b - a)[None], users)[0][0]
    return _p_value(moved[moved != 0.0], resamples, seed)


def sums_by_user(values: Floats, users: Rows) -> tuple[Floats, Floats]:
    """Sums [M, U] of `values` [M, T] over the rows of each of `users` [T], ascending, and the counts of rows
    [U].
    """
    _, indices, rows = np.unique(users, return_inverse=True, return_counts=True)
    sums = np.zeros((len(values), len(rows)))
    for own, row in zip(sums, values, strict=True):
        own[:] = np.bincount(indices, weights=row)
    return sums, rows.astype(np.float64)


def _by_user(values: Floats, users: Rows | None) -> tuple[Floats, Floats]:
    """`sums_by_user` where some user has several rows; else each row by itself, in the given order."""
    if users is not None:
        sums, rows = sums_by_user(values, users)
        if len(rows) < len(users):
            return sums, rows
    return values, np.ones(values.shape[1])


def _p_value(moved: Floats, resamples: int, seed: int) -> float:
    """The share of random signs whose sum of `moved` is as far from zero as the observed one.

    `moved` [N] are the differences that are not zero. Where 2^N is at most `resamples`, all signs are tried.
    """
    if not len(moved):
        return 1.0
    # Sums of the same numbers in another order differ in the last bits. Without this slack, signs that tie
    # with the observed ones would count as less extreme.
    least = abs(moved.sum()) - 1e-12 * np.abs(moved).sum()
    if 2 ** len(moved) <= resamples:
        # Bit n of a number from 0 to 2^N - 1 is the sign of the n-th difference.
        signs = 1 - 2 * (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved)) & 1)
        return float((np.abs(signs @ moved) >= least).mean())
    # Of n rows that moved equally far, the number that keep their sign is binomial(n, 1/2), and their sum is
    # (2 kept - n) times the distance. So a draw costs one number for each distinct distance, not for each
    # row. Hits differ by 1 only: a draw for any number of users is then one number.
    distances, times = np.unique(np.abs(moved), return_counts=True)
    generator, at_least = np.random.default_rng(seed), 0
    at_once = max(1, _NUMBERS_AT_ONCE // len(distances))
    for start in range(0, resamples, at_once):
        size = (min(at_once, resamples - start), len(distances))
        sums = (2 * generator.binomial(times, 0.5, size=size) - times) @ distances
        at_least += int((np.abs(sums) >= least).sum())
    # The observed signs count as one more draw, so p is never zero (Davison & Hinkley, equation 4.11).
    return (at_least + 1) / (resamples + 1)


def paired_p_values(values_MU: Floats, first: Rows, second: Rows, resamples: int, seed: int) -> Floats:
    """p [P] of the paired permutation test for each pair of models (`first` [P], `second` [P]: rows of
    `values_MU`).

    All pairs share the same `resamples` draws of signs: signs times a difference is the difference of signs
    times each, so a draw costs M products and not M (M - 1) / 2. Each test by itself is the one of `compare`.
    """
    generator, users = np.random.default_rng(seed), values_MU.shape[1]
    observed_P = np.abs(values_MU.sum(1)[first] - values_MU.sum(1)[second])
    least_P = observed_P - 1e-9 * np.maximum(observed_P, 1.0)  # equal sums differ by rounding
    at_least_P = np.zeros(len(first), np.int64)
    at_once = max(1, _NUMBERS_AT_ONCE // users)
    for start in range(0, resamples, at_once):
        # A random byte holds eight signs, so that drawing them costs less than the product below.
        size = (min(at_once, resamples - start), -(-users // 8))
        packed = np.frombuffer(generator.bytes(size[0] * size[1]), np.uint8).reshape(size)
        sums_RM = (2.0 * np.unpackbits(packed, axis=1)[:, :users] - 1.0) @ values_MU.T
        at_least_P += (np.abs(sums_RM[:, first] - sums_RM[:, second]) >= least_P).sum(0)
    return np.asarray((at_least_P + 1) / (resamples + 1), dtype=np.float64)


def holm(p_values: Floats) -> Floats:
    """`p_values` [P] after Holm's step-down correction (1979), bounding the chance of any false positive."""
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    rising = np.maximum.accumulate(np.minimum(1.0, p_values[order] * factors))
    corrected = np.empty_like(p_values)
    corrected[order] = rising
    return corrected
