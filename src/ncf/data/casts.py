"""From the text or numbers of a column to ids, times and ratings, and the sentence when a value does not fit.

In: a column as a Polars expression and its type. Out: expressions, null where the cast fails. The decision
worth knowing: times keep the unit of the source when they are whole numbers; dates and fractions become
microseconds.
"""

from __future__ import annotations

from typing import Any

import polars as pl

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
    """Int64 times. `written`: "integer", "whole" (floats without fractions), "float", "datetime", or a
    format.
    """
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
    """What is wrong with the value `raw` of a column and what to do; `negative`: it is a time before 0."""
    what = f"The {purpose} (column '{column}')"
    place = f"in {where} ({count:,} row{'s' if count > 1 else ''} in all)"
    if raw is None:
        return f"{what} is missing {place}: the file may be cut off; complete or remove those rows."
    if isinstance(raw, float) and raw != raw:
        return f"{what} is NaN {place}: remove those rows."
    if negative:
        return f"{what} is {raw} {place}, which is before 0 or 1970: correct or remove those rows."
    due = {"user": "an id", "item": "an id", "time": "a number or an ISO date"}.get(purpose, "a number")
    return f"{what} is '{raw}' {place}, where {due} is due: correct those rows."
