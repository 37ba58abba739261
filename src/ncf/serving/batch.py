"""Recommendations for every user into one file, a bounded number of users at a time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from ncf.data.files import atomic_file
from ncf.errors import ConfigError
from ncf.serving.recommender import Recommender

_SINKS: dict[str, Callable[[pl.LazyFrame, Path], None]] = {
    ".parquet": lambda frame, path: frame.sink_parquet(path),
    ".csv": lambda frame, path: frame.sink_csv(path),
    ".jsonl": lambda frame, path: frame.sink_ndjson(path),
}


@dataclass(frozen=True)
class Written:
    """What was written."""

    users: int
    rows: int
    seconds: float


def write_batch(recommender: Recommender, output: Path, k: int = 10, *, exclude_seen: bool = True) -> Written:
    """Columns user, rank (1 is best), item, score, in the order of the user rows; the file is whole or not there.

    The format follows the name: .parquet, .csv or .jsonl. Raises `ConfigError` for another one.
    """
    sink = _SINKS.get(output.suffix)
    if sink is None:
        raise ConfigError(f"{output} must end in one of {', '.join(_SINKS)}, which also chooses the format.")
    began, rows = time.perf_counter(), 0

    def batches(*_: Any) -> Iterator[pl.DataFrame]:
        nonlocal rows
        for table in recommender.batches(k, exclude_seen):
            rows += len(table)
            yield table

    with atomic_file(output) as temporary:
        sink(register_io_source(batches, schema=recommender.batch_schema), temporary)
    return Written(len(recommender.users), rows, round(time.perf_counter() - began, 2))
