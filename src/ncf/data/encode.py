"""Interactions as rows, with the vocabularies that say whose and of what.

In: the columns of a file. Out: `Table`. The decision worth knowing: of a repeated pair the latest is kept
before the least rating is applied, so a film that somebody liked once and disliked later is not a positive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ncf.data.columns import GUESSES
from ncf.data.interactions import Bool, Int32, Int64, Interactions, latest
from ncf.data.options import PrepareOptions
from ncf.data.readers import Columns
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


_NAMES = {
    "title": ("title", "movie_title", "name", "item_name"),
    "year": ("year", "release_year"),
    "genres": ("genres", "genre", "class", "category", "categories"),
}
_RESERVED = ("id", "popularity")


def item_columns(
    ids: pl.Series, popularity: Int64, table: pl.DataFrame | None = None, id_name: str | None = None
) -> pl.DataFrame:
    """`id`, `popularity` and the columns of `table` for the same ids: [I] rows in the order of `ids`."""
    base = pl.DataFrame({"id": ids, "popularity": popularity})
    if table is None:
        return base
    key = _id_column(table, id_name)
    rows = Vocabulary.build(ids).rows(table[key])
    matched = table.drop(key).with_columns(pl.Series("_row", rows)).filter(pl.col("_row") >= 0)
    matched = matched.unique("_row", keep="first", maintain_order=True)
    wide = base.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("_row"))
    return wide.join(_renamed(matched), on="_row", how="left", maintain_order="left").drop("_row")


def _id_column(table: pl.DataFrame, id_name: str | None) -> str:
    lower = {name.lower(): name for name in reversed(table.columns)}
    for name in (id_name,) if id_name else ("id", *GUESSES["item"]):
        if name.lower() in lower:
            return lower[name.lower()]
    what = f"no column '{id_name}'" if id_name else "no column that looks like the item id"
    raise DataError(
        f"There is {what} in the table of items: name it with --items-id; the columns are "
        f"{', '.join(table.columns)}."
    )


def _renamed(table: pl.DataFrame) -> pl.DataFrame:
    names = {}
    for target, candidates in _NAMES.items():
        found = next((name for name in candidates if name in table.columns), None)
        if found is not None and found != target and target not in table.columns:
            names[found] = target
    table = table.rename(names)
    table = table.drop([name for name in _RESERVED if name in table.columns])
    table = table.with_columns(_flat(table[name]) for name in table.columns)
    first = [name for name in _NAMES if name in table.columns]
    return table.select([*first, *[name for name in table.columns if name not in first]])


def _flat(column: pl.Series) -> pl.Series:
    """Lists as words in one string, structs as JSON; other columns as they are."""
    if isinstance(column.dtype, pl.List):
        return column.cast(pl.List(pl.String)).list.join(" ")
    if isinstance(column.dtype, pl.Struct):
        return column.struct.json_encode()
    return column


def k_core(interactions: Interactions, users: int, items: int, min_user: int, min_item: int) -> Bool:
    """The rows that stay when users and items with too few interactions go, again and again until none is
    left.
    """
    keep = np.ones(len(interactions), bool)
    while True:
        user_counts = np.bincount(interactions.user_rows[keep], minlength=users)
        item_counts = np.bincount(interactions.item_rows[keep], minlength=items)
        enough = (user_counts >= min_user)[interactions.user_rows] & (item_counts >= min_item)[
            interactions.item_rows
        ]
        enough &= keep
        if int(enough.sum()) == int(keep.sum()):
            return keep
        keep = enough
