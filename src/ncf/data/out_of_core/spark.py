"""From a table that is larger than a machine to a prepared folder, on Spark.

In: a Spark session, a path and `PrepareOptions`, as for `prepare_file`. Out: the same folder, to the byte, and its
report. The decision worth knowing: Spark does what costs a shuffle of all rows (distinct ids, rows of ids, the latest of
each pair, the order); the driver then reads the sorted rows once and goes the way of `ncf.data.out_of_core`, which filters,
splits and draws lists in the order of the users. So the split and the lists are the same by construction, and the driver
needs memory for users and items and a disk for the folder that it makes, but never all rows in memory.
"""

# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ncf.data.encode import no_rating_column
from ncf.data.files import atomic_folder
from ncf.data.folder import refuse_foreign
from ncf.data.formats import SCAN_ERRORS, source
from ncf.data.interactions import Interactions
from ncf.data.options import PrepareOptions
from ncf.data.out_of_core.scan_ids import ROWS
from ncf.data.out_of_core.sorted_interactions import SortedInteractions, SortedInteractionsWriter
from ncf.data.out_of_core.spark_reading import PLACE, Cast, read
from ncf.data.out_of_core.streaming import finish
from ncf.data.prepare import provenance_of
from ncf.data.report import PrepareReport
from ncf.data.vocabulary import Vocabulary, of_texts
from ncf.errors import DataError


def prepare_spark(
    spark: SparkSession,
    path: str | Path,
    output: str | Path,
    work: str,
    options: PrepareOptions | None = None,
    name: str | None = None,
) -> PrepareReport:
    """Prepare a table into the local folder `output`.

    `work`: an empty place that Spark and the driver both reach, such as `s3://bucket/prefix`, or a folder where Spark
    runs on this machine. What is left there may be deleted afterwards.
    """
    options, target = options or PrepareOptions(), Path(output)
    refuse_foreign(target)
    origin = source(path, options.format, options.delimiter, options.header)
    cast = read(spark, origin, options.columns, options.split in ("last", "time"))
    if options.min_rating is not None and "rating" not in cast.found:
        raise no_rating_column()
    users = _vocabulary(cast, "user", f"{work}/users")
    items = _vocabulary(cast, "item", f"{work}/items")
    dropped = _sorted(spark, cast, options, {"user": users, "item": items}, work)
    provenance = provenance_of(origin, cast.rows, cast.names, cast.time_unit, name)
    with atomic_folder(target) as folder:
        (folder / "scratch").mkdir()
        table = _fetched(f"{work}/sorted", cast, users, items, folder / "scratch")
        return finish(table.with_dropped(dropped), options, folder, provenance)


def _vocabulary(cast: Cast, purpose: str, place: str) -> Vocabulary:
    """The distinct ids, found by Spark, in the memory of the driver."""
    cast.frame.select(purpose).distinct().write.parquet(place)
    found = _scan(place).collect()[purpose]
    if found.dtype == pl.String:
        return of_texts(found, cast.names[purpose])
    return Vocabulary.build(found)


def _sorted(
    spark: SparkSession, cast: Cast, options: PrepareOptions, vocabularies: dict[str, Vocabulary], work: str
) -> dict[str, int]:
    """Write the rows that stay to `work`/sorted, by user and item; how many were dropped."""
    frame = cast.frame
    for purpose, vocabulary in vocabularies.items():
        frame = _encoded(spark, frame, purpose, vocabulary, f"{work}/{purpose}_rows")
    kept = [name for name in ("time", "weight", "rating") if name in cast.found]
    latest = F.struct(*([F.col("time")] if "time" in kept else []), *PLACE)
    value = F.struct(*kept, F.lit(0).alias("none"))
    pairs = frame.groupBy("user_row", "item_row").agg(F.max_by(value, latest).alias("value"))
    pairs = pairs.select("user_row", "item_row", *(F.col(f"value.{name}").alias(name) for name in kept))
    pairs = pairs.persist(StorageLevel.DISK_ONLY)
    distinct = pairs.count()
    dropped = {"duplicates": cast.rows - distinct}
    good = pairs
    if options.min_rating is not None:
        # The threshold is compared as the column is kept: as float32.
        good = pairs.where(F.col("rating") >= F.lit(float(np.float32(options.min_rating))))
        dropped["below_min_rating"] = distinct - good.count()
    ordered = good.repartitionByRange(F.col("user_row")).sortWithinPartitions("user_row", "item_row")
    ordered.write.parquet(f"{work}/sorted")
    pairs.unpersist()
    return dropped


def _encoded(
    spark: SparkSession, frame: DataFrame, purpose: str, vocabulary: Vocabulary, place: str
) -> DataFrame:
    """The frame with the rows of its ids in place of them."""
    table = pl.DataFrame({"id": vocabulary.series(), "row": np.arange(len(vocabulary), dtype=np.int32)})
    Path(place).mkdir(parents=True) if "://" not in place else None
    table.write_parquet(f"{place}/rows.parquet")
    rows = spark.read.parquet(place).select(F.col("id"), F.col("row").alias(f"{purpose}_row"))
    ids = F.col(purpose).cast(dict(rows.dtypes)["id"])
    return frame.withColumn("id", ids).join(rows, "id").drop("id", purpose)


def _fetched(
    place: str, cast: Cast, users: Vocabulary, items: Vocabulary, scratch: Path
) -> SortedInteractions:
    """Read the sorted rows part by part into columns on the driver's disk."""
    writer = SortedInteractionsWriter(scratch, set(cast.found), len(users))
    last = -1
    try:
        for batch in _scan(place).collect_batches(chunk_size=ROWS, maintain_order=True, engine="streaming"):
            rows = batch["user_row"].to_numpy()
            if len(rows) and (int(rows[0]) < last or bool((rows[1:] < rows[:-1]).any())):
                raise DataError(
                    f"The parts in {place} are not in the order of the users: use an empty place."
                )
            last = int(rows[-1]) if len(rows) else last
            writer.append(
                Interactions(
                    rows,
                    batch["item_row"].to_numpy(),
                    batch["time"].to_numpy() if "time" in cast.found else None,
                    batch["weight"].to_numpy() if "weight" in cast.found else None,
                )
            )
    except SCAN_ERRORS as error:
        raise DataError(
            f"What Spark wrote to {place} cannot be read here ({error}): check the place."
        ) from error
    return writer.close(users, items)


def _scan(place: str) -> pl.LazyFrame:
    return pl.scan_parquet(f"{place}/*.parquet")
