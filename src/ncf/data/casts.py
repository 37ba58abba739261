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
    if dtype.is_float():
        return pl.when(column.round() == column).then(column).cast(pl.Int64, strict=False)
    return column.cast(pl.Int64, strict=False)


def is_text(column: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Whether a value is an id that an integer cannot carry: text, or a number with leading zeros or a plus
    sign.
    """
    if dtype == pl.String:
        not_canonical = (column.str.starts_with("0") & (column.str.len_bytes() > 1)) | column.str.starts_with(
            "+"
        )
        not_canonical = not_canonical | column.str.starts_with("-0")
        no_number = column.is_not_null() & column.cast(pl.Int64, strict=False).is_null()
        return (not_canonical | no_number).fill_null(False)
    if dtype.is_integer() and dtype != pl.UInt64:
        return pl.lit(False)
    if dtype.is_float():
        return pl.lit(False)
    return column.is_not_null()


def gap_sentence(purpose: str, column: str, raw: Any, where: str, count: int) -> str:
    rows = f"{count:,} row{'s' if count > 1 else ''} in all"
    if raw is None:
        return (
            f"The {purpose} (column '{column}') is missing in {where} ({rows}): the file may be cut off; "
            "complete or remove those rows."
        )
    if isinstance(raw, float) and raw != raw:
        return f"The {purpose} (column '{column}') is NaN in {where} ({rows}): remove those rows."
    if purpose == "time" and _is_number(raw):
        return (
            f"The time (column '{column}') is {raw} in {where} ({rows}): times must be numbers from 0 on; "
            "correct or remove those rows."
        )
    due = "a number or an ISO date" if purpose == "time" else "a number"
    if purpose in ("user", "item"):
        due = "an id"
    return (
        f"The {purpose} (column '{column}') is '{raw}' in {where} ({rows}), where {due} is due: "
        "correct those rows."
    )


def _is_number(raw: Any) -> bool:
    try:
        float(raw)
    except (TypeError, ValueError):
        return not isinstance(raw, str)
    return True
