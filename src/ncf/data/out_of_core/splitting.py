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

from ncf.data.interactions import Csr, Int64
from ncf.data.options import PrepareOptions
from ncf.data.out_of_core.column_files import ColumnFile, Writer
from ncf.data.out_of_core.sorted_interactions import SortedInteractions
from ncf.data.splits import TEST, TRAIN, VALIDATION, plan_split, refuse_no_test
from ncf.data.tables import STAGES, Stage
from ncf.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class StoredPairs:
    """Held-out pairs on the disk: [T] each, by user."""

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
    users, items = Writer(folder / "train_users.npy", np.int32), Writer(folder / "train_items.npy", np.int32)
    times = Writer(folder / "train_timestamps.npy", np.int64) if table.times is not None else None
    weights = Writer(folder / "train_weights.npy", np.float32) if table.weights is not None else None
    pair_writers = {
        stage: (
            Writer(folder / f"{stage}_users.npy", np.int32),
            Writer(scratch / f"{stage}_items.npy", np.int32),
        )
        for stage in STAGES
    }
    popularity, counts = np.zeros(len(table.items), np.int64), np.zeros(len(table.users), np.int64)
    for span, rows in table.parts():
        labels = plan.label(span, rows)
        train = rows.take(labels == TRAIN)
        popularity += train.item_counts(len(popularity))
        counts[span] = train.from_user(span.start).user_counts(span.stop - span.start)
        users.append(train.user_rows)
        items.append(train.item_rows)
        for writer, values in ((times, train.timestamps), (weights, train.weights)):
            if writer is not None and values is not None:
                writer.append(values)
        for stage, label in zip(STAGES, (VALIDATION, TEST), strict=True):
            pairs = rows.take(labels == label)
            pair_writers[stage][0].append(pairs.user_rows)
            pair_writers[stage][1].append(pairs.item_rows)
    for writer in (users, items, times, weights, *(w for pair in pair_writers.values() for w in pair)):
        if writer is not None:
            writer.close()
    refuse_no_test(pair_writers["test"][0].rows, options)
    held_out = {
        stage: StoredPairs(ColumnFile(user_rows.path), ColumnFile(item_rows.path))
        for stage, (user_rows, item_rows) in pair_writers.items()
    }
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    return StoredSplit(table, popularity, offsets, ColumnFile(items.path), held_out, plan.how)
