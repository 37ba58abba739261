"""Which rows stay: the k-core and the cut in time, on columns that lie on the disk.

In: `SortedInteractions`. Out: the same with fewer rows and smaller vocabularies. The decision worth knowing: a row stays because
its user and its item do, so memory holds a mark for each of these, and none for the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ncf.data.interactions import Bool, Int32, Int64, Interactions
from ncf.data.options import PrepareOptions
from ncf.data.out_of_core.column_files import ColumnFile
from ncf.data.out_of_core.sorted_interactions import PART_ROWS, SortedInteractions, SortedInteractionsWriter
from ncf.data.vocabulary import Vocabulary

Keep = Callable[[Interactions], Bool]
_CLASSES = 1 << 16


def filtered(
    table: SortedInteractions, options: PrepareOptions, folder: Path
) -> tuple[SortedInteractions, dict[str, int]]:
    """Users and items without rows go, and with `--min-user` and `--min-item` those below the k-core."""
    used_users, used_items = np.diff(table.offsets) > 0, item_counts(table) > 0
    keep_users, keep_items = used_users, used_items
    wanted = options.min_user > 1 or options.min_item > 1
    if wanted:
        keep_users, keep_items = k_core(table, used_users, used_items, options.min_user, options.min_item)
    smaller = table
    if not (bool(keep_users.all()) and bool(keep_items.all())):
        smaller = compact(table, keep_users, keep_items, folder)
    if not wanted:
        return smaller, {}
    return smaller, {
        "k_core_interactions": len(table) - len(smaller),
        "k_core_users": int(used_users.sum() - keep_users.sum()),
        "k_core_items": int(used_items.sum() - keep_items.sum()),
    }


def item_counts(table: SortedInteractions) -> Int64:
    """How many rows each item has: [I]."""
    counts = np.zeros(len(table.items), np.int64)
    for _, part in table.parts():
        np.add.at(counts, part.item_rows, 1)
    return counts


def k_core(
    table: SortedInteractions, keep_users: Bool, keep_items: Bool, min_user: int, min_item: int
) -> tuple[Bool, Bool]:
    """Marks [U] and [I] of those who stay: a pass over the rows for each round, until nobody goes."""
    while True:
        users, items = np.zeros(len(keep_users), np.int64), np.zeros(len(keep_items), np.int64)
        for _, part in table.parts():
            stays = keep_users[part.user_rows] & keep_items[part.item_rows]
            np.add.at(users, part.user_rows[stays], 1)
            np.add.at(items, part.item_rows[stays], 1)
        before = int(keep_users.sum()) + int(keep_items.sum())
        keep_users, keep_items = keep_users & (users >= min_user), keep_items & (items >= min_item)
        if int(keep_users.sum()) + int(keep_items.sum()) == before:
            return keep_users, keep_items


def compact(
    table: SortedInteractions, keep_users: Bool, keep_items: Bool, folder: Path, keep: Keep | None = None
) -> SortedInteractions:
    """The rows of users and items that are kept (and that `keep` keeps), with new numbers, in `folder`."""
    user_row_of, item_row_of = _numbers(keep_users), _numbers(keep_items)
    purposes = {
        name for name, column in (("time", table.times), ("weight", table.weights)) if column is not None
    }
    folder.mkdir()
    writer = SortedInteractionsWriter(folder, purposes, int(keep_users.sum()))
    for _, part in table.parts():
        stays = keep_users[part.user_rows] & keep_items[part.item_rows]
        if keep is not None:
            stays &= keep(part)
        rows = part.take(stays)
        writer.append(
            Interactions(
                user_row_of[rows.user_rows], item_row_of[rows.item_rows], rows.timestamps, rows.weights
            )
        )
    for column in (table.item_rows, table.times, table.weights):
        if column is not None:
            column.path.unlink()
    return writer.close(Vocabulary(table.users.ids[keep_users]), Vocabulary(table.items.ids[keep_items]))


def order_statistic(times: ColumnFile, rank: int) -> int:
    """The time at `rank` (from 0) of all times sorted: counted in classes, finer with each pass, until one is left."""
    low, high = _ends(times)
    while low < high:
        width = -(-(high - low + 1) // _CLASSES)
        counts, below = np.zeros(_CLASSES, np.int64), 0
        for part in _pieces(times):
            below += int((part < low).sum())
            counts += np.bincount((part[(part >= low) & (part <= high)] - low) // width, minlength=_CLASSES)
        at = int(np.searchsorted(np.cumsum(counts), rank - below, side="right"))
        low, high = low + at * width, min(high, low + (at + 1) * width - 1)
    return low


def _ends(times: ColumnFile) -> tuple[int, int]:
    ends = [(int(part.min()), int(part.max())) for part in _pieces(times)]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _pieces(column: ColumnFile) -> Iterator[Int64]:
    for start in range(0, len(column), PART_ROWS):
        yield column.values[start : start + PART_ROWS]
        column.release()


def _numbers(keep: Bool) -> Int32:
    return (np.cumsum(keep) - 1).astype(np.int32)
