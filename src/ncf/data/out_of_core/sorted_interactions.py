"""The second pass: sort all rows by user and item on the disk, and keep the latest of each pair.

In: a `Reading` and its `IdScan`. Out: `SortedInteractions`: columns on the disk. The decision worth knowing:
rows are first put into files by user, each small enough to be sorted in memory, and the files are then sorted
one by one. A user is never divided, so a part takes the memory of `PART_ROWS` rows, or of the most active
user.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data.encode import no_rating_column, repeats_name
from ncf.data.formats import changed
from ncf.data.interactions import Bool, Int32, Int64, Interactions, latest_keys, pair_keys
from ncf.data.options import PrepareOptions
from ncf.data.out_of_core.column_files import ColumnFile, Writer
from ncf.data.out_of_core.scan_ids import IdScan, batches
from ncf.data.readers import Reading
from ncf.data.tables import InteractionTable, new_rows, times_of
from ncf.data.values import without_decimals
from ncf.data.vocabulary import Vocabulary

PART_ROWS = 1 << 21
"""Rows that are sorted, or split, at once."""
ITEMS, TIMES, WEIGHTS = "known_items.npy", "times.npy", "weights.npy"
_TYPES = {"user": "<i4", "item": "<i4", "time": "<i8", "rating": "<f4", "weight": "<f4"}
_DENSE = 4
_CLASSES = 1 << 16

Rows = npt.NDArray[Any]
"""Records of the columns that there are."""


@dataclass(frozen=True)
class SortedInteractions(InteractionTable):
    """A table on the disk. `offsets`: [U + 1], where the rows of each user begin."""

    offsets: Int64
    item_rows: ColumnFile
    times: ColumnFile | None
    weights: ColumnFile | None

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def user_counts(self) -> Int64:
        return np.diff(self.offsets)

    def parts(self) -> Iterator[tuple[slice, Interactions]]:
        """`PART_ROWS` rows or one user at a time, each part in memory."""
        for users in user_parts(self.offsets):
            rows = slice(int(self.offsets[users.start]), int(self.offsets[users.stop]))
            counts = np.diff(self.offsets[users.start : users.stop + 1])
            yield (
                users,
                Interactions(
                    np.repeat(np.arange(users.start, users.stop, dtype=np.int32), counts),
                    self.item_rows.values[rows].copy(),
                    None if self.times is None else self.times.values[rows].copy(),
                    None if self.weights is None else self.weights.values[rows].copy(),
                ),
            )
            for column in self._columns():
                column.release()

    def times_at(self, ranks: list[int]) -> list[int]:
        return [order_statistic(times_of(self.times), rank) for rank in ranks]

    def select(self, users: Bool, items: Bool) -> Self:
        """Its files lie in a new folder inside that of this table, whose own files are removed."""
        if bool(users.all()) and bool(items.all()):
            return self
        user_row_of, item_row_of = new_rows(users), new_rows(items)
        purposes = {
            name for name, column in (("time", self.times), ("weight", self.weights)) if column is not None
        }
        folder = self.item_rows.path.parent / "selected"
        folder.mkdir()
        writer = SortedInteractionsWriter(folder, purposes, int(users.sum()))
        for _, part in self.parts():
            rows = part.take(users[part.user_rows] & items[part.item_rows])
            user_rows, item_rows = user_row_of[rows.user_rows], item_row_of[rows.item_rows]
            writer.append(replace(rows, user_rows=user_rows, item_rows=item_rows))
        for column in self._columns():
            column.path.unlink()
        selected = writer.close(Vocabulary(self.users.ids[users]), Vocabulary(self.items.ids[items]))
        return cast(Self, selected.with_dropped(self.dropped))

    def _columns(self) -> list[ColumnFile]:
        return [column for column in (self.item_rows, self.times, self.weights) if column is not None]


def order_statistic(times: ColumnFile, rank: int) -> int:
    """The time at `rank` (from 0) of all `times` sorted.

    Each pass counts times in `_CLASSES` classes and continues in the one with the rank, until it is one time.
    """
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


def user_parts(offsets: Int64, rows: int | None = None) -> Iterator[slice]:
    """Ranges of users with at most `rows` interactions (by default `PART_ROWS`), or of one user with more."""
    first, users = 0, len(offsets) - 1
    while first < users:
        end = int(offsets.searchsorted(offsets[first] + (rows or PART_ROWS), side="right")) - 1
        end = min(max(end, first + 1), users)
        yield slice(first, end)
        first = end


class SortedInteractionsWriter:
    """Writes a `SortedInteractions` into a folder, part by part."""

    def __init__(self, folder: Path, purposes: set[str], users: int) -> None:
        self.counts = np.zeros(users, np.int64)
        self._items = Writer(folder / ITEMS, np.int32)
        self._times = Writer(folder / TIMES, np.int64) if "time" in purposes else None
        self._weights = Writer(folder / WEIGHTS, np.float32) if "weight" in purposes else None

    def append(self, part: Interactions) -> None:
        """Add the next rows, which are sorted and hold all rows of their users."""
        if len(part):
            first = int(part.user_rows[0])
            counts = np.bincount(part.user_rows - first)
            self.counts[first : first + len(counts)] += counts
        self._items.append(part.item_rows)
        for writer, values in ((self._times, part.timestamps), (self._weights, part.weights)):
            if writer is not None and values is not None:
                writer.append(values)

    def close(self, users: Vocabulary, items: Vocabulary) -> SortedInteractions:
        """Finish the files; the table of them, for the ids `users` and `items`."""
        written = [writer for writer in (self._items, self._times, self._weights) if writer is not None]
        for writer in written:
            writer.close()
        offsets = np.zeros(len(users) + 1, np.int64)
        np.cumsum(self.counts, out=offsets[1:])
        return SortedInteractions(
            users,
            items,
            offsets,
            ColumnFile(self._items.path),
            ColumnFile(self._times.path) if self._times else None,
            ColumnFile(self._weights.path) if self._weights else None,
        )


def sort(reading: Reading, ids: IdScan, options: PrepareOptions, folder: Path) -> SortedInteractions:
    """Sort the rows of `reading`, keep the latest of each pair, and drop ratings below `options.min_rating`.

    `ids`: the scan of the same table; `folder`: gets all files.
    """
    if options.min_rating is not None and "rating" not in reading.column_of:
        raise no_rating_column()
    part_of_user = _part_of_user(ids.rows_of_user)
    kind = np.dtype([(purpose, _TYPES[purpose]) for purpose in reading.kept])
    parts = [folder / f"part-{number:06}" for number in range(int(part_of_user[-1]) + 1)]
    _distribute(reading, ids, part_of_user, kind, parts)
    del part_of_user
    writer = SortedInteractionsWriter(folder, set(reading.kept), len(ids.users))
    repeated = repeats_name(options)
    dropped = {repeated: 0}
    if options.min_rating is not None:
        dropped["below_min_rating"] = 0
    for path in parts:
        rows = np.fromfile(path, kind)
        path.unlink()
        kept = _latest(rows, len(ids.items), options)
        dropped[repeated] += len(rows) - len(kept)
        if options.min_rating is not None:
            good = rows["rating"][kept] >= options.min_rating
            dropped["below_min_rating"] += int((~good).sum())
            kept = kept[good]
        writer.append(_interactions(rows, kept))
    return writer.close(ids.users, ids.items).with_dropped(dropped)


def _part_of_user(rows_of_user: Int64) -> Int32:
    """The number of each user's part: ascending, `PART_ROWS` rows or one user each."""
    offsets = np.concatenate([[0], np.cumsum(rows_of_user)])
    part_of_user = np.empty(len(rows_of_user), np.int32)
    for number, users in enumerate(user_parts(offsets)):
        part_of_user[users] = number
    return part_of_user


