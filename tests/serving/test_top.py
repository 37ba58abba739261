"""The best k in a fixed order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ncf.serving.top import best


def rows_of(scores: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)


def test_shapes_and_types() -> None:
    random = np.random.default_rng(0).normal(size=(3, 27)).astype(np.float32)
    scores, rows = best(random, rows_of(random), 4)
    assert scores.shape == rows.shape == (3, 4)
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    for shape, k, width in (((3, 7), 99, 7), ((3, 0), 5, 0), ((0, 7), 2, 2)):
        empty = np.zeros(shape, np.float32)
        assert best(empty, rows_of(empty), k)[1].shape == (shape[0], width)


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=9, max_size=9), min_size=1, max_size=4), st.integers(1, 10)
)
def test_equals_sorting_by_score_and_then_by_row(table: list[list[int]], k: int) -> None:
    scores = np.array(table, np.float32)
    scores[scores == -2] = -np.inf
    top, rows = best(scores, rows_of(scores), k)
    for one, expected_top, expected_rows in zip(scores.tolist(), top.tolist(), rows.tolist(), strict=True):
        order = sorted(range(9), key=lambda row: (-one[row], row))[:k]
        assert expected_rows == order
        assert expected_top == [one[row] for row in order]


@given(st.permutations(range(12)), st.integers(1, 12))
def test_the_order_of_what_is_given_does_not_matter(order: list[int], k: int) -> None:
    scores = np.array([[1, 1, 0, 2, 2, 2, 1, 0, 0, 3, 1, 1]], np.float32)
    shuffled = best(scores[:, order], np.array([order]), k)
    for given_order, expected in zip(shuffled, best(scores, rows_of(scores), k), strict=True):
        np.testing.assert_array_equal(given_order, expected)
