"""From a table that is larger than memory to a prepared folder.

In: a path and `PrepareOptions`, as for `prepare_file`. Out: the same folder, to the byte, and its report. The
decision worth knowing: memory holds ids, counts, offsets and marks of users and items, and one part of the
rows. Rows lie on the disk, in the folder that is made, and are read in passes (docs/scale.md has the cost of
each).
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from ncf.data.candidates import CHUNK, audit, draw
from ncf.data.dataset import digest_of
from ncf.data.diagnosis import SCAN_ERRORS
from ncf.data.encode import filter_table
from ncf.data.files import atomic_folder, sha256_of
from ncf.data.finalize import Provenance, describe, describe_items
from ncf.data.folder import refuse_foreign, seal, write_array
from ncf.data.formats import Source
from ncf.data.interactions import HeldOut
from ncf.data.item_table import read_item_table
from ncf.data.options import PrepareOptions
from ncf.data.out_of_core.column_files import Writer
from ncf.data.out_of_core.scan_ids import scan_ids
from ncf.data.out_of_core.sorted_interactions import SortedInteractions, sort
from ncf.data.out_of_core.splitting import StoredSplit, split_stored
from ncf.data.prepare import provenance_of, source_of
from ncf.data.readers import Reading
from ncf.data.report import PrepareReport
from ncf.data.scanning import scan
from ncf.data.splits import generator_for
from ncf.data.tables import STAGES, Stage
from ncf.errors import DataError
from ncf.runtime import free_memory

_LISTS = 16 * CHUNK
"""Lists in memory at once: a multiple of those that are drawn at once."""
BYTES_A_ROW = 100
"""Peak memory of `prepare_file`: 88 were measured, for 100 million rows of CSV with times and ratings."""
_OF_TEXT, _OF_PACKED_TEXT = 4, 16
_SHARE = 0.7


def wants_streaming(origin: Source) -> bool:
    """Whether preparing `origin` in memory would take more than 70% of the free memory.

    Memory is the faster way to the same folder. A remote file is not streamed: its size is not known.
    """
    return not origin.remote and expected_bytes(origin) > _SHARE * free_memory()


def expected_bytes(origin: Source) -> int:
    """Estimated peak memory of `prepare_file`; 0 if the file cannot be read, which the reader then reports.

    From the rows that a Parquet file has, or from the bytes of text.
    """
    if origin.format == "parquet":
        try:
            return BYTES_A_ROW * int(scan(origin).select(pl.len()).collect().item())
        except (*SCAN_ERRORS, DataError):
            return 0
    total = 0
    for path in map(Path, origin.paths):
        if path.is_file():
            total += path.stat().st_size * (_OF_PACKED_TEXT if path.suffix == ".gz" else _OF_TEXT)
    return total


def draw_lists(split: StoredSplit, options: PrepareOptions, folder: Path) -> dict[str, dict[str, int]]:
    """Draw the lists of each stage, write them into `folder`, and audit them: stage -> audit."""
    return {stage: _draw(split, stage, options, folder) for stage in STAGES}


def _draw(split: StoredSplit, stage: Stage, options: PrepareOptions, folder: Path) -> dict[str, int]:
    pairs, generator = split.held_out[stage], generator_for(options.seed, f"{stage} candidates")
    known, train = split.known, split.train
    writer = Writer(folder / f"{stage}_candidates.npy", np.int32, 1 + options.negatives)
    defects = audit(HeldOut.empty(options.negatives), known, train)
    for start in range(0, len(pairs.user_rows), _LISTS):
        part = slice(start, start + _LISTS)
        users, items = pairs.user_rows.values[part].copy(), pairs.item_rows.values[part].copy()
        lists = draw(users, items, known, len(split.items), options.negatives, generator)
        writer.append(lists.candidates)
        for name, count in audit(lists, known, train).items():
            defects[name] += count if name != "negatives" else 0
        for column in (split.table.item_rows, split.train_items, pairs.user_rows, pairs.item_rows):
            column.release()
    writer.close()
    return defects


def prepare_streaming(
    path: str | Path, output: str | Path, options: PrepareOptions | None = None, name: str | None = None
) -> PrepareReport:
    """As `prepare_file`, but written to the folder `output`, with memory for a part of the rows only."""
    options, target = options or PrepareOptions(), Path(output)
    refuse_foreign(target)
    items = read_item_table(options)
    origin = source_of(path, options)
    reading = Reading(origin, options.columns, options.needs)
    ids = scan_ids(reading)
    provenance = provenance_of(origin, ids.rows, reading, name, items)
    with atomic_folder(target) as folder:
        scratch = folder / "scratch"
        scratch.mkdir()
        table = sort(reading, ids, options, scratch)
        del ids
        return finish(table, options, folder, provenance)


def finish(
    table: SortedInteractions, options: PrepareOptions, folder: Path, provenance: Provenance
) -> PrepareReport:
    """The stages after sorting: `table`, with files in `folder`/scratch, becomes the finished `folder`."""
    scratch = folder / "scratch"
    table = filter_table(table, options)
    split = split_stored(table, options, folder, scratch)
    audits = draw_lists(split, options, folder)
    split = replace(split, how={**split.how, "validation_lists": "drawn", "test_lists": "drawn"})
    split.table.item_rows.path.rename(folder / "known_items.npy")
    write_array(folder / "known_offsets.npy", split.table.offsets)
    shutil.rmtree(scratch)
    columns, note = describe_items(split, options, provenance)
    description = describe(split, audits, options, provenance, note)
    hashes = {path.name: sha256_of(path) for path in sorted(folder.glob("*.npy"))}
    digest = digest_of(hashes, split.users, split.items, columns)
    tables = {"users.parquet": split.users.series().to_frame(), "items.parquet": columns}
    seal(folder, hashes, tables, {"name": provenance.name, "digest": digest, "description": description})
    return PrepareReport(description)
