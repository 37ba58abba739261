"""From a file, a published split or a known name to a `Dataset`.

In: a path or a name, and `PrepareOptions`. Out: the `Dataset` and a `PrepareReport` of what was read, dropped
and why. The order: read, ids to rows, latest of each pair, least rating, k-core, split, candidate lists. The
decision worth knowing: all three ways end in `assemble.finish`, so nothing downstream can tell them apart.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from ncf.data import catalog
from ncf.data.catalog import Progress
from ncf.data.dataset import Dataset
from ncf.data.encode import encode_columns, filtered, refuse_trivial
from ncf.data.finalize import build_dataset, with_candidates
from ncf.data.formats import Source, source
from ncf.data.options import PrepareOptions
from ncf.data.published import prepare_published, read_triple
from ncf.data.readers import Columns, read_columns
from ncf.data.report import PrepareReport
from ncf.data.sources import Loaded
from ncf.data.splits import split_table
from ncf.errors import DataError

__all__ = [
    "PrepareOptions",
    "PrepareReport",
    "prepare_catalog",
    "prepare_columns",
    "prepare_file",
    "prepare_ncf_triple",
    "prepare_published",
]


def prepare_file(
    path: str | Path, options: PrepareOptions | None = None, name: str | None = None
) -> tuple[Dataset, PrepareReport]:
    """Prepare one file of interactions: see `readers` for formats and `PrepareOptions` for choices."""
    options = options or PrepareOptions()
    origin = source(path, options.format, options.delimiter, options.header)
    columns = read_columns(origin, options.columns, need_time=options.split in ("last", "time"))
    facts = facts_of(origin, len(columns.user), columns.names, columns.time_unit)
    return prepare_columns(columns, options, name or origin.label.split(".")[0], facts)


def facts_of(origin: Source, rows: int, names: dict[str, str], time_unit: str) -> dict[str, Any]:
    """What the description says of a file."""
    return {
        "source": {"kind": "file", "from": origin.label, "rows": rows, "columns": names},
        "time_unit": time_unit,
    }


def prepare_ncf_triple(
    prefix: str | Path, options: PrepareOptions | None = None, name: str | None = None
) -> tuple[Dataset, PrepareReport]:
    """Prepare PREFIX.train.rating, PREFIX.test.rating and PREFIX.test.negative with their published lists."""
    split = read_triple(prefix)
    label = Path(str(prefix)).name
    facts = {
        "source": {
            "kind": "published split",
            "from": f"{label}.train.rating, .test.rating and .test.negative",
        }
    }
    return prepare_published(split, options or PrepareOptions(), name or label, facts)


def prepare_catalog(
    name: str,
    options: PrepareOptions | None = None,
    cache: str | Path | None = None,
    source: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[Dataset, PrepareReport]:
    """Prepare a known set. `source`: a folder with its files; `cache`: where fetched files are kept."""
    known = catalog.entry(name)
    folder, form = catalog.locate(known, cache, source, progress)
    loaded = form.load(folder)
    if form.content is not None and catalog.content_digest(loaded) != form.content:
        raise DataError(
            f"The files of {name} in {folder} do not have the known content: remove them and let them be "
            "fetched again, or give another folder with --source."
        )
    facts: dict[str, Any] = {
        "source": {"kind": "catalogue", "from": f"{name} ({', '.join(form.files)})", **loaded.facts},
        "title": known.title,
        "licence": known.licence,
        "citation": known.citation,
        "time_unit": "as given",
    }
    return _prepare(loaded, options or PrepareOptions(), name, facts)


def _prepare(
    loaded: Loaded, options: PrepareOptions, name: str, facts: dict[str, Any]
) -> tuple[Dataset, PrepareReport]:
    if loaded.split is not None:
        drop = replace(options, drop_unknown_users=options.drop_unknown_users or loaded.drops_unknown_users)
        return prepare_published(loaded.split, drop, name, facts)
    assert loaded.columns is not None
    return prepare_columns(loaded.columns, options, name, facts, loaded.item_table)


def prepare_columns(
    columns: Columns,
    options: PrepareOptions,
    name: str,
    facts: dict[str, Any],
    item_table: pl.DataFrame | None = None,
) -> tuple[Dataset, PrepareReport]:
    """Prepare columns that were already read; `facts` go into the description, `item_table` has titles."""
    table, dropped = encode_columns(columns, options)
    del columns
    table, core = filtered(table, options)
    dropped |= core
    refuse_trivial(len(table.users), len(table.items))
    parts, table, cut = split_table(table, options)
    dropped |= cut
    known = table.interactions.csr(len(table.users))
    validation = with_candidates(parts.validation, known, len(table.items), options, "validation")
    test = with_candidates(parts.test, known, len(table.items), options, "test")
    how = {**parts.how, "validation_lists": "drawn", "test_lists": "drawn"}
    return build_dataset(
        name, table, parts.train, validation, test, known, options, facts, dropped, how, item_table
    )
