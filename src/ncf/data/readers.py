"""The columns that training needs, read from a file of any known format, local or on s3://.

In: a `Source` and, if they cannot be guessed, the names of the columns. Out: `Columns`: ids not yet turned
into rows, times, ratings, weights. The decision worth knowing: text is scanned lazily as strings and each
column is cast in the same pass, so nothing is inferred from the first rows, `007` stays `007`, and a value
that does not fit is found with its line.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ncf.data.casts import as_integer, as_time, gap_sentence, has_fractions, is_text, time_format
from ncf.data.formats import SCAN_ERRORS, Source, bare, read_error, scan, schema_of
from ncf.data.names import ColumnNames, resolve
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
    """Read the columns that training needs; every defect of the file is a `DataError` sentence."""
    frame = scan(origin)
    schema = schema_of(frame, origin)
    return _Pass(origin, frame, schema, resolve(schema, names, origin, need_time)).columns()


class _Pass:
    """One pass over the file that casts the columns, and the search for the line if a value did not fit."""

    def __init__(self, origin: Source, frame: pl.LazyFrame, schema: pl.Schema, found: dict[str, str]) -> None:
        self.origin, self.frame, self.schema, self.found = origin, frame, schema, found
        self.time_written = self._how_time_is_written()

    def columns(self) -> Columns:
        collected = self._collect(self._expressions(text_ids=set()))
        text_ids = {purpose for purpose in ("user", "item") if bool(collected[f"{purpose}_is_text"].any())}
        if text_ids:
            del collected
            collected = self._collect(self._expressions(text_ids))
        if not len(collected):
            raise DataError(f"The file {self.origin.path} has no rows: give a file with interactions.")
        for purpose in self.found:
            self._refuse_gaps(collected[purpose], purpose)
        return Columns(
            user=collected["user"],
            item=collected["item"],
            time=collected.get_column("time", default=None),
            rating=collected.get_column("rating", default=None),
            weight=collected.get_column("weight", default=None),
            time_unit="as given" if self.time_written in ("integer", "whole", "none") else "microseconds",
            names={purpose: bare(column) for purpose, column in self.found.items()},
        )

    def _collect(self, expressions: list[pl.Expr]) -> pl.DataFrame:
        try:
            return self.frame.select(expressions).collect(engine="streaming")
        except SCAN_ERRORS as error:
            raise read_error(error, self.origin) from error

    def _expressions(self, text_ids: set[str]) -> list[pl.Expr]:
        expressions = []
        for purpose in ("user", "item"):
            column, dtype = pl.col(self.found[purpose]), self.schema[self.found[purpose]]
            if purpose in text_ids:
                expressions.append(column.cast(pl.String).cast(pl.Categorical).alias(purpose))
            else:
                expressions.append(as_integer(column, dtype).alias(purpose))
                expressions.append(is_text(column, dtype).alias(f"{purpose}_is_text"))
        if "time" in self.found:
            expressions.append(as_time(pl.col(self.found["time"]), self.time_written).alias("time"))
        numbers = [purpose for purpose in ("rating", "weight") if purpose in self.found]
        return expressions + [
            pl.col(self.found[purpose]).cast(pl.Float32, strict=False).alias(purpose) for purpose in numbers
        ]

    def _how_time_is_written(self) -> str:
        column = self.found.get("time")
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

    def _refuse_gaps(self, values: pl.Series, purpose: str) -> None:
        """Missing values, text where a number is due, NaN and negative times."""
        bad = values.null_count() > 0
        if values.dtype.is_float():
            bad = bad or not bool(values.is_finite().all())
        if purpose == "time" and not bad:
            bad = int(values.min()) < 0  # type: ignore[arg-type]
        if bad:
            raise DataError(self._sentence(values, purpose))

    def _sentence(self, values: pl.Series, purpose: str) -> str:
        wrong = values.is_null()
        if values.dtype.is_float():
            wrong = wrong | ~values.is_finite().fill_null(True)
        if purpose == "time":
            wrong = wrong | (values < 0).fill_null(False)
        row = int(wrong.arg_true()[0])
        count = int(wrong.sum())
        try:
            raw = self.frame.select(pl.col(self.found[purpose])).slice(row, 1).collect().item()
        except pl.exceptions.PolarsError:
            raw = None
        where = f"row {row + 1:,} of {self.origin.path}"
        if self.origin.format in ("csv", "movielens"):
            where = f"line {row + 1 + self.origin.header:,} of {self.origin.path}"
        negative = purpose == "time" and (values[row] or 0) < 0
        return gap_sentence(purpose, bare(self.found[purpose]), raw, where, count, negative)
