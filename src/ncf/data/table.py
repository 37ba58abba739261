"""Interactions as rows, with the vocabularies that say whose and of what.

In: the columns of a file. Out: `Table`. The decision worth knowing: of a repeated pair the latest is kept
before the least rating is applied, so a film that somebody liked once and disliked later is not a positive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ncf.data.interactions import Bool, Int32, Interactions, latest
from ncf.data.options import PrepareOptions
from ncf.data.readers import Columns
from ncf.data.splits import k_core
from ncf.data.vocabulary import Vocabulary, encode
from ncf.errors import DataError


@dataclass(frozen=True)
class Table:
    """Encoded interactions, [N] and sorted by user and item, with the two vocabularies."""

    users: Vocabulary
    items: Vocabulary
    interactions: Interactions


def encode_columns(columns: Columns, options: PrepareOptions) -> tuple[Table, dict[str, int]]:
    """Ids to rows, the latest of each pair, and the least rating."""
    users, user_rows = encode(columns.user, columns.names["user"])
    items, item_rows = encode(columns.item, columns.names["item"])
    times = None if columns.time is None else columns.time.to_numpy()
    weights = None if columns.weight is None else columns.weight.to_numpy()
    order = latest(user_rows, item_rows, len(items), times)
    dropped = {"duplicates": len(user_rows) - len(order)}
    if options.min_rating is not None:
        if columns.rating is None:
            raise DataError("--min-rating needs a rating column, and there is none: name it with --rating.")
        good = columns.rating.to_numpy()[order] >= options.min_rating
        dropped["below_min_rating"] = int((~good).sum())
        order = order[good]
    interactions = Interactions(user_rows, item_rows, times, weights).take(order)
    return compact(Table(users, items, interactions)), dropped


def compact(table: Table) -> Table:
    """Leave users and items that no interaction has out of the vocabularies. The order stays."""
    interactions = table.interactions
    used_users = interactions.user_counts(len(table.users)) > 0
    used_items = interactions.item_counts(len(table.items)) > 0
    if bool(used_users.all()) and bool(used_items.all()):
        return table
    user_rows = _renumber(used_users)[interactions.user_rows]
    item_rows = _renumber(used_items)[interactions.item_rows]
    return Table(
        Vocabulary(table.users.ids[used_users]),
        Vocabulary(table.items.ids[used_items]),
        replace(interactions, user_rows=user_rows, item_rows=item_rows),
    )


def _renumber(used: Bool) -> Int32:
    return (np.cumsum(used) - 1).astype(np.int32)


def filtered(table: Table, options: PrepareOptions) -> tuple[Table, dict[str, int]]:
    if options.min_user <= 1 and options.min_item <= 1:
        return table, {}
    users, items = len(table.users), len(table.items)
    keep = k_core(table.interactions, users, items, options.min_user, options.min_item)
    filtered = compact(Table(table.users, table.items, table.interactions.take(keep)))
    return filtered, {
        "k_core_interactions": int((~keep).sum()),
        "k_core_users": users - len(filtered.users),
        "k_core_items": items - len(filtered.items),
    }


def refuse_trivial(users: int, items: int) -> None:
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
