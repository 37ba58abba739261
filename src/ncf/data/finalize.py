"""The last step of every preparation: draw lists, count, audit, describe.

In: the parts of a split. Out: the `Dataset` and its report. The decision worth knowing: the description is
made here for all ways of preparation, so every data folder answers the same questions.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from ncf.data.candidates import audit, draw, generator_for
from ncf.data.dataset import Dataset
from ncf.data.encode import Table, item_columns
from ncf.data.folder import SCHEMA_VERSION
from ncf.data.formats import read_table
from ncf.data.interactions import Csr, HeldOut, Int64, Interactions
from ncf.data.options import PrepareOptions
from ncf.data.report import PrepareReport


def with_candidates(
    pairs: Interactions, known: Csr, items: int, options: PrepareOptions, purpose: str
) -> HeldOut:
    generator = generator_for(options.seed, f"{purpose} candidates")
    return draw(pairs.user_rows, pairs.item_rows, known, items, options.negatives, generator)


def build_dataset(
    name: str,
    table: Table,
    train: Interactions,
    validation: HeldOut,
    test: HeldOut,
    known: Csr,
    options: PrepareOptions,
    facts: dict[str, Any],
    dropped: dict[str, int],
    how: dict[str, Any],
    item_table: pl.DataFrame | None = None,
) -> tuple[Dataset, PrepareReport]:
    """Count, audit, describe."""
    popularity = train.item_counts(len(table.items))
    train_csr = train.csr(len(table.users))
    rows = {
        "interactions": len(known.columns), "train": len(train), "validation": len(validation), "test": len(test),
    }  # fmt: skip
    audits = {
        stage: audit(lists, known, train_csr) for stage, lists in (("validation", validation), ("test", test))
    }
    counts = counted(len(table.users), popularity, rows)
    description = describe(options, facts, dropped, how, counts, audits)
    if options.items_file is not None:
        item_table = read_table(options.items_file)
    columns = item_columns(table.items.series(), popularity, item_table, options.items_id)
    dataset = Dataset(name, table.users, table.items, columns, train, validation, test, known, description)
    return dataset, PrepareReport(description)


def counted(users: int, popularity: Int64, rows: dict[str, int]) -> dict[str, int | float]:
    """The counts of a description. `popularity`: [I]; `rows`: how many interactions there are, and of each part."""
    items = len(popularity)
    return {
        "users": users,
        "items": items,
        "interactions": rows["interactions"],
        "density": rows["interactions"] / (users * items),
        "train": rows["train"],
        "validation": rows["validation"],
        "test": rows["test"],
        "cold_items": int((popularity == 0).sum()),
    }


def describe(
    options: PrepareOptions,
    facts: dict[str, Any],
    dropped: dict[str, int],
    how: dict[str, Any],
    counts: dict[str, int | float],
    audits: dict[str, dict[str, int]],
) -> dict[str, Any]:
    """What is stored with the data set, and printed by the report."""
    return {
        "schema_version": SCHEMA_VERSION,
        **facts,
        "split": how,
        "seed": options.seed,
        "options": options.as_json(),
        "dropped": dropped,
        "counts": counts,
        "audit": {stage: audits[stage] for stage in ("validation", "test")},
    }
