"""Interactions of users with items: as columns, as items by user, and as candidate lists.

In: rows of users and items (never ids), with optional times and weights. Out: `Interactions` (columns), `Csr`
(items by user) and `HeldOut` (candidate lists). The decision worth knowing: membership of a pair is one
vectorised bisection in the sorted items of its user, so no hash table over all pairs is ever built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]
_STEP = 1 << 20
"""Rows at a time."""


@dataclass(frozen=True)
class Csr:
    """Items by user. `offsets` is [U + 1] int64, `columns` is [N] int32 and ascending within a user.

    `weights` [N] float32 and `timestamps` [N] int64 are those of `Interactions`; without weights all count
    alike.
    """

    offsets: Int64
    columns: Int32
    weights: npt.NDArray[np.float32] | None = None
    timestamps: Int64 | None = None

    @property
    def users(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> Int64:
        """How many items each user has: [U]."""
        return np.diff(self.offsets)

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """The weights over their mean, or ones: [N]. The scale of weights thus means nothing."""
        if self.weights is None:
            return np.ones(len(self.columns), np.float32)
        mean = np.mean(self.weights, dtype=np.float64) if len(self.weights) else 0.0
        return (self.weights / (mean or 1.0)).astype(np.float32)

    def row(self, user: int) -> Int32:
        """The items of one user: [n] ascending."""
        return self.columns[self.offsets[user] : self.offsets[user + 1]]

    def between(self, first: int, stop: int) -> Csr:
        """The users from `first` to before `stop`, counted from `first`; no others are read from a mapped
        file.
        """
        offsets = np.asarray(self.offsets[first : stop + 1])
        part = slice(offsets[0], offsets[-1])
        weights = None if self.weights is None else self.weights[part]
        timestamps = None if self.timestamps is None else self.timestamps[part]
        return Csr(offsets - offsets[0], self.columns[part], weights, timestamps)

    def contains_lists(self, users: Int32, items: npt.NDArray[Any]) -> Bool:
        """Whether each of the `items` [T, N] is one of its user's, of `users` [T]."""
        if not len(self.columns):
            return np.zeros(items.shape, bool)
        place = count_before(self, users, items)
        inside: Bool = place < (self.offsets[users + 1] - self.offsets[users])[:, None]
        place += self.offsets[users][:, None]
        inside &= self.columns.take(place, mode="clip") == items
        return inside

    def contains(self, users: npt.ArrayLike, items: npt.ArrayLike) -> Bool:
        """Whether each pair is there, in the shape that `users` and `items` broadcast to."""
        user_rows, item_rows = np.broadcast_arrays(np.asarray(users), np.asarray(items))
        low, high = self.offsets[user_rows], self.offsets[user_rows + 1]
        if not len(self.columns):
            return np.zeros(user_rows.shape, bool)
        position = bisect(low, high, lambda at: self.columns.take(at, mode="clip") < item_rows)
        present = np.zeros(user_rows.shape, bool)
        inside = position < high
        present[inside] = self.columns[position[inside]] == item_rows[inside]
        return present


def count_before(known: Csr, users: Int32, wanted: npt.NDArray[Any], *, unused: bool = False) -> Int64:
    """How many items of its user come before each number that is `wanted`: [T, N].

    `users`: [T]; `wanted`: [T, N], fastest where each row ascends. With `unused` they are ranks (from 0)
    among the items that the user does not have, and the items before the one at that rank are counted.
    """
    # One search among the items of these users together, each user's above those of the users before.
    own, which = np.unique(users, return_inverse=True)
    counts = known.offsets[own + 1] - known.offsets[own]
    ends = np.cumsum(counts)
    starts = ends - counts
    position = np.arange(int(ends[-1]) if len(ends) else 0)
    keys = known.columns[position + np.repeat(known.offsets[own] - starts, counts)].astype(np.int64)
    if unused:
        keys -= position - np.repeat(starts, counts)
    span = 1 + max(int(keys.max(initial=0)), int(wanted.max(initial=0)))
    keys += np.repeat(np.arange(len(own)) * span, counts)
    found: Int64 = keys.searchsorted(
        (wanted + (which * span)[:, None]).reshape(-1), "right" if unused else "left"
    )
    found = found.reshape(wanted.shape)
    found -= starts[which][:, None]
    return found


