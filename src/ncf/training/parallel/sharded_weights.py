"""First values of sharded tables, and their way into a file that opens like any other model's.

Nobody ever holds a whole table: values are drawn, sent and written block by block of rows. Random first values follow
from (seed, table, block) alone, so they do not depend on the number of processes.

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
    """All rows of a table, `ROWS_AT_ONCE` at a time."""
    for start in range(0, rows, ROWS_AT_ONCE):
        yield range(start, min(start + ROWS_AT_ONCE, rows))


def draw(tables: ShardedTables, seed: int) -> None:
    """Random first values: each process draws the blocks that it holds rows of."""
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
    """First values that process 0 has, by the model's names of them; the others give None. Collective."""
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
    """Copy those rows of a block that this process holds."""
    held = tables.collection.held(side)
    first, end = max(held.start, block.start), min(held.stop, block.stop)
    if first < end:
        here = tables.collection.weights(side)[first - held.start : end - held.start]
        here.copy_(wide[first - block.start : end - block.start])


def write_weights(tables: ShardedTables, path: Path) -> None:
    """All of the model's weights as a safetensors file, written by process 0 at `path`. Collective.

    The format is a length, a JSON header, and the tensors' bytes one after another; the blocks of the tables go to their
    places as they come.
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
    begin, places, total = _layout(shapes)
    writing = tables.communicator.rank == 0
    if writing:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(begin)
            file.truncate(total)
            for name, value in layers.items():
                file.seek(places[name])
                file.write(value.numpy().tobytes())
    for number, side in enumerate(tables.sides):
        for block in blocks(side.rows):
            wide = tables.read(number, block)
            if writing:
                _write_block(path, places, side, block, wide.cpu())


def _write_block(path: Path, places: dict[str, int], side: Side, block: range, wide: Tensor) -> None:
    with path.open("r+b") as file:
        for name, part in zip(side.names, side.columns, strict=True):
            file.seek(places[name] + 4 * block.start * (part.stop - part.start))
            file.write(wide[:, part].contiguous().numpy().tobytes())


def _layout(shapes: dict[str, tuple[int, ...]]) -> tuple[bytes, dict[str, int], int]:
    """The file's beginning, where each float32 tensor's bytes start, and how long the file is."""
    header: dict[str, dict[str, object]] = {}
    places: dict[str, int] = {}
    offset = 0
    for name in sorted(shapes):
        places[name] = offset
        offset += 4 * math.prod(shapes[name])
        header[name] = {"dtype": "F32", "shape": shapes[name], "data_offsets": [places[name], offset]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    begin = len(text).to_bytes(8, "little") + text
    return begin, {name: len(begin) + place for name, place in places.items()}, len(begin) + offset
