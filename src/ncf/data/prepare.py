"""From a file, a published split or a known name to a `Dataset`.

In: a path or a name, and `PrepareOptions`. Out: the `Dataset` and a `PrepareReport` of what was read, dropped
and why. The order: read, ids to rows, latest of each pair, least rating, k-core, split, candidate lists. The
decision worth knowing: all three ways end in `finalize.build_dataset`, so nothing downstream can tell them
apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ncf.data import catalog
from ncf.data.candidates import with_candidates
from ncf.data.catalog import Progress
from ncf.data.dataset import Dataset
from ncf.data.encode import encode_columns, filter_table
from ncf.data.finalize import Provenance, build_dataset
from ncf.data.formats import Source, source
from ncf.data.item_table import ItemTable, read_item_table
from ncf.data.options import PrepareOptions
from ncf.data.published import prepare_published, read_triple
from ncf.data.readers import Columns, read_columns
from ncf.data.report import PrepareReport
from ncf.data.splits import split_table
from ncf.errors import ConfigError, DataError


def prepare_file(
    path: str | Path, options: PrepareOptions | None = None, name: str | None = None
) -> tuple[Dataset, PrepareReport]:
    """Prepare one file of interactions: see `readers` for formats and `PrepareOptions` for choices."""
    options = options or PrepareOptions()
    items = read_item_table(options)
    origin = source_of(path, options)
    columns = read_columns(origin, options.columns, options.needs)
    provenance = provenance_of(origin, len(columns.user), columns, name, items)
    return prepare_columns(columns, options, provenance)


def source_of(path: str | Path, options: PrepareOptions) -> Source:
    """How to read the table of interactions at `path`."""
    return source(path, options.format, options.delimiter, options.header, options.encoding)


class WasRead(Protocol):
    """What `Columns`, `Reading` and `Cast` say of a table that was read."""

    @property
    def names(self) -> dict[str, str]: ...
    @property
    def time_unit(self) -> str: ...
    @property
    def left_out(self) -> Sequence[str]: ...


def provenance_of(
    origin: Source, rows: int, read: WasRead, name: str | None, items: ItemTable | None = None
) -> Provenance:
    """Where a table comes from that was read from a file of `rows` rows.

    `name` is the data set's, by default that of the file; `items`: its table of items.
    """
    source = {"kind": "file", "from": origin.label, "rows": rows, "columns": read.names}
    if read.left_out:
        source["left_out"] = list(read.left_out)
    facts = {"source": source, "time_unit": read.time_unit}
    return Provenance(name or origin.label.split(".")[0], facts, items)


def prepare_ncf_triple(
    prefix: str | Path, options: PrepareOptions | None = None, name: str | None = None
) -> tuple[Dataset, PrepareReport]:
    """Prepare PREFIX.train.rating, PREFIX.test.rating and PREFIX.test.negative with their published lists."""
    split = read_triple(prefix)
    label, options = Path(str(prefix)).name, options or PrepareOptions()
    source = {"kind": "published split", "from": f"{label}.train.rating, .test.rating and .test.negative"}
    provenance = Provenance(name or label, {"source": source}, read_item_table(options))
    return prepare_published(split, options, provenance)


def prepare_catalog(
    name: str,
    options: PrepareOptions | None = None,
    cache: str | Path | None = None,
    source: str | Path | None = None,
    progress: Progress | None = None,
) -> tuple[Dataset, PrepareReport]:
    """Prepare a known set. `source`: a folder with its files; `cache`: where fetched files are kept."""
    known, options = catalog.entry(name), options or PrepareOptions()
    given = [f"--{option}" for option in ("weight", "event", "repeats") if option in options.as_json()]
    if given:
        raise ConfigError(
            f"{', '.join(given)} cannot be used with a known data set: prepare its file with --input."
        )
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
    provenance = Provenance(name, facts, read_item_table(options) or loaded.item_table)
    if loaded.split is not None:
        drop = replace(options, drop_unknown_users=options.drop_unknown_users or loaded.drops_unknown_users)
        return prepare_published(loaded.split, drop, provenance)
    assert loaded.columns is not None
    return prepare_columns(loaded.columns, options, provenance)


def prepare_columns(
    columns: Columns, options: PrepareOptions, provenance: Provenance
) -> tuple[Dataset, PrepareReport]:
    """Prepare columns that were already read; every stage takes the table of the one before."""
    table = encode_columns(columns, options)
    del columns
    table = filter_table(table, options)
    tables = split_table(table, options)
    tables = with_candidates(tables, options)
    return build_dataset(tables, options, provenance)