def bisect(low: Int64, high: Int64, is_before: Callable[[Int64], Bool]) -> Int64:
    """The first position in [low, high) for which `is_before` is false, for many segments at once.

    `is_before(positions)` must be true up to some position of each segment and false from there on; it is
    also asked about positions at the end of a segment, where its answer does not count.
    """
    first, size = np.array(low, np.int64), np.asarray(high - low, np.int64)
    for _ in range(int(size.max(initial=0)).bit_length()):
        half = size >> 1
        before = is_before(first + half) & (size > 0)
        first += (half + 1) * before
        size = np.where(before, size - half - 1, half)
    return first


@dataclass(frozen=True)
class Interactions:
    """Columns of one length N. Times are in the unit of the source, or microseconds if that had dates.

    `user_rows`, `item_rows`: [N] int32; `timestamps`: [N] int64 or None; `weights`: [N] float32 or None.
    """

    user_rows: Int32
    item_rows: Int32
    timestamps: Int64 | None = None
    weights: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.user_rows)

    def take(self, index: npt.NDArray[Any]) -> Interactions:
        """The interactions at `index`, which is positions or a mask."""
        return Interactions(
            self.user_rows[index],
            self.item_rows[index],
            None if self.timestamps is None else self.timestamps[index],
            None if self.weights is None else self.weights[index],
        )

    def from_user(self, first: int) -> Interactions:
        """The same interactions, with users counted from `first`."""
        return self if first == 0 else replace(self, user_rows=self.user_rows - np.int32(first))

    def csr(self, users: int) -> Csr:
        """The items of each of `users` users. Columns that are sorted by both are not copied."""
        offsets = np.zeros(users + 1, np.int64)
        np.cumsum(self.user_counts(users), out=offsets[1:])
        if is_sorted(self.user_rows, self.item_rows):
            return Csr(offsets, self.item_rows, self.weights, self.timestamps)
        ordered = self.take(np.lexsort((self.item_rows, self.user_rows)))
        return Csr(offsets, ordered.item_rows, ordered.weights, ordered.timestamps)

    def csr_between(self, first: int, stop: int) -> Csr:
        """`csr(…).between(first, stop)`, for columns sorted by user and item. Only that part is read."""
        start, end = (int(np.searchsorted(self.user_rows, np.int32(user))) for user in (first, stop))
        own = Interactions(self.user_rows[start:end], self.item_rows[start:end])
        return own.from_user(first).csr(stop - first)

    def user_counts(self, users: int) -> Int64:
        """How many interactions each user has: [users]."""
        return _counts(self.user_rows, users)

    def item_counts(self, items: int) -> Int64:
        """How many interactions each item has: [items]."""
        return _counts(self.item_rows, items)


def _counts(rows: Int32, size: int) -> Int64:
    """How often each of `size` rows or more occurs; in parts, for `bincount` copies what it gets as int64."""
    counts = np.zeros(max(size, 1 + int(rows.max(initial=-1))), np.int64)
    for start in range(0, len(rows), _STEP):
        counts += np.bincount(rows[start : start + _STEP], minlength=len(counts))
    return counts


def is_sorted(user_rows: Int32, item_rows: Int32) -> bool:
    """Whether the pairs ascend by user and then by item."""
    for start in range(0, len(user_rows) - 1, _STEP):
        users, items = user_rows[start : start + _STEP + 1], item_rows[start : start + _STEP + 1]
        rises = (users[1:] > users[:-1]) | ((users[1:] == users[:-1]) & (items[1:] >= items[:-1]))
        if not bool(rises.all()):
            return False
    return True


