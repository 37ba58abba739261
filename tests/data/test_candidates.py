from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.data.candidates import audit, draw, with_published_lists
from ncf.data.interactions import Csr, HeldOut, Interactions
from ncf.data.splits import generator_for
from ncf.data.tables import SplitTables
from ncf.data.vocabulary import Vocabulary
from ncf.errors import DataError

Pairs = Callable[[int, int, int, int], Interactions]


def test_draw_shape_and_dtype(pairs: Pairs) -> None:
    known = pairs(0, 10, 50, 200).csr(10)
    lists = draw(
        np.arange(10, dtype=np.int32), np.arange(10, dtype=np.int32), known, 50, 7, generator_for(0, "t")
    )
    assert (lists.candidates.shape, lists.candidates.dtype) == ((10, 8), np.int32)
    assert lists.user_rows.dtype == np.int32
    assert lists.positives.tolist() == list(range(10))


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(5, 80), st.floats(0, 0.9))
def test_negatives_are_verified_and_distinct(seed: int, users: int, items: int, share: float) -> None:
    generator = np.random.default_rng(seed)
    keys = np.sort(generator.choice(users * items, size=int(share * users * items), replace=False))
    known = Interactions((keys // items).astype(np.int32), (keys % items).astype(np.int32)).csr(users)
    count = int((items - known.counts).min())
    if count < 1:
        return
    rows = generator.integers(0, users, 30).astype(np.int32)
    lists = draw(rows, rows, known, items, count, generator)
    for user, negatives in zip(rows, lists.negatives.tolist(), strict=True):
        assert len(set(negatives)) == count
        assert not set(negatives) & set(known.row(user).tolist())
        assert 0 <= min(negatives) <= max(negatives) < items


@pytest.mark.parametrize("items", [12, 100])  # few: by shuffling; many: by redrawing
def test_negatives_are_uniform(items: int) -> None:
    positives = np.array([0, 3, 4, items - 1], np.int32)
    known = Csr(np.array([0, 4], np.int64), positives)
    rows = np.zeros(20_000, np.int32)
    lists = draw(rows, rows, known, items, 5, np.random.default_rng(0))
    counts = np.bincount(lists.negatives.reshape(-1), minlength=items)
    expected = 20_000 * 5 / (items - 4)
    others = np.setdiff1d(np.arange(items), positives)
    assert counts[positives].sum() == 0
    assert np.abs(counts[others] - expected).max() < 6 * np.sqrt(expected)


def test_exactly_enough_negatives() -> None:
    known = Csr(np.array([0, 2], np.int64), np.array([1, 3], np.int32))
    lists = draw(np.zeros(1, np.int32), np.array([1], np.int32), known, 5, 3, generator_for(0, "t"))
    assert sorted(lists.negatives[0].tolist()) == [0, 2, 4]


def test_too_few_items_are_refused() -> None:
    known = Csr(np.array([0, 2], np.int64), np.array([1, 3], np.int32))
    with pytest.raises(DataError, match="4 negatives do not exist: use --negatives 3 or fewer"):
        draw(np.zeros(1, np.int32), np.array([1], np.int32), known, 5, 4, generator_for(0, "t"))


def test_nothing_to_draw() -> None:
    known = Csr(np.zeros(2, np.int64), np.zeros(0, np.int32))
    empty = np.zeros(0, np.int32)
    assert draw(empty, empty, known, 5, 3, generator_for(0, "t")).candidates.shape == (0, 4)


def test_each_purpose_has_its_own_stream() -> None:
    first, again, other, reseeded = (
        generator_for(seed, purpose).integers(0, 2**62)
        for seed, purpose in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))
    )
    assert first == again
    assert len({first, other, reseeded}) == 3


def test_published_lists_keep_order_and_defects() -> None:
    train = Interactions(np.zeros(1, np.int32), np.ones(1, np.int32))
    test = HeldOut.without_lists(Interactions(np.zeros(1, np.int32), np.full(1, 5, np.int32)))
    ids = Vocabulary.build(range(10))
    tables = SplitTables(ids, ids, train, HeldOut.empty(), test, train.csr(1), how={}, dropped={})
    tables = with_published_lists(tables, np.array([[9, 5, 2, 9]], np.int32))
    lists = tables.test
    assert tables.how == {"test_lists": "as published"}
    assert lists.candidates.tolist() == [[5, 9, 5, 2, 9]]
    assert lists.candidates.dtype == np.int32


def test_audit_agrees_with_a_loop(pairs: Pairs) -> None:
    train = pairs(5, 40, 60, 500)
    rng = np.random.default_rng(0)
    users = np.arange(40, dtype=np.int32)
    lists = HeldOut(users, rng.integers(0, 60, (40, 6)).astype(np.int32))
    both = np.unique(
        np.concatenate([train.user_rows * 60 + train.item_rows, users * 60 + lists.positives]).astype(
            np.int64
        )
    )
    known = Interactions((both // 60).astype(np.int32), (both % 60).astype(np.int32)).csr(40)
    train_csr = train.csr(40)
    expected = dict.fromkeys(audit(lists, known, train_csr), 0) | {"lists": 40, "negatives": 5}
    for user, (positive, *others) in zip(users, lists.candidates.tolist(), strict=True):
        expected["with_duplicates"] += len(set(others)) < 5
        expected["positive_among_negatives"] += positive in others
        mine, all_known = set(train_csr.row(user).tolist()), set(known.row(user).tolist())
        expected["training_positives_among_negatives"] += bool(mine & set(others))
        expected["known_positives_among_negatives"] += bool((all_known - {positive}) & set(others))
    assert audit(lists, known, train_csr) == expected


def test_audit_of_nothing(pairs: Pairs) -> None:
    csr = pairs(0, 4, 5, 10).csr(4)
    found = audit(HeldOut.empty(99), csr, csr)
    assert found["lists"] == 0
    assert found["negatives"] == 99
