"""Intervals against simulation, and the paired test against doing every swap."""

import itertools

import numpy as np
import pytest

from ncf.evaluation import significance
from ncf.evaluation.significance import compare, intervals


def test_an_interval_a_metric() -> None:
    pairs = intervals(np.random.default_rng(0).random((3, 50)), 200)
    assert pairs.shape == (3, 2)
    assert (pairs[:, 0] < pairs[:, 1]).all()


@pytest.mark.parametrize("normal_from", [10, 10_000], ids=["normal", "bootstrap"])
def test_95_percent_intervals_hold_the_truth_in_95_percent(
    normal_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(significance, "_NORMAL_FROM", normal_from)
    random = np.random.default_rng(1)
    hits = (random.random((400, 300)) < 0.3).astype(float)
    pairs = np.array([intervals(row[None], 300, seed)[0] for seed, row in enumerate(hits)])
    held = ((pairs[:, 0] <= 0.3) & (pairs[:, 1] >= 0.3)).mean()
    assert 0.915 <= held <= 0.985


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


@pytest.mark.parametrize("shift", [0.0, 0.004, 0.01])
def test_the_drawn_test_agrees_with_scipy(shift: float) -> None:
    from scipy import stats

    random = np.random.default_rng(5)
    a = random.random(400).round(1)
    b = a + (random.normal(size=400) * 0.1 + shift).round(2)
    peer = stats.permutation_test(
        (b - a, np.zeros(400)), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
        vectorized=True, n_resamples=5000, batch=500, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert compare(a, b).p_value == pytest.approx(peer.pvalue, abs=0.02)


def clustered(random: np.random.Generator, users: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Hits of users with 1 to 12 rows, all alike within a user, who hit with probability .3 + shift; and whose each is."""
    rows = random.integers(1, 13, users)
    return np.repeat((random.random(users) < 0.3 + shift).astype(float), rows), np.repeat(
        np.arange(users), rows
    )


@pytest.mark.parametrize("normal_from", [10, 10_000], ids=["normal", "bootstrap"])
def test_intervals_of_rows_that_are_alike_are_over_users(
    normal_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(significance, "_NORMAL_FROM", normal_from)
    random, held, naive = np.random.default_rng(6), [], []
    for seed in range(300):
        values, users = clustered(random, 200)
        for found, whose in ((held, users), (naive, None)):
            low, high = intervals(values[None], 300, seed, whose)[0]
            found.append(low <= 0.3 <= high)
    assert 0.91 <= np.mean(held) <= 0.985
    assert np.mean(naive) < 0.75, "rows that are taken for independent ones"


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
    random = np.random.default_rng(10)
    p = []
    for seed in range(200):
        a, users = clustered(random, 60)
        b = np.repeat((random.random(60) < 0.3).astype(float), np.bincount(users))
        p.append([compare(a, b, 200, seed, whose).p_value for whose in (users, None)])
    within, naive = (np.array(p) <= 0.05).mean(axis=0)
    assert 0.01 <= within <= 0.10
    assert naive > 0.2
