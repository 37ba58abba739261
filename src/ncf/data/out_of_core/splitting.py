"""Who gives what up: the split of columns that lie on the disk, user by user.

In: `SortedInteractions` and the options. Out: `Split`: training as columns of the folder that is made, and the held-out pairs. The
decision worth knowing: it is the code of the split in memory, asked about some users at a time. What it draws at random
it draws in the order of the users from one generator, so the parts draw what the whole would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncf.data.candidates import generator_for
from ncf.data.interactions import Bool, Int64, Interactions
from ncf.data.options import PrepareOptions
from ncf.data.out_of_core.column_files import ColumnFile, Writer
from ncf.data.out_of_core.filters import compact, order_statistic
from ncf.data.out_of_core.sorted_interactions import SortedInteractions
from ncf.data.splits import (
    all_but,
    as_scheme,
    cut_ranks,
    eligible_users,
    hold_out,
    how_cut,
    refuse_empty_past,
    refuse_no_test_after,
    times_of,
    validation_share,
)

Parts = tuple[Interactions, Interactions, Interactions]
"""Training, validation and test of some users."""
STAGES = ("validation", "test")


@dataclass(frozen=True)
class Held:
    """Held-out pairs on the disk: [T] each, by user."""

    user_rows: ColumnFile
    item_rows: ColumnFile


@dataclass(frozen=True)
class Split:
    """What the split made. `train_offsets` [U + 1] and `train_items` are training's items by user."""

    table: SortedInteractions
    popularity: Int64
    train_offsets: Int64
    train_items: ColumnFile
    held: dict[str, Held]
    how: dict[str, Any]
    dropped: dict[str, int]


def split(table: SortedInteractions, options: PrepareOptions, folder: Path, scratch: Path) -> Split:
    """Write `train_*.npy`, `validation_users.npy` and `test_users.npy` into `folder`."""
    if options.split == "time":
        table, parts_of, how, dropped = _cut(table, options, scratch)
    else:
        (parts_of, how), dropped = _leave_one_out(table, options), {}
    return _write(table, parts_of, folder, scratch, how, dropped)


def _leave_one_out(
    table: SortedInteractions, options: PrepareOptions
) -> tuple[Callable[[slice, Interactions], Parts], dict[str, Any]]:
    scheme, eligible, how = eligible_users(np.diff(table.offsets), len(table.items), options)
    if options.split == "last" or scheme == "last":
        times_of(table.times)
    exponent = options.validation_popularity_exponent if scheme == "random" else 0.0
    popularity = _popularity_without_test(table, options, eligible) if exponent else None
    test_draws = generator_for(options.seed, "test split")
    validation_draws = generator_for(options.seed, "validation split")

    def parts_of(users: slice, part: Interactions) -> Parts:
        give = eligible[users]
        local = Interactions(part.user_rows - users.start, part.item_rows, part.timestamps, part.weights)
        test_at = hold_out(local, len(give), as_scheme(options.split), give, test_draws)
        left = all_but(test_at, len(part))
        rest, local = part.take(left), local.take(left)
        at = np.zeros(0, np.int64)
        if scheme != "none":
            at = hold_out(local, len(give), as_scheme(scheme), give, validation_draws, exponent, popularity)
        return rest.take(all_but(at, len(rest))), rest.take(at), part.take(test_at)

    return parts_of, how


def _popularity_without_test(table: SortedInteractions, options: PrepareOptions, eligible: Bool) -> Int64:
    """How often each item occurs when the test is taken out: a pass of its own, which draws the same test."""
    counts, draws = np.zeros(len(table.items), np.int64), generator_for(options.seed, "test split")
    for users, part in table.parts():
        local = Interactions(part.user_rows - users.start, part.item_rows, part.timestamps)
        at = hold_out(local, users.stop - users.start, as_scheme(options.split), eligible[users], draws)
        np.add.at(counts, part.item_rows[all_but(at, len(part))], 1)
    return counts


def _cut(
    table: SortedInteractions, options: PrepareOptions, scratch: Path
) -> tuple[SortedInteractions, Callable[[slice, Interactions], Parts], dict[str, Any], dict[str, int]]:
    """The last part of all time is the test; what training does not know is dropped, with its users and items."""
    times = times_of(table.times)
    ranks = cut_ranks(len(table), options.test_fraction, validation_share(options))
    low, high = (order_statistic(times, rank) for rank in ranks)
    known_users, known_items = np.zeros(len(table.users), bool), np.zeros(len(table.items), bool)
    for _, part in table.parts():
        before = times_of(part.timestamps) < low
        known_users[part.user_rows[before]] = True
        known_items[part.item_rows[before]] = True
    kept = compact(table, known_users, known_items, scratch / "known")
    refuse_empty_past(len(kept.users), len(kept.items))
    enough = len(kept.items) - np.diff(kept.offsets) >= options.negatives
    tests = 0

    def parts_of(_users: slice, part: Interactions) -> Parts:
        times = times_of(part.timestamps)
        here = enough[part.user_rows]
        test, validation = (times >= high) & here, (times >= low) & (times < high) & here
        return part.take(~(test | validation)), part.take(validation), part.take(test)

    for users, part in kept.parts():
        tests += len(parts_of(users, part)[2])
    refuse_no_test_after(tests)
    dropped = {"unknown_after_cut": len(table) - len(kept)}
    return kept, parts_of, how_cut(enough, options), dropped


def _write(
    table: SortedInteractions,
    parts_of: Callable[[slice, Interactions], Parts],
    folder: Path,
    scratch: Path,
    how: dict[str, Any],
    dropped: dict[str, int],
) -> Split:
    users, items = Writer(folder / "train_users.npy", np.int32), Writer(folder / "train_items.npy", np.int32)
    times = Writer(folder / "train_timestamps.npy", np.int64) if table.times is not None else None
    weights = Writer(folder / "train_weights.npy", np.float32) if table.weights is not None else None
    held = {
        stage: (Writer(folder / f"{stage}_users.npy", np.int32), Writer(scratch / f"{stage}_items.npy", np.int32))
        for stage in STAGES
    }  # fmt: skip
    popularity, counts = np.zeros(len(table.items), np.int64), np.zeros(len(table.users), np.int64)
    for span, part in table.parts():
        train, *out = parts_of(span, part)
        np.add.at(popularity, train.item_rows, 1)
        counts[span] = np.bincount(train.user_rows - span.start, minlength=span.stop - span.start)
        users.append(train.user_rows)
        items.append(train.item_rows)
        for writer, values in ((times, train.timestamps), (weights, train.weights)):
            if writer is not None and values is not None:
                writer.append(values)
        for stage, pairs in zip(STAGES, out, strict=True):
            held[stage][0].append(pairs.user_rows)
            held[stage][1].append(pairs.item_rows)
    for writer in (users, items, times, weights, *(one for pair in held.values() for one in pair)):
        if writer is not None:
            writer.close()
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    pairs_of = {
        stage: Held(ColumnFile(one.path), ColumnFile(other.path)) for stage, (one, other) in held.items()
    }
    return Split(table, popularity, offsets, ColumnFile(items.path), pairs_of, how, dropped)
