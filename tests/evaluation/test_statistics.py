"""Intervals against simulation, and the paired test against doing every swap."""

import itertools

import numpy as np
import pytest

from ncf.evaluation import statistics
from ncf.evaluation.statistics import compare, intervals


def test_an_interval_a_metric() -> None:
    pairs = intervals(np.random.default_rng(0).random((3, 50)), 200)
    assert pairs.shape == (3, 2)
    assert (pairs[:, 0] < pairs[:, 1]).all()


@pytest.mark.parametrize("normal_from", [10, 10_000], ids=["normal", "bootstrap"])
def test_95_percent_intervals_hold_the_truth_in_95_percent(
    normal_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_NORMAL_FROM", normal_from)
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
