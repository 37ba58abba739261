"""Which column of a file is the user, the item, the time or the rating, and how its values are cast.

In: the schema of a file and the names that the caller gave. Out: purpose -> column, and Polars expressions
that are null where a value does not fit. The decisions worth knowing: a given name must be in the file;
otherwise the usual names are tried in order, ignoring case and RecBole's type suffixes (`user_id:token`).
Times that are whole numbers keep their unit; dates and fractions become microseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from ncf.data.formats import Source, bare
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


@dataclass(frozen=True)
class ColumnNames:
    """The names in the file; None: guess it (user, item, time, rating) or leave it out (weight)."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    weight: str | None = None


def resolve(schema: pl.Schema, names: ColumnNames, origin: Source, need_time: bool) -> dict[str, str]:
    """Purpose (user, item, time, rating, weight) -> the column of the file.

    `schema`: the columns that the file has; `names`: those the caller asks for; `origin`: for error messages;
    `need_time`: a file without times is refused.
    """
    column_of = {}
    for purpose in ("user", "item", "time", "rating", "weight"):
        wanted: str | None = getattr(names, purpose)
        column = _match(schema, (wanted,)) if wanted else _match(schema, GUESSES.get(purpose, ()))
        required = wanted is not None or purpose in ("user", "item") or (purpose == "time" and need_time)
        if column is None and required:
            raise DataError(_no_column(purpose, wanted, schema, origin))
        if column is not None:
            column_of[purpose] = column
    if column_of["user"] == column_of["item"]:
        raise DataError(
            f"The user and the item cannot both be the column '{column_of['user']}': name two columns."
        )
    return column_of


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
        return f"{origin.path} has only one column, '{names[0]}': its delimiter may be --delimiter '{shown}'."
    if all(re.fullmatch(r"-?[0-9.]+(_duplicated_[0-9]+)?", name) for name in names):
        return f"The first line of {origin.path} holds data ({', '.join(names)}), not names: use --no-header."
    return None


def _no_column(purpose: str, wanted: str | None, schema: pl.Schema, origin: Source) -> str:
    if misread := _misread(schema, origin):
        return misread
    what = f"There is no column '{wanted}'" if wanted else f"No column looks like the {purpose}"
    columns = ", ".join(f"'{bare(name)}'" for name in schema)
    otherwise = ", or use --split random" if purpose == "time" and wanted is None else ""
    return f"{what} in {origin.path}: name it with --{purpose}{otherwise}; the columns are {columns}."


TIME_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.fZ",
    "%Y-%m-%d %H:%M:%S%.f UTC",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S",
)
_WHOLE_NUMBER = r"^-?[0-9]+$"


def time_format(head: pl.Series) -> str:
    """How the values are written: "integer", "float", or a strptime format; "integer" if nothing fits."""
    if bool(head.str.contains(_WHOLE_NUMBER).all()):
        return "integer"
    if not head.cast(pl.Float64, strict=False).null_count():
        return "float"
    for candidate in TIME_FORMATS:
        if not head.str.to_datetime(candidate, strict=False).null_count():
            return candidate
    return "integer"


def as_time(column: pl.Expr, written: str) -> pl.Expr:
    """Int64 times. `written`: "integer", "whole" (whole floats), "float", "datetime", or a format."""
    if written == "integer":
        return column.cast(pl.Int64, strict=False)
    if written == "datetime":
        return column.cast(pl.Datetime("us")).cast(pl.Int64)
    if written in ("whole", "float"):
        number = column.cast(pl.Float64, strict=False).fill_nan(None)
        scaled = number if written == "whole" else number * 1e6
        return scaled.round().cast(pl.Int64, strict=False)
    return column.str.to_datetime(written, time_unit="us", strict=False).cast(pl.Int64)


def has_fractions(column: pl.Expr) -> pl.Expr:
    """Whether any value of a column of floats, or of text with floats, is not whole."""
    number = column.cast(pl.Float64, strict=False)
    return (number != number.round()).any()


def as_integer(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """The column as Int64; null where that is not possible."""
    if not (_is_numeric(dtype) or dtype == pl.String):
        return pl.lit(None, pl.Int64)
    if dtype.is_float():
        return pl.when(column.round() == column).then(column).cast(pl.Int64, strict=False)
    return column.cast(pl.Int64, strict=False)


def is_text(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Whether a value is an id that an integer cannot carry: text, or digits after a zero or a plus sign."""
    if dtype == pl.String:
        padded = column.str.starts_with("0") & (column.str.len_bytes() > 1)
        signed = column.str.starts_with("+") | column.str.starts_with("-0")
        no_number = column.is_not_null() & column.cast(pl.Int64, strict=False).is_null()
        return (padded | signed | no_number).fill_null(False)
    return pl.lit(False) if _is_numeric(dtype) else column.is_not_null()


def _is_numeric(dtype: pl.DataType) -> bool:
    return dtype.is_float() or (dtype.is_integer() and dtype != pl.UInt64)


def gap_sentence(purpose: str, column: str, raw: Any, where: str, count: int, negative: bool = False) -> str:
    """What is wrong with a value of a column, and the remedy.

    `raw`: the value, None if it is missing; `where`: its line or file; `count`: how many rows have a wrong
    value; `negative`: it is a time before 0.
    """
    what = f"The {purpose} (column '{column}')"
    rows = f"in {where} ({count:,} row{'s' if count > 1 else ''} in all)"
    if raw is None:
        return f"{what} is missing {rows}: the file may be cut off; complete or remove those rows."
    if isinstance(raw, float) and raw != raw:
        return f"{what} is NaN {rows}: remove those rows."
    if negative:
        return f"{what} is {raw} {rows}, which is before 0 or 1970: correct or remove those rows."
    due = {"user": "an id", "item": "an id", "time": "a number or an ISO date"}.get(purpose, "a number")
    return f"{what} is '{raw}' {rows}, where {due} is expected: correct those rows."
