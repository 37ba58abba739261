"""The two shapes in which interactions pass through the preparation.

In: encoded interactions. Out: an `InteractionTable` up to the split, `SplitTables` from there on. The
decision worth knowing: a table gives its rows in parts, each with all rows of its users. In memory (`Table`)
there is one part, on the disk (`out_of_core.SortedInteractions`) there are many, so filters and splits are
written once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self, TypeVar

import numpy as np

from ncf.data.interactions import Bool, Csr, HeldOut, Int32, Int64, Interactions
from ncf.data.vocabulary import Vocabulary
from ncf.errors import DataError

Stage = Literal["validation", "test"]
STAGES: tuple[Stage, ...] = ("validation", "test")
Times = TypeVar("Times")


@dataclass(frozen=True)
class InteractionTable(ABC):
    """Encoded interactions, sorted by user and item, with the vocabularies of their U users and I items.

    `dropped`: reason -> how many rows, users or items were dropped so far (see `report.REASONS`).
    """

    users: Vocabulary
    items: Vocabulary
    dropped: dict[str, int] = field(default_factory=dict, kw_only=True)

    @abstractmethod
    def __len__(self) -> int:
        """The number of interactions."""

    @abstractmethod
    def user_counts(self) -> Int64:
        """How many interactions each user has: [U]."""

    @abstractmethod
    def parts(self) -> Iterator[tuple[slice, Interactions]]:
        """Consecutive users with all their interactions; `user_rows` are those of the whole table."""

    @abstractmethod
    def times_at(self, ranks: list[int]) -> list[int]:
        """The times at `ranks` (from 0) among all times sorted; a table without times is refused."""

    @abstractmethod
    def select(self, users: Bool, items: Bool) -> Self:
        """The interactions whose user and item are both marked ([U], [I]); the other ids lose their rows."""

    def item_counts(self) -> Int64:
        """How many interactions each item has: [I]."""
        counts = np.zeros(len(self.items), np.int64)
        for _, rows in self.parts():
            counts += rows.item_counts(len(counts))
        return counts

    def with_dropped(self, counts: dict[str, int]) -> Self:
        """The same table, with `counts` added to what was dropped."""
        return replace(self, dropped=self.dropped | counts)


@dataclass(frozen=True)
class Table(InteractionTable):
    """A table in memory: one part."""

    interactions: Interactions

    def __len__(self) -> int:
        return len(self.interactions)

    def user_counts(self) -> Int64:
        return self.interactions.user_counts(len(self.users))

    def parts(self) -> Iterator[tuple[slice, Interactions]]:
        yield slice(0, len(self.users)), self.interactions

    def times_at(self, ranks: list[int]) -> list[int]:
        return [int(time) for time in np.partition(times_of(self.interactions.timestamps), ranks)[ranks]]

    def select(self, users: Bool, items: Bool) -> Self:
        if bool(users.all()) and bool(items.all()):
            return self
        rows = self.interactions
        rows = rows.take(users[rows.user_rows] & items[rows.item_rows])
        rows = replace(
            rows, user_rows=new_rows(users)[rows.user_rows], item_rows=new_rows(items)[rows.item_rows]
        )
        users_left, items_left = Vocabulary(self.users.ids[users]), Vocabulary(self.items.ids[items])
        return replace(self, users=users_left, items=items_left, interactions=rows)


def new_rows(marks: Bool) -> Int32:
    """The row that each marked id has when the others are gone: [len(marks)], valid where marked."""
    return (np.cumsum(marks) - 1).astype(np.int32)


def times_of(times: Times | None) -> Times:
    """`times`; refused where there are none, because a split by time needs them."""
    if times is None:
        raise DataError(
            "A split by time needs a time column, and there is none: name it with --time, or use "
            "--split random."
        )
    return times


@dataclass(frozen=True)
class SplitTables:
    """A table after the split: training, and the held-out positives with their candidate lists.

    `train`: sorted by user and item. `validation`, `test`: without negatives until `with_candidates` draws
    them. `known`: every positive of training, validation and test. `how`: the split in words for the report,
    under `test`, `validation`, `notes`, `validation_lists` and `test_lists`. `dropped`: as in
    `InteractionTable`.
    """

    users: Vocabulary
    items: Vocabulary
    train: Interactions
    validation: HeldOut
    test: HeldOut
    known: Csr
    how: dict[str, Any]
    dropped: dict[str, int]

    @cached_property
    def popularity(self) -> Int64:
        """How many training interactions each item has: [I]."""
        return self.train.item_counts(len(self.items))

    @property
    def sizes(self) -> dict[str, int]:
        """How many interactions there are in all, and in each part."""
        return {
            "interactions": len(self.known.columns),
            "train": len(self.train),
            "validation": len(self.validation),
            "test": len(self.test),
        }
