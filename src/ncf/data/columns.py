"""Which column of a file is the user, the item, the time or the rating.

In: the schema of a file and the names that the caller gave. Out: purpose -> column. The decisions worth
knowing: a given name must be in the file; otherwise the usual names are tried in order, ignoring case and
RecBole's type suffixes (`user_id:token`). A guessed column that no option needs is not read, and a guessed
time that nobody needs never stops the reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import polars as pl

from ncf.data.formats import Source, bare
from ncf.data.values import described
from ncf.errors import DataError

GUESSES: dict[str, tuple[str, ...]] = {
    "user": ("user", "user_id", "userid", "uid", "visitorid", "visitor_id", "customer_id", "customerid",
             "reviewerid"),
    "item": ("item", "item_id", "itemid", "iid", "movieid", "movie_id", "product_id", "productid", "asin",
             "artist_id"),
    "time": ("timestamp", "time", "ts", "unixreviewtime", "event_time", "date", "datetime", "created_at"),
    "rating": ("rating", "ratings", "score", "stars", "overall"),
}  # fmt: skip
"""The usual names of each column, in the order in which they are tried."""
_SEVERAL = "_seq"
_MOST_NAMED = 40


@dataclass(frozen=True)
class ColumnNames:
    """The names in the file; None: guess it (user, item, time, rating) or leave it out (weight, event).

    `without`: purposes whose column is not looked for. `event_weights`: what a row of each type weighs, where
    `event` names the column of types. `counted`: rows without a weight of their own weigh 1.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    weight: str | None = None
    without: frozenset[str] = frozenset()
    event: str | None = None
    event_weights: Mapping[str, float] = field(default_factory=dict)
    counted: bool = False


@dataclass(frozen=True)
class Needs:
    """Which of the guessed columns the caller needs: a file without them is refused."""

    time: bool = False
    rating: bool = False


def resolve(schema: pl.Schema, names: ColumnNames, origin: Source, needs: Needs) -> dict[str, str]:
    """Purpose (user, item, time, rating, event, weight) -> the column of the file.

    `schema`: the columns that the file has; `names`: those the caller asks for; `origin`: for error messages.
    """
    column_of = {}
    for purpose in ("user", "item", "time", "rating", "event", "weight"):
        wanted: str | None = getattr(names, purpose)
        needed = purpose in ("user", "item") or getattr(needs, purpose, False)
        if purpose in names.without or (purpose == "rating" and not (wanted or needed)):
            if needed:
                raise DataError(_left_out_and_needed(purpose))
            continue
        column = _match(schema, (wanted,)) if wanted else _match(schema, GUESSES.get(purpose, ()))
        if column is None and (wanted or needed):
            raise DataError(_no_column(purpose, wanted, schema, origin))
        if column is not None:
            if wanted or needed:
                _refuse_several(purpose, column, schema, origin)
            elif _several(column, schema):
                continue
            column_of[purpose] = column
    if column_of["user"] == column_of["item"]:
        raise DataError(
            f"The user and the item cannot both be the column '{column_of['user']}': name two columns."
        )
    return column_of


def guessed(schema: Iterable[str], purpose: str) -> str | None:
    """The column of `schema` that looks like `purpose`, or None."""
    return _match(schema, GUESSES[purpose])


def find(schema: Iterable[str], name: str) -> str | None:
    """The column called `name`, in any case of letters and with any type suffix, or None."""
    return _match(schema, (name,))


def is_heading(text: str, purpose: str, name: str | None = None) -> bool:
    """Whether `text` is a usual name of the column of `purpose`, or `name`, in any case of letters."""
    return bare(text).lower() in {*GUESSES[purpose], (name or "").lower()} - {""}


def _match(schema: Iterable[str], wanted: tuple[str, ...]) -> str | None:
    columns = list(schema)
    spellings: list[Mapping[str, str]] = [
        {name: name for name in columns},
        {bare(name): name for name in reversed(columns)},
        {bare(name).lower(): name for name in reversed(columns)},
    ]
    for name in wanted:
        for table, key in zip(spellings, (name, name, name.lower()), strict=True):
            if key in table:
                return table[key]
    return None


def _several(column: str, schema: pl.Schema) -> str | None:
    if column.partition(":")[2].endswith(_SEVERAL):
        return "several values a row"
    return described(schema[column])


def _refuse_several(purpose: str, column: str, schema: pl.Schema, origin: Source) -> None:
    """Raise `DataError` for a column of lists, objects or other values that no id or number can be."""
    if held := _several(column, schema):
        texts = {"user": "an id", "item": "an id", "event": "a type"}
        due = f"{texts[purpose]} is an integer or a text" if purpose in texts else "a number is expected"
        raise DataError(
            f"The {purpose} (column '{column}') of {origin.path} holds {held}, and {due}: name another "
            f"column with --{purpose}."
        )


def _left_out_and_needed(purpose: str) -> str:
    if purpose == "time":
        return "--no-time leaves the times out and the split needs them: use --split random."
    return "--no-rating leaves the ratings out and --min-rating needs them: give one of the two."


def _misread(schema: pl.Schema, origin: Source) -> str | None:
    """The sentence for a text file whose delimiter or header is not what its name says."""
    names = list(schema)
    if origin.format != "csv" or not origin.header:
        return None
    if any("\r" in name for name in names):
        return f"The lines of {origin.path} end in carriage returns alone: write it again with line feeds."
    used = next((mark for mark in (";", "\t", "|", ",") if mark in names[0]), None)
    if len(names) == 1 and used is not None:
        shown = "\\t" if used == "\t" else used
        return f"{origin.path} has only one column, '{names[0]}': its delimiter may be --delimiter '{shown}'."
    if all(re.fullmatch(r"-?[0-9.]+(_duplicated_[0-9]+)?", name) for name in names):
        return f"The first line of {origin.path} holds data ({', '.join(names)}), not names: use --no-header."
    return None


def _no_column(purpose: str, wanted: str | None, schema: pl.Schema, origin: Source) -> str:
    if misread := _misread(schema, origin):
        return misread
    what = f"There is no column '{wanted}'" if wanted else f"No column looks like the {purpose}"
    shown = [f"'{bare(name)}'" for name in schema]
    columns = ", ".join(shown[:_MOST_NAMED]) + (", …" if len(shown) > _MOST_NAMED else "")
    otherwise = ", or use --split random" if purpose == "time" and wanted is None else ""
    return f"{what} in {origin.path}: name it with --{purpose}{otherwise}; the columns are {columns}."
