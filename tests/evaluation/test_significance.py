"""Intervals over users against simulation, and the paired test against doing every swap."""

import itertools

import numpy as np
import pytest

from ncf.evaluation import significance
from ncf.evaluation.significance import compare, intervals


def test_an_interval_a_metric() -> None:
    pairs = intervals(np.random.default_rng(0).random((3, 50)), 200)
    assert pairs.shape == (3, 2)
    assert (pairs[:, 0] < pairs[:, 1]).all()


def test_one_row_has_no_width() -> None:
    assert intervals(np.array([[0.25]]), 100).tolist() == [[0.25, 0.25]]


def test_the_paired_test_is_the_share_of_swaps_that_differ_as_much() -> None:
    random = np.random.default_rng(2)
    a, b = random.random(9), random.random(9) + 0.2
    difference = b - a
    swaps = np.array([np.mean(difference * signs) for signs in itertools.product([1, -1], repeat=9)])
    exact = float((np.abs(swaps) >= abs(difference.mean()) - 1e-12).mean())
    result = compare(a, b)
    assert result.p_value == pytest.approx(exact, abs=0.02)
    assert result.difference == pytest.approx(difference.mean())
    assert result.low < result.difference < result.high


def test_equal_models_do_not_differ() -> None:
    a = np.random.default_rng(3).random(40)
    assert (compare(a, a).difference, compare(a, a).p_value) == (0.0, 1.0)


def test_p_is_uniform_where_nothing_differs() -> None:
    random = np.random.default_rng(4)
    values = [
        compare(*(random.random((2, 60)) < 0.4).astype(float), resamples=200, seed=n).p_value
        for n in range(200)
    ]
    assert 0.01 <= np.mean(np.array(values) <= 0.05) <= 0.10


def clustered(random: np.random.Generator, experiments: int, users: int) -> tuple[np.ndarray, np.ndarray]:
    """Hits [experiments, T] (probability .3, alike within a user) of users with 1 to 12 rows; users [T]."""
    rows = random.integers(1, 13, users)
    hits = (random.random((experiments, users)) < 0.3).astype(float)
    return np.repeat(hits, rows, axis=1), np.repeat(np.arange(users), rows)


@pytest.mark.parametrize("normal_from", [10, 10_000], ids=["normal", "bootstrap"])
def test_intervals_of_rows_that_are_alike_are_over_users(
    normal_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(significance, "_NORMAL_FROM", normal_from)
    values, users = clustered(np.random.default_rng(6), 400, 200)
    over_users, over_rows = (intervals(values, 300, 0, user_rows).T for user_rows in (users, None))
    assert 0.91 <= np.mean((over_users[0] <= 0.3) & (over_users[1] >= 0.3)) <= 0.985
    naive = np.mean((over_rows[0] <= 0.3) & (over_rows[1] >= 0.3))
    assert naive < 0.75, "rows that are taken for independent ones"


def test_one_row_a_user_is_no_other_case() -> None:
    values = np.random.default_rng(7).random((2, 80))
    users = np.random.default_rng(8).permutation(80)
    assert np.array_equal(intervals(values, 200, 0, users), intervals(values, 200))
    assert compare(*values, users=users) == compare(*values)


def test_all_pairs_of_a_user_are_swapped_together() -> None:
    random = np.random.default_rng(9)
    users = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 5, 6, 7])
    a, b = random.random(12), random.random(12) + 0.1
    swaps = [np.mean((b - a) * np.array(signs)[users]) for signs in itertools.product([1, -1], repeat=8)]
    exact = float((np.abs(swaps) >= abs((b - a).mean()) - 1e-12).mean())
    assert compare(a, b, users=users).p_value == pytest.approx(exact)


def test_p_is_uniform_over_users_whose_rows_are_alike() -> None:
    values, users = clustered(np.random.default_rng(10), 400, 60)
    p_values = [
        [compare(a, b, 200, seed, user_rows).p_value for user_rows in (users, None)]
        for seed, (a, b) in enumerate(zip(values[::2], values[1::2], strict=True))
    ]
    within, naive = (np.array(p_values) <= 0.05).mean(axis=0)
    assert 0.01 <= within <= 0.10
    assert naive > 0.2
