"""The columns of the items: id, popularity, and whatever a side table says about them.

In: ids and popularity by item row, and optionally a table with titles. Out: one Polars frame, a row for each
item row. The decision worth knowing: the common names for a title, a year and genres are turned into `title`,
`year` and `genres`; all other columns keep theirs, and an item that the table lacks has nulls.
"""

from __future__ import annotations

import polars as pl

from ncf.data.interactions import Int64
from ncf.data.names import GUESSES
from ncf.data.vocabulary import Vocabulary
from ncf.errors import DataError

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