def _distribute(
    reading: Reading, ids: IdScan, part_of_user: Int32, kind: np.dtype[Any], parts: list[Path]
) -> None:
    """Append each row to the file of its user's part, in the order of the table."""
    for path in parts:
        path.touch()
    encode_user = Encoder(ids.users, "user" in ids.decimals)
    encode_item = Encoder(ids.items, "item" in ids.decimals)
    seen = np.zeros(len(ids.users), np.int64)
    for batch in batches(reading):
        rows = np.empty(len(batch), kind)
        rows["user"], rows["item"] = encode_user.rows(batch["user"]), encode_item.rows(batch["item"])
        batch = reading.weighed(batch)
        for purpose in set(reading.kept) - {"user", "item"}:
            rows[purpose] = batch[purpose].to_numpy()
        seen += np.bincount(rows["user"], minlength=len(seen))
        part = part_of_user[rows["user"]]
        rows = rows[np.argsort(part, kind="stable")]
        counts = np.bincount(part, minlength=len(parts))
        ends = np.cumsum(counts)
        for number in np.flatnonzero(counts):
            with parts[number].open("ab") as file:
                file.write(rows[ends[number] - counts[number] : ends[number]].tobytes())
    reading.origin.refuse_changed()
    if not np.array_equal(seen, ids.rows_of_user):
        raise changed(reading.origin.path)