def pair_keys(user_rows: Int32, item_rows: Int32, items: int) -> Int64:
    """One int64 a pair, in the order of user and then item: [N]."""
    keys = user_rows.astype(np.int64)
    keys *= items
    keys += item_rows
    return keys


def latest(user_rows: Int32, item_rows: Int32, items: int, timestamps: Int64 | None = None) -> Int64:
    """Positions, int64, that sort the pairs by user and item and keep one of each: the latest.

    Without `timestamps`, and among equal ones, the last in the file is kept. `items`: how many there are.
    """
    return latest_keys(pl.Series(pair_keys(user_rows, item_rows, items)), timestamps)[1].astype(np.int64)


def latest_keys(
    unsorted: pl.Series, timestamps: Int64 | None, weights: npt.NDArray[np.float32] | None = None
) -> tuple[Int64, npt.NDArray[np.uint32], npt.NDArray[np.float32] | None]:
    """The keys of `latest`, sorted, and their positions, from those of all pairs, which are `unsorted`.

    With `weights` [N] also the sum of those of each pair, else None.
    """
    # One sort of int64 keys is much faster than a lexsort of three columns. Only the few positions whose
    # pair is repeated are then sorted again by key, time and position.
    positions = unsorted.arg_sort()
    keys = unsorted.gather(positions).to_numpy()
    order = positions.to_numpy()
    same_as_next = keys[1:] == keys[:-1]
    if not bool(same_as_next.any()):
        return keys, order, None if weights is None else weights[order]
    repeated = np.zeros(len(keys), bool)
    repeated[1:] |= same_as_next
    repeated[:-1] |= same_as_next
    among = order[repeated]
    times = np.zeros(len(among), np.int64) if timestamps is None else timestamps[among]
    order = order.copy()
    order[repeated] = among[np.lexsort((among, times, keys[repeated]))]
    last_of_pair: Bool = np.append(~same_as_next, True)
    sums = None
    if weights is not None:
        number: Int64 = np.cumsum(last_of_pair) - last_of_pair
        sums = np.bincount(number, weights[order]).astype(np.float32)
    return keys[last_of_pair], order[last_of_pair], sums


@dataclass(frozen=True)
class HeldOut:
    """Held-out positives, each at the head of its candidate list; may be empty.

    `user_rows`: [T] int32; `candidates`: [T, 1 + N] int32 with the positive in column 0. `timestamps` [T] and
    `weights` [T] are as those of `Interactions`, where the source has them.
    """

    user_rows: Int32
    candidates: Int32
    timestamps: Int64 | None = None
    weights: npt.NDArray[np.float32] | None = None

    @classmethod
    def without_lists(cls, pairs: Interactions) -> HeldOut:
        """Held-out positives whose negatives have not been drawn yet: N is 0."""
        return cls(pairs.user_rows, pairs.item_rows[:, None], pairs.timestamps, pairs.weights)

    @classmethod
    def empty(cls, negatives: int = 0) -> HeldOut:
        return cls(np.zeros(0, np.int32), np.zeros((0, 1 + negatives), np.int32))

    @property
    def has_lists(self) -> bool:
        """Whether there are negatives. Without them the positives are ranked among the whole catalogue."""
        return bool(self.candidates.shape[1] > 1)

    @property
    def positives(self) -> Int32:
        """The held-out items: [T]."""
        return self.candidates[:, 0]

    @property
    def pairs(self) -> Interactions:
        """The held-out positives as interactions: [T]."""
        return Interactions(self.user_rows, self.positives, self.timestamps, self.weights)

    @property
    def negatives(self) -> Int32:
        """The other candidates: [T, N]."""
        return self.candidates[:, 1:]

    def take(self, index: npt.NDArray[Any]) -> HeldOut:
        """The rows at `index`, which is positions or a mask."""
        pairs = self.pairs.take(index)
        return HeldOut(pairs.user_rows, self.candidates[index], pairs.timestamps, pairs.weights)

    def __len__(self) -> int:
        return len(self.user_rows)
