"""The values of a table: one parser for ids, times and numbers, whatever the format of the file.

In: a column of a scanned file and its type. Out: Polars expressions that are null where a value does not fit.
The decisions worth knowing: an id is an integer or a text; a decimal of whole value stands for its integer,
and the bytes of a UUID for its text. Times that are whole numbers keep their unit; dates and fractions become
microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

TIME_FORMATS = (
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f UTC",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d",
    "%Y/%m/%d %H:%M:%S",
)
_ISO = (
    r"^\s*(\d{4})[-/](\d{1,2})[-/](\d{1,2})"
    r"(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(\.\d+)?)?\s*(?:(Z|z|UTC|GMT)|([+-])(\d{2}):?(\d{2})?)?)?\s*$"
)
_WHOLE_NUMBER = r"^[+-]?[0-9]+$"
_WHOLE_DECIMAL = r"^(?:0|-?[1-9][0-9]*)(?:\.0+)?$"
_PRINTABLE = r"^(?:[2-7][0-9a-f])*$"
_UUID = r"^(.{8})(.{4})(.{4})(.{4})(.{12})$"
_NO_VALUES = (pl.Duration, pl.Time, pl.Object, pl.Unknown)

TimeFacts = Mapping[str, int | None]
"""How many values of a column of times are written in each way (see `time_facts`)."""


def time_facts(column: pl.Expr) -> list[pl.Expr]:
    """Counts of the non-null values: `numbers`, `decimals`, `fractions`, `dates`, and of each time format.

    `decimals` are the numbers that are not written as integers, `fractions` those that are not whole.
    """
    text = column.cast(pl.String)
    number = text.cast(pl.Float64, strict=False)
    finite = number.is_finite()
    formats = [
        text.str.to_datetime(form, strict=False, time_unit="us").is_not_null().sum().alias(form)
        for form in TIME_FORMATS
    ]
    return [
        finite.sum().alias("numbers"),
        (finite & ~text.str.contains(_WHOLE_NUMBER)).sum().alias("decimals"),
        (finite & (number != number.round())).sum().alias("fractions"),
        text.str.contains(_ISO).sum().alias("dates"),
        *formats,
    ]


def time_written(facts: TimeFacts) -> str:
    """How a column is written: "integer", "whole" (decimals of whole value), "float", a format, or "iso"."""
    counts = {name: count or 0 for name, count in facts.items()}
    if counts["dates"] > counts["numbers"]:
        return next((form for form in TIME_FORMATS if counts[form] >= counts["dates"]), "iso")
    if counts["fractions"]:
        return "float"
    return "whole" if counts["decimals"] else "integer"


def as_time(column: pl.Expr, written: str) -> pl.Expr:
    """Int64 times. `written`: as `time_written` says, or "datetime" for a type of dates."""
    if written == "integer":
        return column.cast(pl.Int64, strict=False)
    if written == "datetime":
        return column.cast(pl.Datetime("us")).cast(pl.Int64)
    if written in ("whole", "float"):
        number = column.cast(pl.Float64, strict=False)
        number = pl.when(number.is_finite()).then(number)
        if written == "whole":
            number = pl.when(number == number.round()).then(number)
            return number.cast(pl.Int64, strict=False)
        return (number * 1e6).round().cast(pl.Int64, strict=False)
    if written == "iso":
        return _moment(column)
    return column.str.to_datetime(written, time_unit="us", strict=False).cast(pl.Int64)


def _moment(column: pl.Expr) -> pl.Expr:
    """Microseconds since 1970 of ISO 8601 text, each value with an offset of its own."""
    part = column.str.extract_groups(_ISO).struct
    padded = (part[0], part[1].str.zfill(2), part[2].str.zfill(2))
    days = pl.concat_str(padded, separator="-").str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64)
    hour, minute, second, ahead_hours, ahead_minutes = (
        part[index].cast(pl.Int64).fill_null(0) for index in (3, 4, 5, 9, 10)
    )
    ahead = (ahead_hours * 60 + ahead_minutes) * pl.when(part[8] == "-").then(-1).otherwise(1)
    microseconds = (part[6].cast(pl.Float64).fill_null(0) * 1e6).floor().cast(pl.Int64)
    seconds = ((days * 24 + hour) * 60 + minute - ahead) * 60 + second
    valid = (hour < 24) & (minute < 60) & (second <= 60)
    return pl.when(valid).then(seconds * 1_000_000 + microseconds)


def as_integer(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """An id as Int64; null where that is not possible."""
    if dtype.is_float() or dtype.is_decimal():
        return pl.when(column.floor() == column).then(column).cast(pl.Int64, strict=False)
    if dtype.is_integer() or dtype == pl.String:
        return column.cast(pl.Int64, strict=False)
    return pl.lit(None, pl.Int64)


def is_text(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Whether a value is an id that Int64 cannot carry: text, digits after a zero or sign, a wide integer."""
    if dtype == pl.String:
        number = column.cast(pl.Int64, strict=False)
        return column.is_not_null() & (number.is_null() | (number.cast(pl.String) != column))
    if dtype.is_decimal():
        return (column.floor() == column).fill_null(False) & as_integer(column, dtype).is_null()
    if dtype.is_float():
        return pl.lit(False)
    return column.is_not_null() & as_integer(column, dtype).is_null()