class Encoder:
    """Rows of ids that should be in a vocabulary, for one batch after the other.

    `decimals`: the ids are written as `canonical` changed them. An id that came in meanwhile gets the row of
    a neighbour, which the counts of the second pass tell.
    """

    def __init__(self, vocabulary: Vocabulary, decimals: bool = False) -> None:
        self._ids: Int64 = vocabulary.ids
        self._decimals = decimals
        self._texts: pl.Series | None = None
        self._table: Int32 | None = None
        if vocabulary.kind == "string":
            self._texts = vocabulary.series()
            return
        self._low = int(vocabulary.ids[0])
        span = int(vocabulary.ids[-1]) - self._low + 1
        if span <= _DENSE * len(vocabulary):
            self._table = np.zeros(span, np.int32)
            self._table[vocabulary.ids - self._low] = np.arange(len(vocabulary), dtype=np.int32)

    def rows(self, ids: pl.Series) -> Int32:
        """[len(ids)], each below the size of the vocabulary."""
        if self._decimals:
            ids = without_decimals(ids)
        last = len(self._ids) - 1
        if self._texts is not None:
            found = self._texts.search_sorted(ids).to_numpy()
            return np.asarray(np.minimum(found, last), np.int32)
        numbers = ids.cast(pl.Int64).to_numpy()
        if self._table is not None:
            return np.asarray(self._table.take(numbers - self._low, mode="clip"), np.int32)
        return np.asarray(np.minimum(self._ids.searchsorted(numbers), last), np.int32)


def _latest(rows: Rows, items: int, options: PrepareOptions) -> Int64:
    """Positions of the rows that stay, sorted by user and item; weights are summed as asked."""
    if not len(rows):
        return np.zeros(0, np.int64)
    first = rows["user"].min()
    times = rows["time"] if "time" in (rows.dtype.names or ()) else None
    keys = pl.Series(pair_keys(rows["user"] - first, rows["item"], items))
    weights = rows["weight"] if options.repeats == "sum" else None
    _, kept, sums = latest_keys(keys, times, weights)
    if sums is not None:
        rows["weight"][kept] = sums
    return kept.astype(np.int64)


def _interactions(rows: Rows, kept: Int64) -> Interactions:
    names = rows.dtype.names or ()
    return Interactions(
        rows["user"][kept],
        rows["item"][kept],
        rows["time"][kept] if "time" in names else None,
        rows["weight"][kept] if "weight" in names else None,
    )
