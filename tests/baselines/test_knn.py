"""Similarities against the definition, pair by pair, and ItemKNN against the library `implicit`."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from ncf.baselines import BASELINES, knn
from ncf.baselines.base import sparse_rows
from ncf.baselines.knn import similarities
from ncf.runtime import Workers
from support import csr_of, dense_rows, planted, weighed

HISTORIES = st.lists(st.sets(st.integers(0, 7), max_size=8).map(sorted), min_size=2, max_size=9)


def by_definition(sets: list[list[int]], shrink: float) -> np.ndarray:
    """[N, N]: |common| / (sqrt(n_a n_b) + shrink), zero on the diagonal."""
    answer = np.zeros((len(sets), len(sets)))
    for a, first in enumerate(sets):
        for b, second in enumerate(sets):
            common = len(set(first) & set(second))
            if a != b and common:
                answer[a, b] = common / ((len(first) * len(second)) ** 0.5 + shrink)
    return answer


def test_similarities_are_a_sparse_float32_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "_SIMILARITIES_AT_ONCE", 1000)
    similar = similarities(sparse_rows(planted().seen_in_training, 120), 5, 1.0, Workers(1))
    assert similar.shape == (300, 300)
    assert similar.dtype == np.float32
    assert np.diff(similar.indptr).max() <= 5


def test_of_equal_neighbours_the_first_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = sparse_rows(csr_of([[0], [0, 1], [0], [2], [0], [0, 1]]), 3)
    for at_once in (knn._SIMILARITIES_AT_ONCE, 1):
        monkeypatch.setattr(knn, "_SIMILARITIES_AT_ONCE", at_once)
        similar = similarities(rows, 2, 0.0, Workers(1))
        kept = [sorted(similar.indices[similar.indptr[row] : similar.indptr[row + 1]]) for row in range(6)]
        assert kept == [[2, 4], [0, 5], [0, 4], [], [0, 2], [0, 1]]


def test_many_rows_with_little_in_common_take_memory_for_what_they_have_in_common() -> None:
    """A dense matrix of these similarities would take 360 GiB."""
    size = 300_000
    pairs = csr_matrix((np.ones(size, np.float32), (np.arange(size), np.arange(size) // 2)))
    similar = similarities(pairs, 5, 0.0, Workers(1))
    assert similar.shape == (size, size)
    np.testing.assert_array_equal(similar.indices, np.arange(size) ^ 1)


@settings(max_examples=50, deadline=None)
@given(HISTORIES, st.sampled_from([0.0, 3.0]), st.integers(1, 10))
def test_each_row_keeps_its_most_similar(sets: list[list[int]], shrink: float, kept: int) -> None:
    expected = by_definition(sets, shrink)
    similar = similarities(sparse_rows(csr_of(sets), 8), kept, shrink, Workers(1)).toarray()
    for row, all_of_row in zip(similar, expected, strict=True):
        np.testing.assert_allclose(np.sort(row)[-kept:], np.sort(all_of_row)[-kept:], rtol=1e-5)
        np.testing.assert_allclose(row[row > 0], all_of_row[row > 0], rtol=1e-5)
        assert (row > 0).sum() <= kept


@pytest.mark.parametrize("name", ["item-knn", "user-knn"])
def test_weights_are_what_rows_hold(name: str) -> None:
    train = weighed(planted(60, 60).seen_in_training)
    matrix = dense_rows(train, 60, slice(0, 60)).double().numpy()
    rows = matrix.T if name == "item-knn" else matrix
    lengths = np.sqrt((rows**2).sum(1))
    similar = rows @ rows.T / (lengths[:, None] * lengths + 2.0)
    np.fill_diagonal(similar, 0.0)
    for row in similar:
        row[np.argsort(-row)[7:]] = 0.0
    slow = matrix @ similar.T if name == "item-knn" else similar @ matrix
    model = BASELINES[name].fit(train, 60, {"neighbours": 7, "shrink": 2}, 0, Workers(1))
    np.testing.assert_allclose(model.catalogue(torch.arange(60)), slow, rtol=1e-4, atol=1e-5)


def test_item_scores_are_those_of_the_library() -> None:
    """The library counts an item among its own neighbours, so it keeps one more; what it adds by that is
    taken off.
    """
    library = pytest.importorskip("implicit.nearest_neighbours")
    train = planted().seen_in_training
    histories = sparse_rows(train, 120)
    model = library.ItemItemRecommender(K=120, num_threads=1)
    model.fit(library.normalize(histories.T).T.tocsr(), show_progress=False)
    own = model.similarity.diagonal()
    theirs = (histories @ model.similarity).toarray() - histories.toarray() * own
    ours = BASELINES["item-knn"].fit(train, 120, {"neighbours": 120, "shrink": 0}, 0, Workers(1))
    np.testing.assert_allclose(ours.catalogue(torch.arange(300)).numpy(), theirs, rtol=1e-4, atol=1e-5)


def test_users_score_what_their_neighbours_have() -> None:
    sets = [[0, 1], [0, 1, 2], [3, 4], [0, 4]]
    model = BASELINES["user-knn"].fit(csr_of(sets), 5, {"neighbours": 1, "shrink": 0}, 0, Workers(1))
    scores = model.catalogue(torch.tensor([0, 1]))
    of_pair = 2 / 6**0.5
    np.testing.assert_allclose(scores[0], np.array([1, 1, 1, 0, 0]) * of_pair, rtol=1e-6)
    np.testing.assert_allclose(scores[1], np.array([1, 1, 0, 0, 0]) * of_pair, rtol=1e-6)


def test_an_item_scores_by_its_own_neighbours() -> None:
    """Items 1 and 2 are nearest to 0, and 0 to 1: who has 0 is shown both, who has 2 is shown nothing."""
    train = csr_of([[0, 1], [0, 1], [0, 2], [0], [2]])
    model = BASELINES["item-knn"].fit(train, 3, {"neighbours": 1, "shrink": 0}, 0, Workers(1))
    scores = model.catalogue(torch.tensor([3, 4]))
    np.testing.assert_allclose(scores, [[0, 2 / 8**0.5, 1 / 8**0.5], [0, 0, 0]], rtol=1e-6)
