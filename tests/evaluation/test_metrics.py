"""Metrics against counting by hand, and the tie rules."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf.evaluation import metrics
from ncf.evaluation.metrics import TiedRanks


def ranks_of(scores: list[list[float]], candidates: list[list[int]] | None = None) -> TiedRanks:
    rows = candidates or [list(range(len(row))) for row in scores]
    return TiedRanks.of_scores(torch.tensor(scores), torch.tensor(rows))


def slow(scores: list[float], gain_at: dict[int, float]) -> float:
    """The mean gain of the positive (first) over every order that sorts the scores."""
    gains = []
    for order in itertools.permutations(range(len(scores))):
        ranked = [scores[place] for place in order]
        if ranked == sorted(scores, reverse=True):
            gains.append(gain_at.get(order.index(0) + 1, 0.0))
    return sum(gains) / len(gains)


def test_one_value_a_row_in_float64() -> None:
    ranks = ranks_of([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0]])
    for values in (
        metrics.hit_ratio(ranks, 1),
        metrics.ndcg(ranks, 2),
        metrics.reciprocal_rank(ranks),
        metrics.rank(ranks),
    ):
        assert values.shape == (2,)
        assert values.dtype == np.float64


@given(st.lists(st.integers(0, 3).map(float), min_size=2, max_size=6), st.integers(1, 6))
def test_equals_the_mean_over_all_orders(scores: list[float], k: int) -> None:
    ranks = ranks_of([scores])
    places = range(1, len(scores) + 1)
    assert metrics.hit_ratio(ranks, k)[0] == pytest.approx(slow(scores, {p: 1.0 for p in places if p <= k}))
    assert metrics.ndcg(ranks, k)[0] == pytest.approx(
        slow(scores, {p: 1 / math.log2(1 + p) for p in places if p <= k})
    )
    assert metrics.reciprocal_rank(ranks)[0] == pytest.approx(slow(scores, {p: 1 / p for p in places}))
    assert metrics.rank(ranks)[0] == pytest.approx(slow(scores, {p: float(p) for p in places}))


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), st.integers(1, 25))
def test_tie_rules_are_ordered_and_within_zero_and_one(scores: list[float], k: int) -> None:
    ranks = ranks_of([scores])
    for metric in (metrics.hit_ratio, metrics.ndcg):
        low, middle, high = (
            float(metric(ranks.resolve_ties(ties), k)[0])
            for ties in ("pessimistic", "expected", "optimistic")
        )  # type: ignore[arg-type]
        assert 0.0 <= low <= middle + 1e-12
        assert middle <= high + 1e-12
        assert high <= 1.0


@pytest.mark.parametrize(("ties", "hit"), [("expected", 0.10), ("pessimistic", 0.0), ("optimistic", 1.0)])
def test_a_constant_scorer_gets_what_guessing_gets(ties: metrics.Ties, hit: float) -> None:
    ranks = ranks_of([[0.5] * 100] * 3).resolve_ties(ties)
    np.testing.assert_allclose(metrics.hit_ratio(ranks, 10), hit)


def test_candidates_that_are_the_positive_are_not_others() -> None:
    ranks = ranks_of([[1.0, 1.0, 2.0, 0.0]], [[7, 7, 3, 4]])
    assert (ranks.above.tolist(), ranks.tied.tolist()) == ([1], [0])
    assert metrics.rank(ranks).tolist() == [2.0]


def test_nan_ranks_last() -> None:
    ranks = ranks_of([[math.nan, 1.0, 0.0], [0.0, math.nan, -1.0], [math.nan, math.nan, math.nan]])
    assert ranks.above.tolist() == [2, 0, 0]
    assert ranks.tied.tolist() == [0, 0, 2]


def test_near_ties_of_bfloat16_are_not_ties_of_float32() -> None:
    close = [[1.0, 1.0 + 2**-20]]
    assert ranks_of(close).tied.tolist() == [0]
    assert torch.tensor(close).bfloat16().float().unique().numel() == 1


def test_recall_is_a_share_of_each_users_positives() -> None:
    ranks = ranks_of([[3.0, 0.0], [0.0, 3.0], [3.0, 0.0]])
    np.testing.assert_allclose(metrics.recall(ranks, 1, np.array([5, 5, 2], dtype=np.int32)), [1.0, 0.5])


def test_no_rows_give_no_values() -> None:
    ranks = TiedRanks(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert metrics.hit_ratio(ranks, 10).shape == (0,)
    assert metrics.reciprocal_rank(ranks).shape == (0,)
