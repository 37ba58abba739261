"""A table as a Spark DataFrame of cast columns, checked.

In: a `Source` of CSV or Parquet that Spark can open. Out: `Cast`: user, item, time, rating and weight as the
reader in memory casts them, with the position of each row in the table. The decision worth knowing: the
executors evaluate the expressions of that reader batch by batch through Arrow, so an id, a time or a rating
has one meaning. Executors therefore need Polars and pyarrow.
"""

# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import polars as pl
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ncf.data.columns import ColumnNames, Needs, guessed, resolve
from ncf.data.formats import HEADERLESS, Source, bare
from ncf.data.readers import (
    cast_expressions,
    gaps,
    has_weight,
    kept_purposes,
    left_out_events,
    typed_time,
    unweighed_events,
)
from ncf.data.values import as_type, gap_sentence, time_facts, time_written
from ncf.errors import DataError

PLACE = ("file", "block", "number")
"""Sorted by these, rows lie as they do in the table: by file, part of the file, and number within."""
_PLACE_TYPES = {"file": "string", "block": "bigint", "number": "bigint"}
_KINDS = {"time": "bigint", "rating": "float", "event": "float", "weight": "float"}
_SCHEMA = {
    "string": pl.String(), "tinyint": pl.Int8(), "smallint": pl.Int16(), "int": pl.Int32(),
    "bigint": pl.Int64(), "float": pl.Float32(), "double": pl.Float64(), "date": pl.Date(),
    "timestamp": pl.Datetime("us", "UTC"), "timestamp_ntz": pl.Datetime("us"),
}  # fmt: skip

Batches = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class Cast:
    """Checked columns. `rows`: their number; `column_of`: purpose -> column; `text_ids`: as in `IdScan`."""

    frame: DataFrame
    rows: int
    column_of: dict[str, str]
    text_ids: frozenset[str]
    time_unit: str
    asked: ColumnNames
    left_out: tuple[str, ...] = ()

    @property
    def names(self) -> dict[str, str]:
        """What each column was called, without type suffixes."""
        return {purpose: bare(column) for purpose, column in self.column_of.items()}

    @property
    def kept(self) -> list[str]:
        """The purposes of the columns of `frame`, once it is checked."""
        return kept_purposes(self.column_of, self.asked)


def read(spark: SparkSession, origin: Source, names: ColumnNames, needs: Needs) -> Cast:
    """Cast and check every row; raises `DataError` for the first value that does not fit.

    `origin`: the files; `names`: the columns the caller asks for; `needs`: which others must be there. A
    guessed time that nobody needs is left out where a value does not fit.
    """
    try:
        return _read(spark, origin, names, needs)
    except _UnfitTime as error:
        if names.time or needs.time:
            raise
        without = replace(names, without=names.without | {"time"})
        cast = _read(spark, origin, without, needs)
        return replace(cast, left_out=(*cast.left_out, error.note))


class _UnfitTime(DataError):
    """A time does not fit; `note` is what the report says where that column is left out."""

    note = ""


def _read(spark: SparkSession, origin: Source, names: ColumnNames, needs: Needs) -> Cast:
    """As `read`, and a time that does not fit is an `_UnfitTime`."""
    raw = _open(spark, origin)
    schema = pl.Schema({name: _SCHEMA.get(kind.split("(")[0], pl.Null()) for name, kind in raw.dtypes})
    column_of = resolve(schema, names, origin, needs)
    position = [
        F.col("_metadata.file_path").alias("file"),
        F.col("_metadata.file_block_start").alias("block"),
        F.monotonically_increasing_id().alias("number"),
    ]
    columns = raw.select(
        *(F.col(f"`{column}`").alias(purpose) for purpose, column in column_of.items()), *position
    )
    kinds = pl.Schema({purpose: schema[column] for purpose, column in column_of.items()})
    written = _time_written(columns, kinds)
    unit = "as given" if written in ("integer", "whole", "none") else "microseconds"
    rating = guessed(schema, "rating") if "rating" not in column_of else None
    left_out: tuple[str, ...] = ()
    if rating:
        left_out = (f"rating = {bare(rating)}, which only --min-rating needs",)
    if "event" in column_of:
        counts = _types(columns)
        if not names.event_weights.keys() >= {kind for kind, _ in counts}:
            raise unweighed_events(counts, names, bare(column_of["event"]), origin.path)
        left_out += tuple(left_out_events(counts, names))
    cast = Cast(columns, 0, column_of, frozenset(), unit, names, left_out)
    while True:
        checked = _checked(cast, kinds, written, origin)
        if checked.text_ids == cast.text_ids:
            return checked
        cast = replace(cast, text_ids=checked.text_ids)


def _open(spark: SparkSession, origin: Source) -> DataFrame:
    paths = list(origin.files) or origin.path
    if origin.format == "parquet":
        return spark.read.parquet(*([paths] if isinstance(paths, str) else paths))
    if origin.format != "csv":
        raise DataError(
            f"Spark reads CSV and Parquet, not {origin.path}: give the table in one of these formats."
        )
    quote = '"' if origin.delimiter != "\t" else ""
    frame = spark.read.csv(
        paths,
        sep=origin.delimiter,
        header=origin.header,
        quote=quote,
        escape=quote or None,
        mode="FAILFAST",
        enforceSchema=not origin.header,
    )
    return frame if origin.header else frame.toDF(*HEADERLESS[: len(frame.columns)], *frame.columns[4:])


