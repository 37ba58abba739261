"""From ids to rows: interactions with their vocabularies, filtered.

In: the columns of a file. Out: a `Table`. The decision worth knowing: the latest of a repeated pair is kept
before the minimum rating is applied, so an item that a user liked once and disliked later is not a positive.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import polars as pl

from ncf.data.interactions import Bool, Interactions, latest_keys, pair_keys
from ncf.data.options import PrepareOptions
from ncf.data.readers import Columns
from ncf.data.tables import InteractionTable, Table
from ncf.data.vocabulary import encode
from ncf.errors import DataError

AnyTable = TypeVar("AnyTable", bound=InteractionTable)


def encode_columns(columns: Columns, options: PrepareOptions) -> Table:
    """Ids to rows, the latest interaction of each pair, and the minimum rating of `options`.

    The columns are handed over, so that `columns` is empty afterwards.
    """
    users, user_rows = encode(columns.hand_over("user"), columns.names["user"])
    items, item_rows = encode(columns.hand_over("item"), columns.names["item"])
    times, weights, ratings = (
        None if (column := columns.hand_over(purpose)) is None else column.to_numpy()
        for purpose in ("time", "weight", "rating")
    )
    unsorted = pl.Series(pair_keys(user_rows, item_rows, len(items)))
    del user_rows, item_rows  # They are in the keys, and this is where memory is shortest.
    summed = weights if options.repeats == "sum" else None
    keys, order, sums = latest_keys(unsorted, times, summed)
    dropped = {repeats_name(options): len(unsorted) - len(order)}
    del unsorted, summed
    weights = sums if sums is not None else None if weights is None else weights[order]
    if options.min_rating is not None:
        if ratings is None:
            raise no_rating_column()
        good = ratings[order] >= options.min_rating
        dropped["below_min_rating"] = int((~good).sum())
        keys, order = keys[good], order[good]
        weights = None if weights is None else weights[good]
    user_rows, item_rows = np.empty(len(keys), np.int32), np.empty(len(keys), np.int32)
    np.floor_divide(keys, len(items), out=user_rows, casting="unsafe")
    np.remainder(keys, len(items), out=item_rows, casting="unsafe")
    del keys
    times = None if times is None else times[order]
    return Table(users, items, Interactions(user_rows, item_rows, times, weights), dropped=dropped)


def repeats_name(options: PrepareOptions) -> str:
    """What rows of repeated pairs are counted as (see `report.REASONS`)."""
    return "repeats_summed" if options.repeats == "sum" else "duplicates"


def no_rating_column() -> DataError:
    """The error for a minimum rating without ratings."""
    return DataError("--min-rating needs a rating column, and there is none: name it with --rating.")


def filter_table(table: AnyTable, options: PrepareOptions) -> AnyTable:
    """Leave the k-core of `options`, and only ids that occur; a table with one user or item is refused."""
    used_users, used_items = k_core(table, 1, 1)
    if options.min_user <= 1 and options.min_item <= 1:
        filtered = table.select(used_users, used_items)
    else:
        users, items = k_core(table, options.min_user, options.min_item)
        filtered = table.select(users, items)
        filtered = filtered.with_dropped(
            {
                "k_core_interactions": len(table) - len(filtered),
                "k_core_users": int(used_users.sum() - users.sum()),
                "k_core_items": int(used_items.sum() - items.sum()),
            }
        )
    refuse_trivial(len(filtered.users), len(filtered.items))
    return filtered


def k_core(table: InteractionTable, min_user: int, min_item: int) -> tuple[Bool, Bool]:
    """Marks of the users [U] and items [I] that stay when those with fewer interactions go, until none goes.

    Each round costs a pass over the rows; memory holds marks and counts of users and items, none of rows.
    """
    keep_users, keep_items = np.ones(len(table.users), bool), np.ones(len(table.items), bool)
    while True:
        user_counts, item_counts = np.zeros(len(keep_users), np.int64), np.zeros(len(keep_items), np.int64)
        for users, rows in table.parts():
            stays = keep_users[rows.user_rows] & keep_items[rows.item_rows]
            kept = Interactions(rows.user_rows[stays], rows.item_rows[stays])
            user_counts[users] = kept.from_user(users.start).user_counts(users.stop - users.start)
            item_counts += kept.item_counts(len(item_counts))
        before = int(keep_users.sum() + keep_items.sum())
        keep_users, keep_items = (
            keep_users & (user_counts >= min_user),
            keep_items & (item_counts >= min_item),
        )
        if int(keep_users.sum() + keep_items.sum()) == before:
            return keep_users, keep_items


def refuse_trivial(users: int, items: int) -> None:
    """Raise `DataError` unless there are two users and two items or more, of whom something can be ranked."""
    if users == 0:
        raise DataError(
            "No interaction is left after the filters: lower --min-rating, --min-user or --min-item."
        )
    for what, size in (("user", users), ("item", items)):
        if size < 2:
            raise DataError(
                f"There is only one {what}, so nothing can be ranked: give data with at least two "
                "users and two items."
            )
