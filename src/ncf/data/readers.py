"""The columns that training needs, read from a file of any known format, local or on s3://.

In: a `Source` and, if they cannot be guessed, the names of the columns. Out: `Columns`: ids not yet turned
into rows, times, ratings, weights. The decision worth knowing: text is scanned lazily as strings and each
column is cast in the same pass, so nothing is inferred from the first rows, `007` stays `007`, and a value
that does not fit is reported with its line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import polars as pl

from ncf.data.columns import (
    ColumnNames,
    as_integer,
    as_time,
    gap_sentence,
    has_fractions,
    is_text,
    resolve,
    time_format,
)
from ncf.data.formats import SCAN_ERRORS, Source, bare, read_error, scan, schema_of
from ncf.errors import DataError


@dataclass(frozen=True)
class Columns:
    """The columns of a file, each [N] and without gaps.

    `user`, `item`: Int64, or Categorical where they are text; `time`: Int64 or None; `rating`, `weight`:
    Float32 or None; `time_unit`: "as given" or "microseconds"; `names`: what each was called in the file.
    """

    user: pl.Series
    item: pl.Series
    time: pl.Series | None
    rating: pl.Series | None
    weight: pl.Series | None
    time_unit: str
    names: dict[str, str]


def read_columns(origin: Source, names: ColumnNames, need_time: bool = False) -> Columns:
    """Read the columns that training needs; every defect of the file is a `DataError`.

    `origin`: the file; `names`: the columns the caller asks for; `need_time`: times must be there.
    """
    return Reading(origin, names, need_time).columns()


class Reading:
    """Passes over the file that cast the columns, and that search for the line of a value that did not fit.

    `column_of`: purpose (user, item, time, rating, weight) -> the column of the file.
    """

    def __init__(self, origin: Source, names: ColumnNames, need_time: bool = False) -> None:
        self.origin, self.frame = origin, scan(origin)
        self.schema = schema_of(self.frame, origin)
        self.column_of = resolve(self.schema, names, origin, need_time)
        self.time_written = self._how_time_is_written()

    @property
    def time_unit(self) -> str:
        """As in `Columns`."""
        return "as given" if self.time_written in ("integer", "whole", "none") else "microseconds"

    @property
    def names(self) -> dict[str, str]:
        """What each column was called in the file, without type suffixes."""
        return {purpose: bare(column) for purpose, column in self.column_of.items()}

    def columns(self) -> Columns:
        """The whole columns, in memory; raises `DataError` for the first value that does not fit."""
        collected = self._collect(self.expressions(text_ids=set()))
        text_ids = {purpose for purpose in ("user", "item") if bool(collected[f"{purpose}_is_text"].any())}
        if text_ids:
            del collected
            collected = self._collect(self.expressions(text_ids))
        if not len(collected):
            raise self.no_rows()
        for purpose in self.column_of:
            wrong = gaps(collected[purpose], purpose)
            if wrong is not None:
                row = int(wrong.arg_true()[0])
                raise self.gap(purpose, row, int(wrong.sum()), is_negative(collected[purpose], purpose, row))
        return Columns(
            user=collected["user"],
            item=collected["item"],
            time=collected.get_column("time", default=None),
            rating=collected.get_column("rating", default=None),
            weight=collected.get_column("weight", default=None),
            time_unit=self.time_unit,
            names=self.names,
        )

    def _collect(self, expressions: list[pl.Expr]) -> pl.DataFrame:
        try:
            return self.frame.select(expressions).collect(engine="streaming")
        except SCAN_ERRORS as error:
            raise read_error(error, self.origin) from error

    def expressions(
        self, text_ids: Collection[str], kind: type[pl.DataType] = pl.Categorical
    ) -> list[pl.Expr]:
        """Expressions for the cast columns.

        `text_ids`: which of user and item hold text, cast to `kind`. The others are cast to integers, and a
        further column `user_is_text` or `item_is_text` marks the values that are text after all.
        """
        return cast_expressions(self.column_of, self.schema, self.time_written, text_ids, kind)

    def _how_time_is_written(self) -> str:
        column = self.column_of.get("time")
        if column is None:
            return "none"
        dtype = self.schema[column]
        if dtype.is_integer():
            return "integer"
        if dtype.is_temporal():
            return "datetime"
        written = "float" if dtype.is_float() else time_format(self._head(column))
        if written != "float":
            return written
        fractions = self._collect([has_fractions(pl.col(column)).alias("fractions")])
        return "float" if fractions.item() else "whole"

    def _head(self, column: str) -> pl.Series:
        try:
            return self.frame.select(pl.col(column).cast(pl.String)).head(1000).collect()[column].drop_nulls()
        except SCAN_ERRORS as error:
            raise read_error(error, self.origin) from error

    def no_rows(self) -> DataError:
        """The error for a file without interactions."""
        return DataError(f"The file {self.origin.path} has no rows: give a file with interactions.")

    def gap(self, purpose: str, row: int, count: int, negative: bool) -> DataError:
        """The error for the value of `purpose` at `row`, the first of `count` that do not fit."""
        try:
            raw = self.frame.select(pl.col(self.column_of[purpose])).slice(row, 1).collect().item()
        except pl.exceptions.PolarsError:
            raw = None
        where = f"row {row + 1:,} of {self.origin.path}"
        if self.origin.format in ("csv", "movielens") and len(self.origin.files) < 2:
            where = f"line {row + 1 + self.origin.header:,} of {self.origin.path}"
        return DataError(gap_sentence(purpose, bare(self.column_of[purpose]), raw, where, count, negative))


def cast_expressions(
    column_of: Mapping[str, str],
    schema: pl.Schema,
    time_written: str,
    text_ids: Collection[str],
    kind: type[pl.DataType] = pl.Categorical,
) -> list[pl.Expr]:
    """As `Reading.expressions`, for any purpose -> column. `time_written`: as in `columns.as_time`."""
    expressions = []
    for purpose in ("user", "item"):
        column, dtype = pl.col(column_of[purpose]), schema[column_of[purpose]]
        if purpose in text_ids:
            expressions.append(column.cast(pl.String).cast(kind).alias(purpose))
        else:
            expressions.append(as_integer(column, dtype).alias(purpose))
            expressions.append(is_text(column, dtype).alias(f"{purpose}_is_text"))
    if "time" in column_of:
        expressions.append(as_time(pl.col(column_of["time"]), time_written).alias("time"))
    numbers = [purpose for purpose in ("rating", "weight") if purpose in column_of]
    return expressions + [
        pl.col(column_of[purpose]).cast(pl.Float32, strict=False).alias(purpose) for purpose in numbers
    ]


def gaps(values: pl.Series, purpose: str) -> pl.Series | None:
    """A mask of the values of `purpose` that are missing, NaN, or negative times; None if there are none."""
    bad = values.null_count() > 0
    if values.dtype.is_float():
        bad = bad or not bool(values.is_finite().all())
    if purpose == "time" and not bad and len(values):
        bad = int(values.min()) < 0  # type: ignore[arg-type]
    if not bad:
        return None
    wrong = values.is_null()
    if values.dtype.is_float():
        wrong = wrong | ~values.is_finite().fill_null(True)
    if purpose == "time":
        wrong = wrong | (values < 0).fill_null(False)
    return wrong


def is_negative(values: pl.Series, purpose: str, row: int) -> bool:
    """Whether the value at `row` is a time before 0."""
    return purpose == "time" and (values[row] or 0) < 0
