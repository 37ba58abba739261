"""From a table that is larger than a machine to a prepared folder, on Spark.

In: a Spark session, a path and `PrepareOptions`, as for `prepare_file`. Out: the same folder, to the byte,
and its report. The decision worth knowing: Spark does what needs a shuffle of all rows (distinct ids,
encoding, the latest of each pair, sorting). The driver reads the sorted rows once and continues as
`streaming.finish` does, so split and lists are the same by construction. It needs memory for users and items,
and a disk for the folder, but not for all rows.
"""

# mypy: disable-error-code="import-untyped,import-not-found"

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from ncf.data.diagnosis import SCAN_ERRORS
from ncf.data.encode import no_rating_column, repeats_name
from ncf.data.files import atomic_folder
from ncf.data.folder import refuse_foreign
from ncf.data.interactions import Interactions
from ncf.data.item_table import read_item_table
from ncf.data.options import PrepareOptions
from ncf.data.out_of_core.scan_ids import ROWS
from ncf.data.out_of_core.sorted_interactions import SortedInteractions, SortedInteractionsWriter
from ncf.data.out_of_core.spark_reading import PLACE, Cast, read
from ncf.data.out_of_core.streaming import finish
from ncf.data.prepare import provenance_of, source_of
from ncf.data.report import PrepareReport
from ncf.data.vocabulary import Vocabulary, canonical
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

    `path`, `options`, `name`: as for `prepare_file`. `work`: an empty folder that Spark and the driver both
    reach, such as `s3://bucket/prefix`; it may be deleted afterwards.
    """
    options, target = options or PrepareOptions(), Path(output)
    refuse_foreign(target)
    item_table = read_item_table(options)
    origin = source_of(path, options)
    cast = read(spark, origin, options.columns, options.needs)
    if options.min_rating is not None and "rating" not in cast.column_of:
        raise no_rating_column()
    users = _vocabulary(cast, "user", f"{work}/users")
    items = _vocabulary(cast, "item", f"{work}/items")
    dropped = _sorted(spark, cast, options, {"user": users, "item": items}, work)
    provenance = provenance_of(origin, cast.rows, cast, name, item_table)
    with atomic_folder(target) as folder:
        (folder / "scratch").mkdir()
        table = _fetched(f"{work}/sorted", cast, users, items, folder / "scratch")
        return finish(table.with_dropped(dropped), options, folder, provenance)


def _vocabulary(cast: Cast, purpose: str, folder: str) -> Vocabulary:
    """The distinct ids, found by Spark, in the memory of the driver."""
    cast.frame.select(purpose).distinct().write.parquet(folder)
    ids = _scan(folder).collect()[purpose]
    return Vocabulary.build(canonical(ids, cast.names[purpose]) if ids.dtype == pl.String else ids)


def _sorted(
    spark: SparkSession, cast: Cast, options: PrepareOptions, vocabularies: dict[str, Vocabulary], work: str
) -> dict[str, int]:
    """Write the rows that stay to `work`/sorted, by user and item; how many were dropped."""
    frame = cast.frame
    for purpose, vocabulary in vocabularies.items():
        frame = _encoded(spark, frame, purpose, vocabulary, f"{work}/{purpose}_rows")
    kept = [name for name in ("time", "weight", "rating") if name in cast.kept]
    latest = F.struct(*([F.col("time")] if "time" in kept else []), *PLACE)
    value = F.struct(*kept, F.lit(0).alias("none"))
    parts = {name: F.col(f"value.{name}") for name in kept}
    found = [F.max_by(value, latest).alias("value")]
    if options.repeats == "sum":
        # In the order in which the reader in memory adds them up, so that the last bit is the same.
        rows = F.array_sort(F.collect_list(F.struct(latest.alias("place"), "weight")))
        found.append(F.aggregate(rows, F.lit(0.0), lambda total, row: total + row["weight"]).alias("sum"))
        parts["weight"] = F.col("sum").cast("float")
    pairs = frame.groupBy("user_row", "item_row").agg(*found)
    pairs = pairs.select("user_row", "item_row", *(part.alias(name) for name, part in parts.items()))
    pairs = pairs.persist(StorageLevel.DISK_ONLY)
    distinct = pairs.count()
    dropped = {repeats_name(options): cast.rows - distinct}
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
    spark: SparkSession, frame: DataFrame, purpose: str, vocabulary: Vocabulary, folder: str
) -> DataFrame:
    """The frame with a column of rows instead of the ids of `purpose`."""
    table = pl.DataFrame({"id": vocabulary.series(), "row": np.arange(len(vocabulary), dtype=np.int32)})
    if "://" not in folder:
        Path(folder).mkdir(parents=True)
    table.write_parquet(f"{folder}/rows.parquet")
    rows = spark.read.parquet(folder).select(F.col("id"), F.col("row").alias(f"{purpose}_row"))
    ids = F.col(purpose)
    if vocabulary.kind == "integer" or bool(vocabulary.series().str.contains(r"^-?[0-9]+$").all()):
        ids = F.regexp_replace(ids.cast("string"), r"\.0+$", "")  # as `canonical` did
    ids = ids.cast(dict(rows.dtypes)["id"])
    return frame.withColumn("id", ids).join(rows, "id").drop("id", purpose)


def _fetched(
    folder: str, cast: Cast, users: Vocabulary, items: Vocabulary, scratch: Path
) -> SortedInteractions:
    """Read the sorted rows part by part into columns on the driver's disk."""
    writer = SortedInteractionsWriter(scratch, set(cast.kept), len(users))
    last = -1
    try:
        for batch in _scan(folder).collect_batches(chunk_size=ROWS, maintain_order=True, engine="streaming"):
            rows = batch["user_row"].to_numpy()
            if len(rows) and (int(rows[0]) < last or bool((rows[1:] < rows[:-1]).any())):
                raise DataError(
                    f"The parts in {folder} are not in the order of the users: use an empty folder."
                )
            last = int(rows[-1]) if len(rows) else last
            writer.append(
                Interactions(
                    rows,
                    batch["item_row"].to_numpy(),
                    batch["time"].to_numpy() if "time" in cast.kept else None,
                    batch["weight"].to_numpy() if "weight" in cast.kept else None,
                )
            )
    except SCAN_ERRORS as error:
        raise DataError(
            f"What Spark wrote to {folder} cannot be read here ({error}): check that the driver reaches it."
        ) from error
    return writer.close(users, items)


def _scan(folder: str) -> pl.LazyFrame:
    return pl.scan_parquet(f"{folder}/*.parquet")
