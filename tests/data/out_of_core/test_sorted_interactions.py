"""A table on the disk against one in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.data.encode import k_core
from ncf.data.interactions import Interactions
from ncf.data.out_of_core import sorted_interactions
from ncf.data.out_of_core.column_files import ColumnFile, Writer
from ncf.data.out_of_core.sorted_interactions import (
    SortedInteractions,
    SortedInteractionsWriter,
    order_statistic,
    user_parts,
)
from ncf.data.tables import Table
from ncf.data.vocabulary import Vocabulary


def stored(folder: Path, pairs: Interactions, users: int, items: int) -> SortedInteractions:
    folder.mkdir()
    writer = SortedInteractionsWriter(folder, {"time"}, users)
    writer.append(pairs)
    return writer.close(Vocabulary(np.arange(users) + 100), Vocabulary(np.arange(items) + 500))


def random_pairs(seed: int, users: int, items: int, size: int) -> Interactions:
    draws = np.random.default_rng(seed)
    keys = np.sort(draws.choice(users * items, size=size, replace=False))
    return Interactions(
        (keys // items).astype(np.int32), (keys % items).astype(np.int32), draws.integers(0, 9, size)
    )


@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=30), rows=st.integers(1, 12))
def test_parts_hold_every_user_once_and_few_rows(counts: list[int], rows: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(counts)])
    parts = list(user_parts(offsets, rows))
    assert [user for part in parts for user in range(part.start, part.stop)] == list(range(len(counts)))
    for part in parts:
        assert sum(counts[part]) <= rows or part.stop - part.start == 1


@pytest.mark.parametrize("seed", range(5))
def test_counts_times_and_core_are_those_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(sorted_interactions, "PART_ROWS", 7)
    pairs = random_pairs(seed, 12, 10, 50)
    table = stored(tmp_path / "t", pairs, 12, 10)
    in_memory = Table(table.users, table.items, pairs)
    assert table.item_counts().tolist() == in_memory.item_counts().tolist() == pairs.item_counts(10).tolist()
    assert table.user_counts().tolist() == pairs.user_counts(12).tolist()
    assert table.times_at([0, 17, 49]) == in_memory.times_at([0, 17, 49])
    users, items = k_core(table, 3, 4)
    assert users.dtype == items.dtype == bool
    assert [marks.tolist() for marks in k_core(in_memory, 3, 4)] == [users.tolist(), items.tolist()]
    expected = pairs.take(users[pairs.user_rows] & items[pairs.item_rows])
    kept = table.select(users, items)
    assert (
        kept.users.ids[np.repeat(np.arange(len(kept.users)), np.diff(kept.offsets))].tolist()
        == (expected.user_rows + 100).tolist()
    )
    assert kept.items.ids[kept.item_rows.values].tolist() == (expected.item_rows + 500).tolist()
    assert kept.times is not None
    assert expected.timestamps is not None
    assert kept.times.values.tolist() == expected.timestamps.tolist()
    assert not (tmp_path / "t/times.npy").exists()


@pytest.mark.parametrize("high", [1, 9, 70_000, 1 << 40])
def test_order_statistic_agrees_with_sorting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, high: int
) -> None:
    monkeypatch.setattr(sorted_interactions, "PART_ROWS", 100)
    values = np.random.default_rng(high).integers(0, high, 1_003)
    writer = Writer(tmp_path / "times.npy", np.int64)
    writer.append(values)
    writer.close()
    column, ordered = ColumnFile(tmp_path / "times.npy"), np.sort(values)
    for rank in (0, 1, 500, 1_001, 1_002):
        assert order_statistic(column, rank) == ordered[rank]
