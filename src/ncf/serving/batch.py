"""Recommendations for every user into one file, a bounded number of users at a time.

The one decision worth knowing: threads take turns at small chunks of users, each with single-threaded
products, and the chunks are written in the order of the user rows. Activations of a small chunk stay in the
cache, and numpy lets other threads run while it computes.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source
from threadpoolctl import threadpool_limits

from ncf.data.files import atomic_file
from ncf.data.id_lists import Id
from ncf.errors import ConfigError
from ncf.runtime import choose_threads
from ncf.serving.numpy_model import Rows
from ncf.serving.recommender import Recommender, check_k

_USERS_AT_ONCE = 512
_ROWS_AT_ONCE = 2**20
_TYPES: dict[str, Any] = {"integer": pl.Int64, "string": pl.String}
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
    unknown: int = 0
    """Excluded items that the model does not know."""

    @property
    def users_per_second(self) -> float:
        """Writing included, opening the artifact not."""
        return self.users / max(self.seconds, 1e-9)


def write_batch(
    recommender: Recommender,
    output: Path,
    k: int = 10,
    *,
    exclude_seen: bool = True,
    exclude: Sequence[Id] = (),
) -> Written:
    """Columns user, rank (1 is best), item, score, in the order of the user rows; the file is whole or not
    there.

    The items of `exclude` may not appear. The format follows the name: .parquet, .csv or .jsonl. Raises
    `ConfigError` for another one.
    """
    check_output(output)
    began = time.perf_counter()
    excluded, unknown = recommender.known_items(exclude)
    rows = write_tables(tables(recommender, k, exclude_seen, excluded), schema(recommender), output)
    return Written(len(recommender.users), rows, round(time.perf_counter() - began, 4), len(unknown))


def check_output(output: Path) -> None:
    """Raise `ConfigError` for a file whose name chooses no format."""
    if output.suffix not in _SINKS:
        raise ConfigError(f"{output} must end in one of {', '.join(_SINKS)}, which also chooses the format.")


def write_tables(parts: Iterable[pl.DataFrame], schema: dict[str, Any], output: Path) -> int:
    """Write tables of one schema one after the other, whole or not at all; the number of rows."""
    check_output(output)
    rows = 0

    def batches(*_: Any) -> Iterator[pl.DataFrame]:
        nonlocal rows
        for table in parts:
            rows += len(table)
            yield table

    with atomic_file(output) as temporary:
        _SINKS[output.suffix](register_io_source(batches, schema=schema), temporary)
    return rows


def tables(
    recommender: Recommender, k: int = 10, exclude_seen: bool = True, excluded: Rows | None = None
) -> Iterator[pl.DataFrame]:
    """The rows of `write_batch` as they become ready. Raises `ConfigError` for a bad `k`.

    `excluded`: rows of items that may not appear, ascending.
    """
    check_k(k)
    users = len(recommender.users)
    step = max(1, min(_USERS_AT_ONCE, _ROWS_AT_ONCE // min(k, max(1, len(recommender.items)))))
    threads = choose_threads()
    waiting: deque[Future[pl.DataFrame]] = deque()
    with threadpool_limits(1), ThreadPoolExecutor(threads, "ncf-batch") as pool:
        for start in range(0, users, step):
            rows = np.arange(start, min(users, start + step))
            waiting.append(pool.submit(_table, recommender, rows, k, exclude_seen, excluded))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def schema(recommender: Recommender) -> dict[str, Any]:
    """Columns of the tables: ids are in the type they were prepared with."""
    return columns(recommender.users.kind, recommender.items.kind)


def columns(user_kind: str, item_kind: str) -> dict[str, Any]:
    """Columns for ids of these kinds, "integer" or "string"."""
    user, item = _TYPES[user_kind], _TYPES[item_kind]
    return {"user": user, "rank": pl.Int32, "item": item, "score": pl.Float32}


def _table(
    recommender: Recommender, user_rows: np.ndarray, k: int, exclude_seen: bool, excluded: Rows | None
) -> pl.DataFrame:
    scores, items = recommender.rank(user_rows, k, exclude_seen, excluded)
    users, ranks = np.nonzero(scores > -np.inf)
    return pl.DataFrame(
        {
            "user": recommender.users.ids_of(user_rows[users]),
            "rank": (ranks + 1).astype(np.int32),
            "item": recommender.items.ids_of(items[users, ranks]),
            "score": scores[users, ranks],
        },
        schema=schema(recommender),
    )
