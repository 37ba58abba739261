from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.data.interactions import Csr, HeldOut, Interactions, count_before, is_sorted, latest

Pairs = Callable[[int, int, int, int], Interactions]


def test_csr_shape_and_dtype(pairs: Pairs) -> None:
    table = pairs(0, 6, 9, 20)
    csr = table.csr(6)
    assert (csr.offsets.shape, csr.offsets.dtype) == ((7,), np.int64)
    assert (csr.columns.shape, csr.columns.dtype) == ((20,), np.int32)
    assert csr.users == 6
    assert csr.columns is table.item_rows


def test_csr_of_unsorted_columns_agrees_with_a_loop(pairs: Pairs) -> None:
    table = pairs(1, 6, 9, 20)
    shuffled = table.take(np.random.default_rng(0).permutation(20))
    csr = shuffled.csr(8)
    for user in range(8):
        mine = sorted(i for u, i in zip(shuffled.user_rows, shuffled.item_rows, strict=True) if u == user)
        assert csr.row(user).tolist() == mine
        assert csr.counts[user] == len(mine)


def test_weights_stay_with_their_pairs(pairs: Pairs) -> None:
    table = pairs(1, 6, 9, 20)
    weights = np.arange(20, dtype=np.float32)
    csr = replace(table, weights=weights).take(np.random.default_rng(0).permutation(20)).csr(6)
    assert np.array_equal(csr.weights, weights)
    assert np.array_equal(csr.between(2, 4).weights, weights[csr.offsets[2] : csr.offsets[4]])
    np.testing.assert_allclose(csr.values, weights / 9.5)
    assert table.csr(6).values.tolist() == [1.0] * 20
    assert replace(csr, weights=np.zeros(20, np.float32)).values.tolist() == [0.0] * 20


def test_contains_shape_dtype_and_broadcast(pairs: Pairs) -> None:
    csr = pairs(2, 6, 9, 20).csr(6)
    found = csr.contains(np.arange(6)[:, None], np.arange(9)[None, :])
    assert found.shape == (6, 9)
    assert found.dtype == bool
    assert found.sum() == 20


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 40), st.floats(0, 1))
def test_contains_agrees_with_a_set(seed: int, users: int, items: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    keys = np.sort(generator.choice(users * items, size=int(share * users * items), replace=False))
    table = Interactions((keys // items).astype(np.int32), (keys % items).astype(np.int32))
    asked_users, asked_items = generator.integers(0, users, 50), generator.integers(0, items + 2, 50)
    members = set(zip(table.user_rows.tolist(), table.item_rows.tolist(), strict=True))
    expected = [(u, i) in members for u, i in zip(asked_users.tolist(), asked_items.tolist(), strict=True)]
    assert table.csr(users).contains(asked_users, asked_items).tolist() == expected


def test_contains_in_an_empty_table() -> None:
    empty = Csr(np.zeros(3, np.int64), np.zeros(0, np.int32))
    assert empty.contains([0, 1], [0, 5]).tolist() == [False, False]
    assert empty.row(1).shape == (0,)


def test_lists_of_items_are_searched_as_single_pairs_are(pairs: Pairs) -> None:
    """Users in any order and more than once, one of whom has nothing; items in any order."""
    table = pairs(3, 6, 9, 20)
    csr = table.take(table.user_rows != 2).csr(6)
    random = np.random.default_rng(0)
    asked = np.array([5, 0, 2, 0, 3], np.int32)
    lists = random.integers(0, 9, (5, 7)).astype(np.int32)
    assert csr.contains_lists(asked, lists).tolist() == csr.contains(asked[:, None], lists).tolist()
    for user, row, before in zip(asked, lists, count_before(csr, asked, lists), strict=True):
        assert before.tolist() == [int((csr.row(user) < item).sum()) for item in row]
    ranks = np.tile([0, 1, 2], (6, 1))
    for user, row in enumerate(ranks + count_before(csr, np.arange(6), ranks, unused=True)):
        assert row.tolist() == sorted({*range(99)} - {*csr.row(user).tolist()})[:3]
    assert csr.contains_lists(np.zeros(0, np.int32), np.zeros((0, 3), np.int32)).shape == (0, 3)


def test_latest_shape_and_dtype() -> None:
    order = latest(np.array([1, 0, 1], np.int32), np.array([2, 1, 2], np.int32), 3)
    assert order.dtype == np.int64
    assert order.tolist() == [1, 2]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=20),
    st.booleans(),
)
def test_latest_agrees_with_a_dictionary(rows: list[tuple[int, int, int]], timed: bool) -> None:
    best: dict[tuple[int, int], tuple[int, int]] = {}
    for position, (user, item, time) in enumerate(rows):
        score = (time if timed else 0, position)
        best[user, item] = max(best.get((user, item), score), score)
    expected = [position for _, (_, position) in sorted(best.items())]
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    order = latest(
        users.astype(np.int32), items.astype(np.int32), 4, times.astype(np.int64) if timed else None
    )
    assert order.tolist() == expected


def test_is_sorted() -> None:
    users, items = np.array([0, 0, 1], np.int32), np.array([1, 2, 0], np.int32)
    assert is_sorted(users, items)
    assert not is_sorted(users[::-1], items)
    assert not is_sorted(users, items[[1, 0, 2]])
    assert is_sorted(users[:0], items[:0])


def test_counts(pairs: Pairs) -> None:
    table = pairs(3, 5, 4, 12)
    assert table.item_counts(6).tolist() == [int((table.item_rows == i).sum()) for i in range(6)]
    assert table.user_counts(7).tolist() == [int((table.user_rows == u).sum()) for u in range(7)]


def test_held_out_views() -> None:
    lists = HeldOut(np.array([3, 1], np.int32), np.array([[7, 1, 2], [8, 3, 4]], np.int32))
    assert len(lists) == 2
    assert lists.positives.tolist() == [7, 8]
    assert lists.negatives.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("negatives", [0, 99])
def test_empty_held_out(negatives: int) -> None:
    empty = HeldOut.empty(negatives)
    assert len(empty) == 0
    assert empty.candidates.shape == (0, 1 + negatives)
    assert empty.positives.shape == (0,)
