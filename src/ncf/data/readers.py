"""The columns that training needs, read from a file of any known format, local or on s3://.

In: a `Source` and, if they cannot be guessed, the names of the columns. Out: `Columns`: ids not yet turned
into rows, times, ratings, weights. The decision worth knowing: text is scanned lazily as strings and each
column is cast in the same pass. The first rows only suggest how values are written: where a later row
contradicts them, the pass is repeated, so `007` stays `007`, and a value that does not fit is reported with
its line.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ncf.data.columns import ColumnNames, Needs, guessed, resolve
from ncf.data.diagnosis import SCAN_ERRORS, read_error
from ncf.data.formats import Source, bare
from ncf.data.scanning import nested_keys, one_file, refuse_lacking, scan, schema_of
from ncf.data.values import (
    TimeFacts,
    as_integer,
    as_text,
    as_time,
    as_type,
    bytes_as_text,
    gap_sentence,
    is_text,
    time_facts,
    time_written,
)
from ncf.errors import DataError

_HEAD = 1000
_MOST_TYPES = 20
_ROW = "number of the row"
_NEVER_NEGATIVE = ("time", "weight")


@dataclass
class Columns:
    """The columns of a file, each [N] and without gaps.

    `user`, `item`: Int64, or Categorical where they are text; `time`: Int64 or None; `rating`, `weight`:
    Float32 or None; `time_unit`: "as given" or "microseconds"; `names`: what each was called in the file;
    `left_out`: a sentence about each column that looked like one of these and was not used.
    """

    user: pl.Series
    item: pl.Series
    time: pl.Series | None
    rating: pl.Series | None
    weight: pl.Series | None
    time_unit: str
    names: dict[str, str]
    left_out: tuple[str, ...] = ()

    def hand_over(self, purpose: str) -> Any:
        """The column of this purpose, or None, which is not held here any longer: few fit into memory."""
        column = getattr(self, purpose)
        setattr(self, purpose, None if column is None else column.clear())
        return column


def read_columns(origin: Source, names: ColumnNames, needs: Needs | None = None) -> Columns:
    """Read the columns that training needs; every defect of the file is a `DataError`.

    `origin`: the file; `names`: the columns the caller asks for; `needs`: which of the others must be there.
    """
    return Reading(origin, names, needs).columns()


class Reading:
    """Passes over the file that cast the columns, and that search for the line of a value that did not fit.

    `column_of`: purpose (user, item, time, rating, event, weight) -> the column of the file. `text_ids`:
    which of user and item are read as text; `time_written`: as in `values.as_time`, or "none".
    """

    def __init__(self, origin: Source, names: ColumnNames, needs: Needs | None = None) -> None:
        needs = needs or Needs()
        self.origin, self.frame, self._given = origin, scan(origin), names
        schema = schema_of(self.frame, origin)
        nested = {name: dtype for name, dtype in nested_keys(origin).items() if name in schema}
        self.column_of = resolve(pl.Schema({**schema, **nested}), names, origin, needs)
        self.left_out: list[str] = []
        if "rating" not in self.column_of and (unused := guessed(schema, "rating")):
            self.left_out.append(f"rating = {bare(unused)}, which only --min-rating needs")
        self._optional = set() if names.time or needs.time else {"time"}
        refuse_lacking(origin, [c for p, c in self.column_of.items() if p not in self._optional])
        texts = [self.column_of[p] for p in ("user", "item", "event") if p in self.column_of]
        self.frame = frame_with_text(self.frame, schema, texts, origin)
        self.schema = schema_of(self.frame, origin)
        if "event" in self.column_of:
            self._leave_events_out()
        self._blank_rows: bool | None = None
        head = self._collect(self.frame.select(list(dict.fromkeys(self.column_of.values()))).head(_HEAD))
        self.time_written = self._suggested_time(head)
        self.text_ids = {
            purpose
            for purpose in ("user", "item")
            if bool(head.select(is_text(pl.col(c := self.column_of[purpose]), self.schema[c]).any()).item())
        }

    @property
    def optimizations(self) -> pl.QueryOptFlags:
        """Of CSV every column is parsed: else a line with too many fields is not noticed."""
        return pl.QueryOptFlags(projection_pushdown=self.origin.format != "csv")

    @property
    def time_unit(self) -> str:
        """As in `Columns`."""
        return "as given" if self.time_written in ("integer", "whole", "none") else "microseconds"

    @property
    def names(self) -> dict[str, str]:
        """What each column was called in the file, without type suffixes."""
        return {purpose: bare(column) for purpose, column in self.column_of.items()}

    @property
    def kept(self) -> list[str]:
        """The purposes of the columns after `weighed`."""
        return kept_purposes(self.column_of, self._given)

    def weighed(self, cast: pl.DataFrame) -> pl.DataFrame:
        """The columns of a pass, with a `weight` that is the product of that and of the event's, if any."""
        if "weight" not in self.kept:
            return cast
        factors = [cast[purpose] for purpose in ("event", "weight") if purpose in cast.columns]
        ones = pl.repeat(1, len(cast), dtype=pl.Float32, eager=True)
        return cast.with_columns(math.prod(factors, start=ones).alias("weight"))

    def _leave_events_out(self) -> None:
        """Leave the rows out whose type weighs 0; refuse a column of types without any weights."""
        self._types = (
            self.frame.select(as_type(self.column_of["event"]).alias("type"))
            .group_by("type").len().drop_nulls().sort("len", "type", descending=[True, False])
        )  # fmt: skip
        if not self._given.event_weights:
            raise self._unweighed()
        if any(weight == 0 for weight in self._given.event_weights.values()):
            self.left_out += left_out_events(self._collect(self._types).rows(), self._given)
            self.frame = self._without_events(self.frame)

    def _without_events(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The rows of the table but those whose type weighs 0."""
        column = self.column_of.get("event")
        return frame if column is None else frame.filter(has_weight(column, self._given.event_weights))

    def _unweighed(self) -> DataError:
        """The error for types of events without a weight."""
        counts = self._collect(self._types).rows()
        return unweighed_events(counts, self._given, bare(self.column_of["event"]), self.origin.path)

    def columns(self) -> Columns:
        """The whole columns, in memory; raises `DataError` for the first value that does not fit."""
        while True:
            collected = self._collect(self.frame.select(self.expressions()))
            if self.contradicted(collected):
                continue
            if not len(collected):
                raise self.no_rows()
            wrong = ((purpose, gaps(collected[purpose], purpose)) for purpose in self.column_of)
            purpose, mask = next((found for found in wrong if found[1] is not None), (None, None))
            if purpose is None or mask is None:
                break
            if not self.mended(purpose, int(mask.sum())):
                row = int(mask.arg_true()[0])
                raise self.gap(purpose, row, int(mask.sum()), is_negative(collected[purpose], purpose, row))
        self.origin.refuse_changed()
        collected = self.weighed(collected)
        return Columns(
            user=collected["user"],
            item=collected["item"],
            time=collected.get_column("time", default=None),
            rating=collected.get_column("rating", default=None),
            weight=collected.get_column("weight", default=None),
            time_unit=self.time_unit,
            names=self.names,
            left_out=tuple(self.left_out),
        )

    def contradicted(self, batch: pl.DataFrame) -> bool:
        """Whether rows of a pass are not written as was assumed; the assumption is then another one."""
        flags = {name: f"{name}_is_text" for name in ("user", "item")}
        turned = {name for name, flag in flags.items() if flag in batch.columns and bool(batch[flag].any())}
        self.text_ids |= turned
        if "time_is_other" in batch.columns and bool(batch["time_is_other"].any()):
            column = pl.col(self.column_of["time"])
            written = time_written(self._collect(self.frame.select(time_facts(column))).row(0, named=True))
            if written != self.time_written:
                self.time_written = written
                return True
        return bool(turned)

    def mended(self, purpose: str, count: int) -> bool:
        """Whether a column with `count` values that do not fit, or blank lines, can be done without."""
        if purpose in self._optional:
            column = self.column_of.pop(purpose)
            self.left_out.append(f"{purpose} = {bare(column)}, which {count:,} rows lack or write otherwise")
            self.time_written = "none"
            return True
        if self._blank_rows is None:
            blank = pl.all_horizontal(pl.all().is_null())
            self._blank_rows = bool(self._collect(self.frame.select(blank.any())).item())
            if self._blank_rows:
                self.frame = self.frame.filter(~blank)
                return True
        return False

    def _collect(self, frame: pl.LazyFrame) -> pl.DataFrame:
        try:
            return frame.collect(engine="streaming", optimizations=self.optimizations)
        except SCAN_ERRORS as error:
            raise read_error(error, self.origin) from error

    def expressions(self, kind: type[pl.DataType] = pl.Categorical) -> list[pl.Expr]:
        """Expressions for the cast columns.

        Those of `text_ids` are cast to `kind`. The others are cast to integers, and a further column
        `user_is_text` or `item_is_text` marks the values that are text after all. `time_is_other` marks times
        that are not written as was assumed.
        """
        return cast_expressions(
            self.column_of, self.schema, self.time_written, self.text_ids, kind, self._given.event_weights
        )

    def _suggested_time(self, head: pl.DataFrame) -> str:
        """How the first rows write times."""
        column = self.column_of.get("time")
        if column is None:
            return "none"
        if written := typed_time(self.schema[column]):
            return written
        facts: TimeFacts = head.select(time_facts(pl.col(column))).row(0, named=True)
        return time_written(facts)

    def no_rows(self) -> DataError:
        """The error for a file without interactions."""
        return DataError(f"The file {self.origin.path} has no rows: give a file with interactions.")

    def gap(self, purpose: str, row: int, count: int, negative: bool) -> DataError:
        """The error for the value of `purpose` at `row`, the first of `count` that do not fit."""
        self.origin.refuse_changed()
        column = self.column_of[purpose]
        frame = scan(self.origin)
        if self._blank_rows:
            frame = frame.with_row_index(_ROW).filter(~pl.all_horizontal(pl.exclude(_ROW).is_null()))
        else:
            frame = frame.with_row_index(_ROW)
        try:
            number, raw = self._without_events(frame).select(_ROW, column).slice(row, 1).collect().row(0)
        except pl.exceptions.PolarsError:
            number, raw = row, None
        if purpose == "event" and raw is not None:
            return self._unweighed()
        return DataError(gap_sentence(purpose, bare(column), raw, self._where(int(number)), count, negative))

    def _where(self, row: int) -> str:
        """The file and the line, or the row, of the row at `row` of all files."""
        path = self.origin.path
        for path in self.origin.files:
            rows = int(scan(one_file(self.origin, path)).select(pl.len()).collect().item())
            if row < rows:
                break
            row -= rows
        if self.origin.format in ("csv", "movielens"):
            return f"line {row + 1 + self.origin.header:,} of {path}"
        return f"row {row + 1:,} of {path}"


def kept_purposes(column_of: Collection[str], names: ColumnNames) -> list[str]:
    """The purposes of `column_of` once events are weights; a counted table has weights too."""
    kept = [purpose for purpose in column_of if purpose != "event"]
    weighs = "weight" not in kept and (names.counted or "event" in column_of)
    return [*kept, "weight"] if weighs else kept


def has_weight(column: str, weights: Mapping[str, float]) -> pl.Expr:
    """Whether the type in `column` does not weigh 0, or is unknown or missing, which is an error later."""
    absent = [kind for kind, weight in weights.items() if weight == 0]
    return ~as_type(column).is_in(absent).fill_null(False)


def left_out_events(counts: Iterable[tuple[str, int]], names: ColumnNames) -> list[str]:
    """A sentence about each type that weighs 0; `counts` are the types with their rows."""
    return [
        f"rows of the event '{kind}', {rows:,} in all, whose weight is 0"
        for kind, rows in counts
        if names.event_weights.get(kind) == 0
    ]


def unweighed_events(
    counts: Collection[tuple[str, int]], names: ColumnNames, column: str, path: str
) -> DataError:
    """The error for types without a weight, in the `column` of the file `path`; `counts` as above."""
    told = [f"'{kind}' ({rows:,} row{'s' if rows > 1 else ''})" for kind, rows in counts]
    shown = ", ".join(told[:_MOST_TYPES])
    more = f" and {len(told) - _MOST_TYPES:,} more" if len(told) > _MOST_TYPES else ""
    kind = next((kind for kind, _ in counts if kind not in names.event_weights), "TYPE")
    return DataError(
        f"The events (column '{column}') of {path} are {shown}{more}: give each a weight, such as "
        f"--event-weight {kind}=1, where 0 leaves its rows out."
    )


def frame_with_text(
    frame: pl.LazyFrame, schema: pl.Schema, columns: Collection[str], origin: Source
) -> pl.LazyFrame:
    """The frame with those of `columns` that hold bytes turned into text; other bytes are refused."""
    for column in columns:
        if schema[column] != pl.Binary:
            continue
        try:
            text = bytes_as_text(frame.select(column).collect(engine="streaming").to_series())
        except SCAN_ERRORS as error:
            raise read_error(error, origin) from error
        if text is None:
            raise DataError(
                f"The column '{column}' of {origin.path} holds bytes that are neither text nor UUIDs of 16 "
                "bytes: write its ids as text or integers."
            )
        frame = frame.with_columns(text)
    return frame


def typed_time(dtype: pl.DataType) -> str | None:
    """How times of a type are written; None where their values say so."""
    if dtype.is_integer():
        return "integer"
    return "datetime" if dtype.is_temporal() else None


def cast_expressions(
    column_of: Mapping[str, str],
    schema: pl.Schema,
    time_written: str,
    text_ids: Collection[str],
    kind: type[pl.DataType] = pl.Categorical,
    event_weights: Mapping[str, float] | None = None,
) -> list[pl.Expr]:
    """As `Reading.expressions`, for any purpose -> column. `time_written`: as in `values.as_time`."""
    expressions = []
    for purpose in ("user", "item"):
        column, dtype = pl.col(column_of[purpose]), schema[column_of[purpose]]
        if purpose in text_ids:
            expressions.append(as_text(column, dtype).cast(kind).alias(purpose))
        else:
            expressions.append(as_integer(column, dtype).alias(purpose))
            expressions.append(is_text(column, dtype).alias(f"{purpose}_is_text"))
    if "time" in column_of:
        raw = pl.col(column_of["time"])
        time = as_time(raw, time_written)
        expressions.append(time.alias("time"))
        if typed_time(schema[column_of["time"]]) is None:
            expressions.append((raw.is_not_null() & time.is_null()).alias("time_is_other"))
    if "event" in column_of and event_weights:
        types = as_type(column_of["event"])
        by_type = {kind: float(weight) for kind, weight in event_weights.items()}
        weights = types.replace_strict(by_type, default=None, return_dtype=pl.Float32)
        expressions.append(weights.alias("event"))
    numbers = [purpose for purpose in ("rating", "weight") if purpose in column_of]
    return expressions + [
        pl.col(column_of[purpose]).cast(pl.Float32, strict=False).alias(purpose) for purpose in numbers
    ]


def gaps(values: pl.Series, purpose: str) -> pl.Series | None:
    """A mask of the values of `purpose` that are missing, NaN, or times or weights below 0; None for none."""
    bad = values.null_count() > 0
    if values.dtype.is_float():
        bad = bad or not bool(values.is_finite().all())
    if purpose in _NEVER_NEGATIVE and not bad and len(values):
        bad = float(values.min()) < 0  # type: ignore[arg-type]
    if not bad:
        return None
    wrong = values.is_null()
    if values.dtype.is_float():
        wrong = wrong | ~values.is_finite().fill_null(True)
    if purpose in _NEVER_NEGATIVE:
        wrong = wrong | (values < 0).fill_null(False)
    return wrong


def is_negative(values: pl.Series, purpose: str, row: int) -> bool:
    """Whether the value at `row` is a time or a weight below 0."""
    return purpose in _NEVER_NEGATIVE and (values[row] or 0) < 0
