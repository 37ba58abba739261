"""The same interactions in three forms."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ncf.baselines.base import spans_by_cost, sparse_rows, users_by_item
from support import csr_of, dataset_of, dense_rows, planted


def test_dense_rows_are_the_interactions() -> None:
    rows = dense_rows(dataset_of([(0, 1), (2, 0), (2, 2)], 3, 3).seen_in_training, 3, slice(1, 3))
    assert rows.tolist() == [[0, 0, 0], [1, 0, 1]]


def test_sparse_rows_are_the_dense_ones() -> None:
    train = planted().seen_in_training
    sparse = sparse_rows(train, 120)
    assert (sparse.shape, sparse.dtype) == ((300, 120), np.float32)
    np.testing.assert_array_equal(sparse.toarray(), dense_rows(train, 120, slice(0, 300)).numpy())


def test_users_by_item_is_the_transpose() -> None:
    turned = users_by_item(csr_of([[0, 2], [], [2, 3]]), 5)
    assert [turned.row(item).tolist() for item in range(5)] == [[0], [], [0, 2], [2], []]
    assert (turned.offsets.dtype, turned.columns.dtype) == (np.int64, np.int32)
    again = users_by_item(turned, 3)
    assert [again.row(user).tolist() for user in range(3)] == [[0, 2], [], [2, 3]]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 40))
def test_spans_by_cost_cover_all_rows_and_none_costs_much_more(cost: list[int], at_once: int) -> None:
    parts = spans_by_cost(np.array(cost), at_once)
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(len(cost)))
    assert all(0 < sum(cost[part]) < at_once + max(cost) for part in parts)
