"""The forms in which the known data sets are stored, read into two shapes.

In: a folder. Out: `Loaded`: a published split, or columns with a table of items. The decision worth knowing:
times that some copies of a published split have and others lack are left out, so that each form of a set
gives the same data set.
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ncf.data.columns import ColumnNames, Needs
from ncf.data.formats import source
from ncf.data.interactions import Int64
from ncf.data.item_table import ItemTable, film_table, read_items
from ncf.data.published import PublishedSplit, read_triple
from ncf.data.readers import Columns, read_columns
from ncf.errors import DataError


@dataclass(frozen=True)
class Loaded:
    """Either `split`, or `columns` with an optional `item_table`."""

    split: PublishedSplit | None = None
    columns: Columns | None = None
    item_table: ItemTable | None = None
    drops_unknown_users: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


def bundled_split(prefix: str) -> Callable[[Path], Loaded]:
    """PREFIX.train.parquet and .test.parquet (user, item), and .negatives.parquet (the lists end to end)."""

    def load(folder: Path) -> Loaded:
        train, test = (
            _parquet(folder / f"{prefix}.train.parquet"),
            _parquet(folder / f"{prefix}.test.parquet"),
        )
        lists = _ids(_parquet(folder / f"{prefix}.negatives.parquet")["item"])
        if len(test) == 0 or len(lists) % len(test):
            raise DataError(
                f"{folder}/{prefix}.negatives.parquet is damaged: restore it from the repository."
            )
        pairs = [_ids(table[column]) for table in (train, test) for column in ("user", "item")]
        negatives = lists.reshape(len(test), -1)
        return Loaded(split=PublishedSplit(pairs[0], pairs[1], None, pairs[2], pairs[3], negatives))

    return load


def timeless_triple(prefix: str) -> Callable[[Path], Loaded]:
    """PREFIX.train.rating, PREFIX.test.rating and PREFIX.test.negative, without their times."""

    def load(folder: Path) -> Loaded:
        return Loaded(split=replace(read_triple(folder / prefix), train_times=None))

    return load


def bundled_columns(prefix: str) -> Callable[[Path], Loaded]:
    """PREFIX.interactions.parquet (user_id, item_id, rating, timestamp) and .items.parquet (item_id, title,
    …).
    """

    def load(folder: Path) -> Loaded:
        columns = _plain_columns(str(folder / f"{prefix}.interactions.parquet"))
        return _with_columns(columns, ItemTable(_parquet(folder / f"{prefix}.items.parquet")))

    return load


def atomic_files(prefix: str) -> Callable[[Path], Loaded]:
    """PREFIX.inter and PREFIX.item as RecBole names them."""

    def load(folder: Path) -> Loaded:
        columns = _plain_columns(str(folder / f"{prefix}.inter"))
        return _with_columns(columns, read_items(folder / f"{prefix}.item"))

    return load


def movielens_100k_zip(folder: Path) -> Loaded:
    """ml-100k.zip as GroupLens publishes it: u.data and u.item."""
    path = folder / "ml-100k.zip"
    try:
        with zipfile.ZipFile(path) as archive:
            ratings = archive.read("ml-100k/u.data")
            items = archive.read("ml-100k/u.item").decode("latin-1")
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise DataError(f"{path} is damaged: remove it and let it be fetched again.") from error
    table = pl.read_csv(
        ratings, separator="\t", has_header=False, new_columns=["user_id", "item_id", "rating", "timestamp"]
    )
    names = {"user": "user_id", "item": "item_id", "time": "timestamp", "rating": "rating"}
    rating = table["rating"].cast(pl.Float32)
    columns = Columns(table["user_id"], table["item_id"], table["timestamp"], rating, None, "as given", names)
    films = film_table([line for line in items.splitlines() if line])
    return _with_columns(columns, ItemTable(films, "u.item"))


def pinterest_by_user(folder: Path) -> Loaded:
    """Copies with one line per user: the user, then the items of train or test, without the official test
    item.

    They have the first 37,501 of 55,187 users; test users without interactions are dropped. Lists are drawn.
    """
    pairs = [_user_lines(folder / name) for name in ("pin.train.txt.gz", "pin.test.txt.gz")]
    users, items = (np.concatenate(halves) for halves in zip(*pairs, strict=True))
    test = read_columns(
        source(folder / "pinterest-20.test.rating", delimiter="\t", header=False), ColumnNames("user", "item")
    )
    split = PublishedSplit(users, items, None, _ids(test.user), _ids(test.item), None)
    return Loaded(split=split, drops_unknown_users=True)


def _user_lines(path: Path) -> tuple[Int64, Int64]:
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            lines = [np.array(line.split(), dtype=np.int64) for line in file]
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged or cut off ({error}): restore it.") from error
    lines = [line for line in lines if len(line) > 1]
    users = np.repeat([line[0] for line in lines], [len(line) - 1 for line in lines])
    return users.astype(np.int64), np.concatenate([line[1:] for line in lines])


def _plain_columns(path: str) -> Columns:
    return read_columns(
        source(path), ColumnNames("user_id", "item_id", "timestamp", "rating"), Needs(time=True)
    )


def _with_columns(columns: Columns, items: ItemTable) -> Loaded:
    return Loaded(
        columns=columns, item_table=items, facts={"rows": len(columns.user), "columns": columns.names}
    )


def _parquet(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} is damaged: restore it from the repository.") from error


def _ids(series: pl.Series) -> Int64:
    return series.cast(pl.Int64).to_numpy()