def _checked(cast: Cast, kinds: pl.Schema, written: str, origin: Source) -> Cast:
    """The cast columns after a pass that counts rows, text among integers, and values that do not fit."""
    column_of, text_ids = list(cast.column_of), set(cast.text_ids)
    shapes = {name: "string" if name in text_ids else "bigint" for name in ("user", "item")}
    shapes |= {name: kind for name, kind in _KINDS.items() if name in column_of}
    flags = [f"{name}_is_text" for name in ("user", "item") if name not in text_ids]
    wrong = [f"{name}_is_wrong" for name in column_of]
    fields = {**shapes, **dict.fromkeys((*flags, *wrong), "boolean"), **_PLACE_TYPES}
    frame = cast.frame.mapInArrow(
        _caster(column_of, kinds, written, text_ids, cast.asked.event_weights),
        ", ".join(f"{name} {kind}" for name, kind in fields.items()),
    )
    counts = [F.sum(F.col(flag).cast("bigint")).alias(flag) for flag in (*flags, *wrong)]
    counted: dict[str, Any] = frame.agg(F.count(F.lit(1)).alias("rows"), *counts).first().asDict()
    if not counted["rows"]:
        raise DataError(f"The file {origin.path} has no rows: give a file with interactions.")
    turned = {name for name in ("user", "item") if counted.get(f"{name}_is_text")}
    if turned:
        return replace(cast, text_ids=frozenset(text_ids | turned))
    for name in column_of:
        if count := counted[f"{name}_is_wrong"]:
            raise _gap(cast, frame, name, count, origin)
    if "weight" in cast.kept:
        factors = [F.col(name) for name in ("event", "weight") if name in column_of]
        one = F.lit(1.0).cast("float")
        frame = frame.withColumn("weight", reduce(lambda product, factor: product * factor, factors, one))
    return replace(cast, frame=frame.select(*cast.kept, *PLACE), rows=int(counted["rows"]))


def _types(columns: DataFrame) -> list[tuple[str, int]]:
    """The types of events with their rows, those of most rows first, by the expression of the reader."""

    def texts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            raw = pl.from_arrow(batch)
            assert isinstance(raw, pl.DataFrame)
            found = raw.select(as_type("event").alias("type"))
            yield from found.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()

    counted = columns.select("event").mapInArrow(texts, "type string").where("type is not null")
    rows = counted.groupBy("type").count().orderBy(F.desc("count"), "type").collect()
    return [(row["type"], int(row["count"])) for row in rows]


def _caster(
    column_of: list[str], kinds: pl.Schema, written: str, text_ids: set[str], weights: Mapping[str, float]
) -> Batches:
    """What an executor does with a part of the rows."""
    purposes = {purpose: purpose for purpose in column_of}

    def cast(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        expressions = cast_expressions(purposes, kinds, written, text_ids, pl.String, weights)
        for batch in batches:
            raw = pl.from_arrow(batch)
            assert isinstance(raw, pl.DataFrame)
            if "event" in purposes:
                raw = raw.filter(has_weight("event", weights))
            values = raw.lazy().select(*expressions, *PLACE).collect()
            marks = []
            for purpose in column_of:
                mask = gaps(values[purpose], purpose)
                falses = pl.repeat(False, len(values), eager=True)
                marks.append((falses if mask is None else mask).alias(f"{purpose}_is_wrong"))
            named = values.with_columns(marks)
            text_marks = (name for name in named.columns if name.endswith("_is_text"))
            named = named.drop("time_is_other", strict=False)
            order = [*column_of, *text_marks, *(mark.name for mark in marks), *PLACE]
            yield from named.select(order).to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()

    return cast


def _gap(cast: Cast, frame: DataFrame, purpose: str, count: int, origin: Source) -> DataError:
    """The error for the first value that does not fit; Spark does not know the number of its row."""
    first = frame.where(F.col(f"{purpose}_is_wrong")).select(*PLACE, purpose).orderBy(*PLACE).first()
    assert first is not None
    at = [F.col(name) == F.lit(first[name]) for name in PLACE]
    row = cast.frame.where(at[0] & at[1] & at[2]).select(purpose).first()
    raw = row[0] if row is not None else None
    negative = purpose in ("time", "weight") and (first[purpose] or 0) < 0
    sentence = gap_sentence(purpose, cast.names[purpose], raw, origin.path, count, negative)
    if purpose != "time":
        return DataError(sentence)
    error = _UnfitTime(sentence)
    error.note = f"time = {cast.names[purpose]}, which {count:,} rows lack or write otherwise"
    return error


def _time_written(columns: DataFrame, kinds: pl.Schema) -> str:
    """How times are written, by the facts of all rows."""
    dtype = kinds.get("time")
    if dtype is None:
        return "none"
    if written := typed_time(dtype):
        return written
    names = [column.meta.output_name() for column in time_facts(pl.col("time"))]

    def facts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            raw = pl.from_arrow(batch)
            assert isinstance(raw, pl.DataFrame)
            counts = raw.select(fact.cast(pl.Int64) for fact in time_facts(pl.col("time")))
            yield from (
                counts.rename({name: f"fact{n}" for n, name in enumerate(names)}).to_arrow().to_batches()
            )

    shape = ", ".join(f"fact{n} bigint" for n in range(len(names)))
    sums = [F.sum(f"fact{n}").alias(f"fact{n}") for n in range(len(names))]
    answer = columns.select("time").mapInArrow(facts, shape).agg(*sums).first()
    assert answer is not None
    return time_written(dict(zip(names, answer, strict=True)))
