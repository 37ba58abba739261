"""Candidate lists for held-out pairs that lie on the disk, and their audit.

In: a `Split`. Out: `validation_candidates.npy` and `test_candidates.npy`, and what the audit found. The decision worth
knowing: lists are drawn by the code that draws them in memory, some thousand pairs after the others from one generator;
of the items of each user only the pages that are looked at come into memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ncf.data.candidates import CHUNK, audit, draw, generator_for
from ncf.data.interactions import Csr, HeldOut
from ncf.data.options import PrepareOptions
from ncf.data.stream.columns import Writer
from ncf.data.stream.splitting import STAGES, Split

_LISTS = 16 * CHUNK
"""Lists in memory at once: a multiple of those that are drawn at once."""


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
