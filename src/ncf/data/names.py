"""Which column of a file is the user, the item, the time, the rating.

In: the columns that are there and the names that the caller gave. Out: purpose -> column. The decision worth
knowing: a name that is given must be there; without one the usual names are tried in order, without regard to
case and to RecBole's type suffixes (`user_id:token`), and the error lists the columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from ncf.data.formats import Source, bare
from ncf.errors import DataError

GUESSES = {
    "user": (
        "user",
        "user_id",
        "userid",
        "uid",
        "visitorid",
        "visitor_id",
        "customer_id",
        "customerid",
        "reviewerid",
    ),
    "item": (
        "item",
        "item_id",
        "itemid",
        "iid",
        "movieid",
        "movie_id",
        "product_id",
        "productid",
        "asin",
        "artist_id",
    ),
    "time": ("timestamp", "time", "ts", "unixreviewtime", "event_time", "date", "datetime", "created_at"),
    "rating": ("rating", "ratings", "score", "stars", "overall"),
}


@dataclass(frozen=True)
class ColumnNames:
    """The names in the file; None: guess it (user, item, time, rating) or leave it out (weight)."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    weight: str | None = None


def resolve(schema: pl.Schema, names: ColumnNames, origin: Source, need_time: bool) -> dict[str, str]:
    """Purpose (user, item, time, rating, weight) -> the column of the file."""
    found = {}
    for purpose in ("user", "item", "time", "rating", "weight"):
        wanted: str | None = getattr(names, purpose)
        column = _match(schema, (wanted,)) if wanted else _match(schema, GUESSES.get(purpose, ()))
        required = wanted is not None or purpose in ("user", "item") or (purpose == "time" and need_time)
        if column is None and required:
            raise DataError(_no_column(purpose, wanted, schema, origin))
        if column is not None:
            found[purpose] = column
    if found["user"] == found["item"]:
        raise DataError(
            f"The user and the item cannot both be the column '{found['user']}': name two columns."
        )
    return found


def _match(schema: pl.Schema, wanted: tuple[str, ...]) -> str | None:
    spellings = [
        {name: name for name in schema},
        {bare(name): name for name in reversed(list(schema))},
        {bare(name).lower(): name for name in reversed(list(schema))},
    ]
    for name in wanted:
        for table, key in zip(spellings, (name, name, name.lower()), strict=True):
            if key in table:
                return table[key]
    return None


def _misread(schema: pl.Schema, origin: Source) -> str | None:
    """The sentence for a text file whose delimiter or header is not what its name says."""
    names = list(schema)
    if origin.format != "csv" or not origin.header:
        return None
    used = next((mark for mark in (";", "\t", "|", ",") if mark in names[0]), None)
    if len(names) == 1 and used is not None:
        shown = "\\t" if used == "\t" else used
        return f"{origin.path} has one column only, '{names[0]}': its delimiter may be --delimiter '{shown}'."
    if all(re.fullmatch(r"-?[0-9.]+(_duplicated_[0-9]+)?", name) for name in names):
        return (
            f"The first line of {origin.path} holds data ({', '.join(names)}) and no names: use --no-header."
        )
    return None


def _no_column(purpose: str, wanted: str | None, schema: pl.Schema, origin: Source) -> str:
    if misread := _misread(schema, origin):
        return misread
    what = f"There is no column '{wanted}'" if wanted else f"No column looks like the {purpose}"
    columns = ", ".join(f"'{bare(name)}'" for name in schema)
    otherwise = ", or use --split random" if purpose == "time" and wanted is None else ""
    return f"{what} in {origin.path}: name it with --{purpose}{otherwise}; the columns are {columns}."
