"""The last stage of every preparation: count, audit, describe.

In: `SplitTables` whose lists are drawn. Out: the `Dataset` and its report. The decision worth knowing: the
description is made here for all ways of preparation, so every data folder answers the same questions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import polars as pl

from ncf.data.candidates import audit
from ncf.data.dataset import Dataset
from ncf.data.folder import SCHEMA_VERSION
from ncf.data.interactions import Int64
from ncf.data.item_table import ItemTable, item_columns
from ncf.data.options import PrepareOptions
from ncf.data.report import PrepareReport
from ncf.data.tables import SplitTables
from ncf.data.vocabulary import Vocabulary


@dataclass(frozen=True)
class Provenance:
    """Where data come from: the name of the data set, facts for its description, and a table with titles."""

    name: str
    facts: dict[str, Any]
    item_table: ItemTable | None = None


class SplitSummary(Protocol):
    """What the description of a split needs, in memory (`SplitTables`) or on the disk (`StoredSplit`)."""

    @property
    def users(self) -> Vocabulary: ...
    @property
    def items(self) -> Vocabulary: ...
    @property
    def popularity(self) -> Int64: ...
    @property
    def sizes(self) -> dict[str, int]: ...
    @property
    def how(self) -> dict[str, Any]: ...
    @property
    def dropped(self) -> dict[str, int]: ...


def build_dataset(
    tables: SplitTables, options: PrepareOptions, provenance: Provenance
) -> tuple[Dataset, PrepareReport]:
    """Audit the lists of `tables`, describe it, and add the columns of items; the data set and its report."""
    train = tables.train.csr(len(tables.users))
    audits = {
        "validation": audit(tables.validation, tables.known, train),
        "test": audit(tables.test, tables.known, train),
    }
    columns, note = describe_items(tables, options, provenance)
    description = describe(tables, audits, options, provenance, note)
    dataset = Dataset(
        provenance.name,
        tables.users,
        tables.items,
        columns,
        tables.train,
        tables.validation,
        tables.test,
        tables.known,
        description,
    )
    return dataset, PrepareReport(description)


def describe(
    split: SplitSummary,
    audits: dict[str, dict[str, int]],
    options: PrepareOptions,
    provenance: Provenance,
    items: str | None = None,
) -> dict[str, Any]:
    """What is stored with the data set and printed by the report.

    `audits`: of validation, then test; `items`: what `describe_items` says of the table of items.
    """
    sizes = split.sizes
    notes = {"items": items, "ids": _written_twice(split)}
    return {
        "schema_version": SCHEMA_VERSION,
        **provenance.facts,
        "split": split.how,
        "seed": options.seed,
        "options": options.as_json(),
        "dropped": split.dropped,
        "counts": {
            "users": len(split.users),
            "items": len(split.items),
            "interactions": sizes["interactions"],
            "density": sizes["interactions"] / (len(split.users) * len(split.items)),
            "train": sizes["train"],
            "validation": sizes["validation"],
            "test": sizes["test"],
            "cold_items": int((split.popularity == 0).sum()),
        },
        "audit": audits,
        **{name: note for name, note in notes.items() if note},
    }


def _written_twice(split: SplitSummary) -> str | None:
    """A sentence if users or items written as 7 and as 7.0 stand side by side, as texts do."""
    found = []
    for what, vocabulary in (("users", split.users), ("items", split.items)):
        if vocabulary.kind == "string":
            ids = vocabulary.series()
            whole = ids.filter(ids.str.contains(r"^-?[0-9]+\.0+$")).str.replace(r"\.0+$", "")
            if count := int(whole.is_in(ids.implode()).sum()):
                found.append(
                    f"{count:,} {what} are written both as an integer and as a decimal, such as 7 and 7.0"
                )
    return "; ".join(found) or None


def describe_items(
    split: SplitSummary, options: PrepareOptions, provenance: Provenance
) -> tuple[pl.DataFrame, str | None]:
    """One row for each item: id, popularity, and the columns of `--items` or of the source's own table.

    Also returns a sentence about how many items were found there.
    """
    named = provenance.facts.get("source", {}).get("columns", {}).get("item")
    table = provenance.item_table
    return item_columns(split.items.series(), split.popularity, table, options.items_id, named)