def as_text(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """An id as text; null for a number that is not whole."""
    if dtype.is_decimal():
        whole = pl.when(column.floor() == column).then(column)
        return whole.cast(pl.String).str.replace(r"\.0+$", "")
    return column.cast(pl.String)


def as_type(column: str) -> pl.Expr:
    """The type of an event as text; a number of whole value as its integer, as in every format."""
    return pl.col(column).cast(pl.String).str.replace(r"^(-?[0-9]+)\.0+$", "$1")


def as_integers(texts: pl.Series) -> pl.Series | None:
    """Ids [N] that are all integers, as Int64, or as text where one is wider; None where one is no integer.

    A decimal of whole value such as `1.0` stands for its integer. `texts`: a whole column, or what is
    distinct in it.
    """
    if not bool(texts.str.contains(_WHOLE_DECIMAL).all()):
        return None
    digits = without_decimals(texts)
    numbers = digits.cast(pl.Int64, strict=False)
    return digits if numbers.null_count() > texts.null_count() else numbers


def without_decimals(texts: pl.Series) -> pl.Series:
    """`1.0` becomes `1`, in a column of which `as_integers` knows that all are integers."""
    return texts.str.replace(r"\.0+$", "")


def bytes_as_text(values: pl.Series) -> pl.Expr | None:
    """The expression that makes text of a column of bytes, `values` [N]; None where no rule fits.

    Sixteen bytes in every row that are not plain text are UUIDs; all else must be UTF-8.
    """
    column = pl.col(values.name)
    plain = bool(values.bin.encode("hex").str.contains(_PRINTABLE).all())
    if not plain and bool((values.bin.size() == 16).all()):
        return column.bin.encode("hex").str.replace(_UUID, "$1-$2-$3-$4-$5")
    try:
        values.cast(pl.String)
    except pl.exceptions.PolarsError:
        return None
    return column.cast(pl.String)


def described(dtype: pl.DataType | None) -> str | None:
    """What a column holds that no id, time or rating can be read from; None for a type with values."""
    if dtype is None:
        return None
    if dtype.is_nested():
        return "objects" if isinstance(dtype, pl.Struct) else "lists"
    return f"values of the type {dtype}" if dtype.base_type() in _NO_VALUES else None


def unified(dtypes: list[pl.DataType]) -> pl.DataType:
    """The type in which columns of these types are brought together: text where nothing closer fits."""
    if len(set(dtypes)) == 1:
        return dtypes[0]
    if any(dtype.is_nested() for dtype in dtypes):
        return pl.List(pl.Null)
    if all(dtype.is_integer() and dtype not in (pl.UInt64, pl.Int128, pl.UInt128) for dtype in dtypes):
        return pl.Int64()
    if all(dtype.is_temporal() and described(dtype) is None for dtype in dtypes):
        return pl.Datetime("us")
    return pl.String()


def as_unified(column: pl.Expr, dtype: pl.DataType, target: pl.DataType) -> pl.Expr:
    """A column of type `dtype` in the type that `unified` gave."""
    if dtype == target:
        return column
    if target.is_nested():
        return pl.lit(None, target)
    if dtype == pl.Datetime and target == pl.String:
        return column.cast(pl.Datetime("us")).cast(pl.String)
    if dtype.is_float() and target == pl.String:
        whole = pl.when(column.floor() == column).then(column).cast(pl.Int64, strict=False)
        return whole.cast(pl.String).fill_null(column.cast(pl.String))
    return as_text(column, dtype) if target == pl.String else column.cast(target)


def gap_sentence(purpose: str, column: str, raw: Any, where: str, count: int, negative: bool = False) -> str:
    """What is wrong with a value of a column, and the remedy.

    `raw`: the value, None if it is missing; `where`: its line or file; `count`: how many rows have a wrong
    value; `negative`: it is a time or a weight below 0.
    """
    what = f"The {purpose} (column '{column}')"
    rows = f"in {where} ({count:,} row{'s' if count > 1 else ''} in all)"
    if raw is None:
        return f"{what} is missing {rows}: complete or remove those rows."
    if isinstance(raw, float) and raw != raw:
        return f"{what} is NaN {rows}: remove those rows."
    if negative:
        below = "before 0 or 1970" if purpose == "time" else "below 0"
        return f"{what} is {raw} {rows}, which is {below}: correct or remove those rows."
    due = {"user": "an id", "item": "an id", "time": "a number or an ISO date"}.get(purpose, "a number")
    return f"{what} is '{raw}' {rows}, where {due} is expected: correct those rows."
