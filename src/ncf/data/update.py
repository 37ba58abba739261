"""New interactions for data that were prepared before.

In: a prepared data set and a file of new events. Out: the data set that preparing both tables at once would
give, with the same options. The decision worth knowing: the old rows come from the prepared folder, where
held-out rows have their times, so the first table is not needed any more. What the first preparation dropped
(a k-core, ids unknown after a cut in time) does not come back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ncf.data.columns import ColumnNames
from ncf.data.dataset import Dataset
from ncf.data.finalize import Provenance
from ncf.data.formats import Source, is_known, source
from ncf.data.interactions import Bool, Int64, Interactions, pair_keys
from ncf.data.item_table import ItemTable, read_items
from ncf.data.options import PrepareOptions
from ncf.data.prepare import prepare_columns
from ncf.data.readers import Columns, read_columns
from ncf.data.report import PrepareReport
from ncf.data.vocabulary import alike
from ncf.errors import DataError


@dataclass(frozen=True)
class Update:
    """`rows` of the events, how many of them were there `already`, and the data with the others, if any."""

    rows: int
    already: int
    prepared: tuple[Dataset, PrepareReport] | None


def update_data(
    dataset: Dataset,
    events: str | Path,
    names: ColumnNames | None = None,
    items_file: str | Path | None = None,
) -> Update:
    """Add the rows of the file `events` to `dataset`, which stays as it is.

    `names` are columns that are called otherwise than in the first table; `items_file` is a newer table of
    items. A pair that is there already is new only if it has a later time, which it then gets. Raises
    `DataError` for a file that cannot be used, and for data with a published split.
    """
    options = _options(dataset)
    new = read_columns(
        _source(events, options), _names(dataset, options, names or ColumnNames()), options.needs
    )
    old = _interactions(dataset)
    if old.timestamps is not None and new.time_unit != dataset.description.get("time_unit"):
        raise DataError(
            f"The times of {events} are {new.time_unit}, and those of {dataset.name} "
            f"{dataset.description.get('time_unit')}: write them alike."
        )
    already = _already(dataset, old, new)
    rows = len(already)
    if already.all():
        return Update(rows, rows, None)
    fresh = pl.Series(~already)
    columns = _together(dataset, old, _filtered(new, fresh))
    told = dict(dataset.description.get("source", {}))
    told |= {"rows": len(columns.user), "updates": [*told.get("updates", []), Path(str(events)).name]}
    facts = {
        name: value
        for name, value in dataset.description.items()
        if name in ("title", "licence", "citation", "time_unit")
    }
    table = read_items(items_file, encoding=options.encoding) if items_file else _item_table(dataset)
    provenance = Provenance(dataset.name, {"source": told, **facts}, table)
    prepared = prepare_columns(columns, options, provenance)
    return Update(rows, int(already.sum()), prepared)


def _options(dataset: Dataset) -> PrepareOptions:
    """Those of the first preparation, without its table of items, whose columns are in `dataset`."""
    description = dataset.description
    if "as published" in description.get("split", {}).get("test", "as published"):
        raise DataError(
            f"The split of {dataset.name} was published and stays as it is: prepare a table of interactions "
            "with 'ncf prepare --input' to add events to it."
        )
    return replace(PrepareOptions(**description.get("options", {})), items_file=None, items_id=None)


def _source(events: str | Path, options: PrepareOptions) -> Source:
    """How to read the events: by the name of the file; what the options say of text holds for text alone."""
    if not is_known(events):
        return source(events, options.format, options.delimiter, options.header, options.encoding)
    origin = source(events)
    if origin.format != "csv":
        return origin
    return source(events, None, options.delimiter, options.header, options.encoding)


def _names(dataset: Dataset, options: PrepareOptions, given: ColumnNames) -> ColumnNames:
    """The names that are `given`, else those of the first table; times only where the data have them."""
    first = dataset.description.get("source", {}).get("columns", {})

    def name(purpose: str) -> str | None:
        found: str | None = getattr(given, purpose) or first.get(purpose) or getattr(options, purpose)
        return found

    timeless = dataset.train.timestamps is None
    return ColumnNames(
        name("user"),
        name("item"),
        None if timeless else name("time"),
        name("rating") if options.min_rating is not None else None,
        name("weight") if dataset.train.weights is not None else None,
        frozenset({"time"} if timeless else ()),
        name("event"),
        options.event_weights,
        options.columns.counted,
    )


def _interactions(dataset: Dataset) -> Interactions:
    """All interactions, each with its own time."""
    for rows in (dataset.validation, dataset.test):
        if len(rows) and dataset.train.timestamps is not None and rows.timestamps is None:
            raise DataError(
                f"{dataset.name} was prepared before held-out rows kept their times: run 'ncf prepare' again "
                "on all rows."
            )
    return dataset.with_everything_in_training().train


def _already(dataset: Dataset, old: Interactions, new: Columns) -> Bool:
    """[N]: which rows of `new` are pairs of `old` with the same or a later time."""
    users, items = (
        dataset.users.rows(new.user.cast(_plain(new.user))),
        dataset.items.rows(new.item.cast(_plain(new.item))),
    )
    keys = pair_keys(old.user_rows, old.item_rows, len(dataset.items))
    wanted = pair_keys(users, items, len(dataset.items))
    places: Int64 = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    there = (users >= 0) & (items >= 0) & (keys[places] == wanted)
    if old.timestamps is not None and new.time is not None:
        there &= new.time.to_numpy() <= old.timestamps[places]
    return np.asarray(there)


def _plain(ids: pl.Series) -> Any:
    return ids.dtype if ids.dtype.is_integer() else pl.String


def _filtered(columns: Columns, kept: pl.Series) -> Columns:
    """The rows that are `kept` [N]."""
    parts: dict[str, Any] = {
        name: None if (column := getattr(columns, name)) is None else column.filter(kept)
        for name in ("user", "item", "time", "rating", "weight")
    }
    return replace(columns, **parts)


def _together(dataset: Dataset, old: Interactions, new: Columns) -> Columns:
    """The columns of one table, old rows first."""

    def joined(ids: pl.Series, more: pl.Series) -> pl.Series:
        return pl.concat(alike(ids, more.cast(_plain(more))))

    def numbers(values: Any, more: pl.Series | None) -> pl.Series | None:
        return (
            None if more is None or values is None else pl.concat([pl.Series(values, dtype=more.dtype), more])
        )

    # The least rating was asked of the old rows already: a later rating alone may take a pair out.
    passed = np.full(len(old), np.inf, np.float32)
    return replace(
        new,
        user=joined(dataset.users.series().gather(old.user_rows), new.user),
        item=joined(dataset.items.series().gather(old.item_rows), new.item),
        time=numbers(old.timestamps, new.time),
        rating=numbers(passed, new.rating),
        weight=numbers(old.weights, new.weight),
    )


def _item_table(dataset: Dataset) -> ItemTable | None:
    """The columns that the items have; new items have none of them."""
    columns = dataset.item_columns.drop("popularity")
    return ItemTable(columns, "the earlier data") if columns.width > 1 else None
