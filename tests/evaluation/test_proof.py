"""Metrics against scikit-learn and by hand, intervals by simulation, the paired test against scipy.

Each peer is named beside its check. ranx is not a dependency (it compiles at import), so scikit-learn is the
independent implementation.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score, top_k_accuracy_score

from ncf.evaluation import metrics, ranking, significance
from ncf.evaluation.metrics import TiedRanks
from ncf.evaluation.significance import compare, intervals

ROWS, CANDIDATES = 150, 100


def lists(ties: bool) -> tuple[np.ndarray, TiedRanks]:
    """Scores [T, C] with the positive in column 0, a little better than chance; rounded so that they tie, or
    not.
    """
    random = np.random.default_rng(6)
    scores = random.normal(size=(ROWS, CANDIDATES))
    scores[:, 0] += 1.0
    scores = scores.round(1) if ties else scores.astype(np.float32).astype(np.float64)
    if not ties:
        assert all(len(np.unique(row)) == CANDIDATES for row in scores)
    candidates = np.tile(np.arange(CANDIDATES), (ROWS, 1))
    return scores, TiedRanks.of_scores(torch.from_numpy(scores), torch.from_numpy(candidates))


def relevance() -> np.ndarray:
    truth = np.zeros((1, CANDIDATES))
    truth[0, 0] = 1.0
    return truth


@pytest.mark.parametrize(("k", "ties"), [(1, True), (10, False), (10, True), (100, True)])
def test_ndcg_is_that_of_scikit_learn(k: int, ties: bool) -> None:
    """sklearn.metrics.ndcg_score averages over ties like the rule `expected` (McSherry & Najork, ECIR'08)."""
    scores, ranks = lists(ties)
    peer = [ndcg_score(relevance(), row[None], k=k, ignore_ties=False) for row in scores]
    np.testing.assert_allclose(metrics.ndcg(ranks, k), peer, atol=1e-12)


@pytest.mark.parametrize("k", [1, 5, 10, 20, 99])
def test_hit_ratio_is_top_k_accuracy_of_scikit_learn(k: int) -> None:
    """sklearn.metrics.top_k_accuracy_score with the positive as the true class of every row."""
    scores, ranks = lists(ties=False)
    peer = top_k_accuracy_score(np.zeros(ROWS, int), scores, k=k, labels=np.arange(CANDIDATES))
    assert metrics.hit_ratio(ranks, k).mean() == pytest.approx(peer)


def test_mrr_is_label_ranking_average_precision_of_scikit_learn() -> None:
    """With one relevant label, label_ranking_average_precision_score is the mean of 1 / rank."""
    scores, ranks = lists(ties=False)
    peer = label_ranking_average_precision_score(np.repeat(relevance(), ROWS, axis=0), scores)
    assert metrics.reciprocal_rank(ranks).mean() == pytest.approx(peer)


@pytest.mark.parametrize(
    ("above", "tied", "hr3", "ndcg3", "reciprocal"),
    [
        (0, 0, 1.0, 1.0, 1.0),
        (1, 0, 1.0, 1 / math.log2(3), 1 / 2),
        (2, 0, 1.0, 1 / 2, 1 / 3),
        (3, 0, 0.0, 0.0, 1 / 4),
        (2, 1, 1 / 2, 1 / 4, (1 / 3 + 1 / 4) / 2),
        (0, 3, 3 / 4, (1 + 1 / math.log2(3) + 1 / 2) / 4, (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4),
        (7, 2, 0.0, 0.0, (1 / 8 + 1 / 9 + 1 / 10) / 3),
    ],
)
def test_by_hand(above: int, tied: int, hr3: float, ndcg3: float, reciprocal: float) -> None:
    ranks = TiedRanks(np.array([above]), np.array([tied]))
    assert metrics.hit_ratio(ranks, 3)[0] == pytest.approx(hr3)
    assert metrics.ndcg(ranks, 3)[0] == pytest.approx(ndcg3)
    assert metrics.reciprocal_rank(ranks)[0] == pytest.approx(reciprocal)


def test_coverage_and_popularity_bias_by_hand() -> None:
    """Items used 6, 3, 1, 0 times; the first is shown twice and the third once."""
    figures = ranking.catalogue_figures(np.array([2, 0, 1, 0]), np.array([6, 3, 1, 0]), 10)
    assert figures["coverage@10"] == pytest.approx(2 / 4)
    assert figures["popularity_bias@10"] == pytest.approx(((6 + 6 + 1) / 3) / ((36 + 9 + 1) / 10))


def drawn(of: str, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Values of so many experiments and users, and their true mean: hits, or NDCG of a rank."""
    random = np.random.default_rng(8)
    if of == "hits":
        return (random.random(size) < 0.3).astype(np.float64), 0.3
    chances = 1 / np.arange(1, 31) / (1 / np.arange(1, 31)).sum()
    gains = np.where(np.arange(30) < 10, 1 / np.log2(np.arange(2, 32)), 0.0)
    return gains[random.choice(30, size, p=chances)], float(chances @ gains)


@pytest.mark.parametrize("of", ["hits", "ndcg"])
@pytest.mark.parametrize("users", [300, 1000])
def test_95_percent_intervals_cover_95_percent_within_two_points(of: str, users: int) -> None:
    """2,000 experiments, whose share has a standard error of half a point. All of them are rows of one call,
    so they share the draws of the bootstrap, which are independent of the values.
    """
    values, truth = drawn(of, (2000, users))
    pairs = intervals(values, 1000)
    covered = ((pairs[:, 0] <= truth) & (truth <= pairs[:, 1])).mean()
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("of", ["hits", "ndcg"])
def test_normal_intervals_cover_as_well(of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given from 50,000 rows on, tried where simulation is cheap."""
    monkeypatch.setattr(significance, "_NORMAL_FROM", 2)
    values, truth = drawn(of, (4000, 400))
    pairs = intervals(values, 0)
    assert 0.93 <= ((pairs[:, 0] <= truth) & (truth <= pairs[:, 1])).mean() <= 0.97


def test_intervals_of_differences_cover_as_well() -> None:
    """`compare` gives the interval of paired differences: users whose taste helps both models, one of them
    better by .05.
    """
    random = np.random.default_rng(9)
    easy = random.random((2000, 400))
    a, b = (random.random((2, 2000, 400)) < np.stack([easy * 0.5, easy * 0.5 + 0.05])).astype(np.float64)
    pairs = intervals(b - a, 1000)
    assert 0.93 <= ((pairs[:, 0] <= 0.05) & (pairs[:, 1] >= 0.05)).mean() <= 0.97


@pytest.mark.parametrize(("kind", "shift"), [("hits", 0.02), ("gains", 0.0), ("gains", 0.05)])
def test_the_paired_test_is_that_of_scipy(kind: str, shift: float) -> None:
    """scipy.stats.permutation_test with permutation_type="samples"; both draw 10,000 swaps: standard errors
    up to .005.
    """
    random = np.random.default_rng(10)
    easy = random.random(500)
    a, b = (random.random((2, 500)) < np.stack([easy, np.minimum(easy + shift, 1)])).astype(np.float64)
    if kind == "gains":
        a, b = a / np.log2(2 + random.integers(0, 9, 500)), b / np.log2(2 + random.integers(0, 9, 500))
    peer = stats.permutation_test(
        (a, b), lambda x, y, axis: (y - x).mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=9_999, batch=500, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert compare(a, b).p_value == pytest.approx(peer.pvalue, abs=0.025)


def test_a_small_paired_test_is_exactly_that_of_scipy() -> None:
    """Both do all 2^10 swaps."""
    random = np.random.default_rng(11)
    a, b = random.random(10), random.random(10) + 0.15
    peer = stats.permutation_test(
        (a, b), lambda x, y: np.mean(y) - np.mean(x), permutation_type="samples", vectorized=False
    )
    assert compare(a, b).p_value == pytest.approx(peer.pvalue, abs=1e-12)
