"""Initial values of sharded tables, and writing them as a file that opens like any other model.

No process ever holds a whole table: values are drawn, sent and written in blocks of rows. Random initial
values follow from (seed, table, block) alone, so they do not depend on the number of processes.

Legend: n rows of a block, W width of a wide table.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ncf.runtime import generator
from ncf.training.parallel.sharding import ShardedTables, Side

ROWS_AT_ONCE = 2**15


def blocks(rows: int) -> Iterator[range]:
    """Ranges that cover a table of `rows` rows, `ROWS_AT_ONCE` at a time."""
    for start in range(0, rows, ROWS_AT_ONCE):
        yield range(start, min(start + ROWS_AT_ONCE, rows))


def draw(tables: ShardedTables, seed: int) -> None:
    """Fill `tables` with random values from `seed`. Each process draws the blocks in which it holds rows."""
    for number, side in enumerate(tables.sides):
        held = tables.collection.held(number)
        for block_number, block in enumerate(blocks(side.rows)):
            if block.start >= held.stop or block.stop <= held.start:
                continue
            wide = side.join(
                [
                    _normal(seed, name, block_number, block, side, table)
                    for table, name in enumerate(side.names)
                ],
                tables.width,
            )
            _store(tables, number, block, wide)


def _normal(seed: int, name: str, block_number: int, block: range, side: Side, table: int) -> Tensor:
    part = side.columns[table]
    random = generator(seed, f"init {name}", block_number)
    return torch.empty(len(block), part.stop - part.start).normal_(0.0, side.stds[table], generator=random)


def spread(tables: ShardedTables, weights: Mapping[str, np.ndarray] | None) -> None:
    """Fill `tables` with the `weights` of process 0, by parameter name; the others give None. Collective."""
    for number, side in enumerate(tables.sides):
        for block in blocks(side.rows):
            wide = torch.empty(len(block), tables.width)
            if weights is not None:
                rows = slice(block.start, block.stop)
                parts = [torch.from_numpy(np.array(weights[name][rows], np.float32)) for name in side.names]
                wide = side.join(parts, tables.width)
            wide = wide.to(tables.device)
            tables.communicator.broadcast_tensors({"block": wide})
            _store(tables, number, block, wide)


def _store(tables: ShardedTables, side: int, block: range, wide: Tensor) -> None:
    """Copy the rows of `block` that this process holds; `wide` has all rows of the block."""
    held = tables.collection.held(side)
    first, end = max(held.start, block.start), min(held.stop, block.stop)
    if first < end:
        here = tables.collection.weights(side)[first - held.start : end - held.start]
        here.copy_(wide[first - block.start : end - block.start])


def write_weights(tables: ShardedTables, path: Path) -> None:
    """Write all weights of the model of `tables` as a safetensors file at `path`, on process 0. Collective.

    safetensors itself needs whole tensors in memory. The format is simple: a length, a JSON header, and the
    bytes of the tensors one after another. So each block of a table is written at its own offset as it
    arrives.
    """
    layers = {
        name: value.detach().float().cpu().contiguous()
        for name, value in tables.model.state_dict().items()
        if not any(name in side.names for side in tables.sides)
    }
    shapes = {name: tuple(value.shape) for name, value in layers.items()}
    for side in tables.sides:
        for name, part in zip(side.names, side.columns, strict=True):
            shapes[name] = (side.rows, part.stop - part.start)
    begin, offsets, total = _layout(shapes)
    writing = tables.communicator.rank == 0
    if writing:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(begin)
            file.truncate(total)
            for name, value in layers.items():
                file.seek(offsets[name])
                file.write(value.numpy().tobytes())
    for number, side in enumerate(tables.sides):
        for block in blocks(side.rows):
            wide = tables.read(number, block)
            if writing:
                _write_block(path, offsets, side, block, wide.cpu())


def _write_block(path: Path, offsets: dict[str, int], side: Side, block: range, wide: Tensor) -> None:
    with path.open("r+b") as file:
        for name, part in zip(side.names, side.columns, strict=True):
            file.seek(offsets[name] + 4 * block.start * (part.stop - part.start))
            file.write(wide[:, part].contiguous().numpy().tobytes())


def _layout(shapes: dict[str, tuple[int, ...]]) -> tuple[bytes, dict[str, int], int]:
    """The header bytes, the offset in the file of each float32 tensor, and the file's length."""
    header: dict[str, dict[str, object]] = {}
    starts: dict[str, int] = {}
    offset = 0
    for name in sorted(shapes):
        starts[name] = offset
        offset += 4 * math.prod(shapes[name])
        header[name] = {"dtype": "F32", "shape": shapes[name], "data_offsets": [starts[name], offset]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    begin = len(text).to_bytes(8, "little") + text
    return begin, {name: len(begin) + start for name, start in starts.items()}, len(begin) + offset
