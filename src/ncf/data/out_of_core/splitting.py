"""The split of a table on the disk: each part of the rows is split as it would be in memory, and written.

In: `SortedInteractions` and the options. Out: `StoredSplit`: training as columns of the folder that is made,
and the held-out pairs. The decision worth knowing: `splits.plan_split` decides and labels the rows, here they
are only written.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncf.data.interactions import Csr, Int64, Interactions
from ncf.data.options import PrepareOptions
from ncf.data.out_of_core.column_files import ColumnFile, Writer
from ncf.data.out_of_core.sorted_interactions import SortedInteractions
from ncf.data.splits import TEST, TRAIN, VALIDATION, plan_split, refuse_no_test
from ncf.data.tables import STAGES, Stage
from ncf.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class StoredPairs:
    """Pairs of one part on the disk: [T] each, by user."""

    user_rows: ColumnFile
    item_rows: ColumnFile


@dataclass(frozen=True)
class StoredSplit:
    """What `SplitTables` is in memory.

    `table`: all interactions. `popularity`: training interactions of each item, [I]. `train_offsets` [U + 1]
    and `train_items`: the items of training by user.
    """

    table: SortedInteractions
    popularity: Int64
    train_offsets: Int64
    train_items: ColumnFile
    held_out: dict[Stage, StoredPairs]
    how: dict[str, Any]

    @property
    def users(self) -> Vocabulary:
        return self.table.users

    @property
    def items(self) -> Vocabulary:
        return self.table.items

    @property
    def dropped(self) -> dict[str, int]:
        return self.table.dropped

    @property
    def known(self) -> Csr:
        """Every positive of each user, mapped."""
        return Csr(self.table.offsets, self.table.item_rows.values)

    @property
    def train(self) -> Csr:
        """The training positives of each user, mapped."""
        return Csr(self.train_offsets, self.train_items.values)

    @property
    def sizes(self) -> dict[str, int]:
        """As in `SplitTables`."""
        rows = {"interactions": len(self.table), "train": len(self.train_items)}
        return rows | {stage: len(pairs.user_rows) for stage, pairs in self.held_out.items()}


def split_stored(
    table: SortedInteractions, options: PrepareOptions, folder: Path, scratch: Path
) -> StoredSplit:
    """Split `table`: training and held-out users go into `folder`, held-out items into `scratch`."""
    plan = plan_split(table, options)
    table = plan.table
    parts = {"train": _PartWriter(table, "train", folder, folder)}
    parts |= {stage: _PartWriter(table, stage, folder, scratch) for stage in STAGES}
    popularity, counts = np.zeros(len(table.items), np.int64), np.zeros(len(table.users), np.int64)
    for span, rows in table.parts():
        labels = plan.label(span, rows)
        for part, label in zip(("train", *STAGES), (TRAIN, VALIDATION, TEST), strict=True):
            chosen = rows.take(labels == label)
            parts[part].append(chosen)
            if label == TRAIN:
                popularity += chosen.item_counts(len(popularity))
                counts[span] = chosen.from_user(span.start).user_counts(span.stop - span.start)
    pairs = {part: writer.close() for part, writer in parts.items()}
    refuse_no_test(len(pairs["test"].user_rows), options)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    held_out = {stage: pairs[stage] for stage in STAGES}
    return StoredSplit(table, popularity, offsets, pairs["train"].item_rows, held_out, plan.how)


class _PartWriter:
    """Writes the columns of one part of a split; its items go into a folder of their own."""

    def __init__(self, table: SortedInteractions, part: str, folder: Path, items: Path) -> None:
        self._writers = {
            "user_rows": Writer(folder / f"{part}_users.npy", np.int32),
            "item_rows": Writer(items / f"{part}_items.npy", np.int32),
        }
        if table.times is not None:
            self._writers["timestamps"] = Writer(folder / f"{part}_timestamps.npy", np.int64)
        if table.weights is not None:
            self._writers["weights"] = Writer(folder / f"{part}_weights.npy", np.float32)

    def append(self, rows: Interactions) -> None:
        for column, writer in self._writers.items():
            writer.append(getattr(rows, column))

    def close(self) -> StoredPairs:
        for writer in self._writers.values():
            writer.close()
        return StoredPairs(*(ColumnFile(self._writers[name].path) for name in ("user_rows", "item_rows")))
