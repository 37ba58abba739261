"""From a table that is larger than memory to a prepared folder.

In: a path and `PrepareOptions`, as for `prepare_file`. Out: the same folder, to the byte, and its report. The decision
worth knowing: memory holds what there is of each user and item (ids, counts, offsets, marks) and a part of the rows;
rows lie on the disk, in the folder that is made, and are read in passes. See docs/scale.md for what a pass costs.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ncf.data.candidates import CHUNK, audit, draw, generator_for
from ncf.data.dataset import digest_of
from ncf.data.encode import item_columns, refuse_trivial
from ncf.data.files import atomic_folder, sha256_of
from ncf.data.finalize import counted, describe
from ncf.data.folder import refuse_foreign, seal, write_array
from ncf.data.formats import SCAN_ERRORS, Source, read_table, scan, source
from ncf.data.interactions import Csr, HeldOut
from ncf.data.options import PrepareOptions
from ncf.data.out_of_core.column_files import Writer
from ncf.data.out_of_core.filters import filtered
from ncf.data.out_of_core.scan_ids import survey
from ncf.data.out_of_core.sorted_interactions import SortedInteractions, sort
from ncf.data.out_of_core.splitting import STAGES, Split, split
from ncf.data.prepare import facts_of
from ncf.data.readers import Reading
from ncf.data.report import PrepareReport
from ncf.runtime import free_memory

_LISTS = 16 * CHUNK
"""Lists in memory at once: a multiple of those that are drawn at once."""
BYTES_A_ROW = 100
"""What the way in memory takes at its peak: 88 were measured, of 100 million rows of CSV with times and ratings."""
_OF_TEXT, _OF_PACKED_TEXT = 4, 16
_SHARE = 0.7


def wants_streaming(origin: Source) -> bool:
    """Whether the preparation in memory would take more than most of the memory that is free."""
    return not origin.remote and expected_bytes(origin) > _SHARE * free_memory()


def expected_bytes(origin: Source) -> int:
    """Peak memory of the way in memory; 0 where the file cannot be read, which the reader then says."""
    if origin.format == "parquet":
        try:
            return BYTES_A_ROW * int(scan(origin).select(pl.len()).collect().item())
        except SCAN_ERRORS:
            return 0
    total = 0
    for path in map(Path, origin.files or (origin.path,)):
        if path.is_file():
            total += path.stat().st_size * (_OF_PACKED_TEXT if path.suffix == ".gz" else _OF_TEXT)
    return total


def draw_lists(split: Split, options: PrepareOptions, folder: Path) -> dict[str, dict[str, int]]:
    """Draw and write the lists of each stage; its audit."""
    return {stage: _draw(split, stage, options, folder) for stage in STAGES}


def _draw(split: Split, stage: str, options: PrepareOptions, folder: Path) -> dict[str, int]:
    held, generator = split.held[stage], generator_for(options.seed, f"{stage} candidates")
    known = Csr(split.table.offsets, split.table.item_rows.values)
    train = Csr(split.train_offsets, split.train_items.values)
    writer = Writer(folder / f"{stage}_candidates.npy", np.int32, 1 + options.negatives)
    found = audit(HeldOut.empty(options.negatives), known, train)
    for start in range(0, len(held.user_rows), _LISTS):
        part = slice(start, start + _LISTS)
        users, items = held.user_rows.values[part].copy(), held.item_rows.values[part].copy()
        lists = draw(users, items, known, len(split.table.items), options.negatives, generator)
        writer.append(lists.candidates)
        for name, count in audit(lists, known, train).items():
            found[name] += count if name != "negatives" else 0
        for column in (split.table.item_rows, split.train_items, held.user_rows, held.item_rows):
            column.release()
    writer.close()
    return found


def prepare_streaming(
    path: str | Path, output: str | Path, options: PrepareOptions | None = None, name: str | None = None
) -> PrepareReport:
    """Prepare a file, a folder of files or a pattern into the folder `output`, with memory for a part of the rows."""
    options, target = options or PrepareOptions(), Path(output)
    refuse_foreign(target)
    origin = source(path, options.format, options.delimiter, options.header)
    reading = Reading(origin, options.columns, need_time=options.split in ("last", "time"))
    found = survey(reading)
    facts = facts_of(origin, found.rows, reading.names, reading.time_unit)
    with atomic_folder(target) as folder:
        scratch = folder / "scratch"
        scratch.mkdir()
        table, dropped = sort(reading, found, options, scratch)
        del found
        return finish(table, options, folder, name or origin.label.split(".")[0], facts, dropped)


def finish(
    table: SortedInteractions,
    options: PrepareOptions,
    folder: Path,
    name: str,
    facts: dict[str, Any],
    dropped: dict[str, int],
) -> PrepareReport:
    """From sorted interactions, whose files lie in `folder`/scratch, to the finished folder."""
    scratch = folder / "scratch"
    table, core = filtered(table, options, scratch / "filtered")
    refuse_trivial(len(table.users), len(table.items))
    parts = split(table, options, folder, scratch)
    table = parts.table
    audits = draw_lists(parts, options, folder)
    table.item_rows.path.rename(folder / "known_items.npy")
    write_array(folder / "known_offsets.npy", table.offsets)
    shutil.rmtree(scratch)
    rows = {"interactions": len(table), "train": len(parts.train_items)}
    rows |= {stage: len(parts.held[stage].user_rows) for stage in STAGES}
    how = {**parts.how, "validation_lists": "drawn", "test_lists": "drawn"}
    counts = counted(len(table.users), parts.popularity, rows)
    description = describe(options, facts, dropped | core | parts.dropped, how, counts, audits)
    titles = read_table(options.items_file) if options.items_file is not None else None
    columns = item_columns(table.items.series(), parts.popularity, titles, options.items_id)
    hashes = {path.name: sha256_of(path) for path in sorted(folder.glob("*.npy"))}
    document = {"name": name, "digest": digest_of(hashes, table.users, table.items, columns)}
    tables = {"users.parquet": table.users.series().to_frame(), "items.parquet": columns}
    seal(folder, hashes, tables, document | {"description": description})
    return PrepareReport(description)
