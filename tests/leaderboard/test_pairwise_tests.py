"""All pairs at once against one pair after the other, corrections, and agreement of orders."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ncf.evaluation import compare
from ncf.evaluation.significance import holm
from ncf.leaderboard.pairwise_tests import compare_all, kendall


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """[4, 200]: hits of four models, two of them alike."""
    random = np.random.default_rng(0)
    hits = (random.random((4, 200)) < np.array([0.6, 0.6, 0.5, 0.3])[:, None]).astype(float)
    hits[1] = np.where(random.random(200) < 0.95, hits[0], hits[1])
    return hits


def test_every_pair_comes_once_with_its_difference(values: np.ndarray) -> None:
    pairs = compare_all(list("abcd"), values)
    assert [(pair.a, pair.b) for pair in pairs] == list(combinations("abcd", 2))
    assert all(type(pair.p_value) is float for pair in pairs)
    assert pairs[0].difference == pytest.approx(values[0].mean() - values[1].mean())


def test_a_pair_has_the_p_and_the_interval_that_the_comparison_of_two_has(values: np.ndarray) -> None:
    for pair in compare_all(list("abcd"), values):
        alone = compare(values["abcd".index(pair.b)], values["abcd".index(pair.a)])
        assert pair.p_value == pytest.approx(alone.p_value, abs=0.015)
        assert (pair.low, pair.high) == pytest.approx((alone.low, alone.high), abs=0.012)


def test_values_that_are_the_same_do_not_differ() -> None:
    pair, *_ = compare_all(["a", "b"], np.ones((2, 30)) * 0.1)
    assert (pair.difference, pair.p_value, pair.significant) == (0.0, 1.0, False)
    assert compare_all(["a"], np.ones((1, 30))) == []
    assert compare_all([], np.zeros((0, 30))) == []


def test_a_true_null_hypothesis_is_rejected_as_often_as_the_level_says() -> None:
    random = np.random.default_rng(1)
    found = [
        compare_all(["a", "b"], random.normal(size=(2, 60)), 200, seed)[0].p_value for seed in range(400)
    ]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.03)


def test_holm_multiplies_the_smallest_most_and_never_falls() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.5])).tolist() == [1.0, 1.0]


@given(arrays(float, st.integers(1, 12), elements=st.floats(0, 1)))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p: np.ndarray) -> None:
    corrected = holm(p)
    assert (corrected >= p).all()
    assert (corrected <= np.minimum(1.0, p * len(p)) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(p, kind="stable")]) >= 0).all()


def test_kendalls_tau_b_of_known_orders() -> None:
    order = [1, 2, 3, 4]
    assert (kendall(order, order), kendall(order, order[::-1])) == pytest.approx((1.0, -1.0))
    assert kendall([1, 1, 2, 3], order) == pytest.approx(5 / np.sqrt(5 * 6)), "ties count half"
    assert (kendall([1, 1, 1, 1], order), kendall([1], [1])) == (0.0, 0.0), "there is no order"
