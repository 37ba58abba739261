"""Several processes that train one model: each takes its share of every step, and all make the same update.

A step's groups follow from (seed, epoch, block), so every process draws all of them and trains on its span; the gradients
are added up, weighted by the groups behind them. What comes out is the update that one process would have made, but
for the order in which floats are added. Process 0 alone decides, measures and writes; the others are told.

`Alone` is a single process. `Processes` speaks through `torch.distributed` (gloo, or nccl on CUDA devices).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ncf.errors import ConfigError, NcfError
from ncf.runtime import spans
from ncf.training.checkpoint import Checkpoint
from ncf.training.kernels import Gradients
from ncf.training.rows import RowGradient

Value = TypeVar("Value")
_PATIENCE = timedelta(minutes=30)
_MEETING = timedelta(minutes=10)
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting")


class Communicator(Protocol):
    """`rank` of `size` processes."""

    rank: int
    size: int

    def part(self, groups: int) -> slice:
        """This process's span of a step's groups; empty where there are fewer groups than processes."""

    def add(self, gradients: Gradients, loss: Tensor, stop: bool) -> tuple[Gradients, Tensor, bool]:
        """Gradients and losses summed over the processes, and whether any of them was asked to stop."""

    def share(self, value: Value) -> Value:
        """What process 0 has."""

    def share_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite with what process 0 has."""

    def wait(self) -> None:
        """Until all are here."""


class Alone:
    """One process: nothing to exchange."""

    rank, size = 0, 1

    def part(self, groups: int) -> slice:
        """All of it."""
        return slice(0, groups)

    def add(self, gradients: Gradients, loss: Tensor, stop: bool) -> tuple[Gradients, Tensor, bool]:
        """As they are."""
        return gradients, loss, stop

    def share(self, value: Value) -> Value:
        """As it is."""
        return value

    def share_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Nothing to do."""

    def wait(self) -> None:
        """Nobody to wait for."""


class Processes:
    """The processes of `torch.distributed`'s default group, which is initialised already."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def part(self, groups: int) -> slice:
        """Spans of nearly equal size, in the order of ranks."""
        cuts = spans(groups, self.size)
        return cuts[self.rank] if self.rank < len(cuts) else slice(groups, groups)

    def add(self, gradients: Gradients, loss: Tensor, stop: bool) -> tuple[Gradients, Tensor, bool]:
        """Whole tables and layers in one all-reduce, with loss and stop at its end; rows of large tables by all-gather."""
        whole = [gradient.values for gradient in gradients.values() if gradient.rows is None]
        tail = torch.stack([loss.float(), loss.new_tensor(float(stop)).float()])
        flat = torch.cat([values.reshape(-1).float() for values in whole] + [tail])
        dist.all_reduce(flat)
        pieces = iter(torch.split(flat, [values.numel() for values in whole] + [2]))
        summed: Gradients = {}
        for parameter, gradient in gradients.items():
            if gradient.rows is None:
                summed[parameter] = RowGradient(None, next(pieces).view_as(gradient.values))
            else:
                summed[parameter] = self._gather(gradient.rows, gradient.values)
        total, stopping = next(pieces)
        return summed, total, bool(stopping > 0)

    def _gather(self, rows: Tensor, values: Tensor) -> RowGradient:
        """The rows of all processes, each once, with their gradients added in the order of ranks."""
        counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([len(rows)], dtype=torch.int64, device=rows.device))
        most = int(max(int(count) for count in counts))
        padded_rows = rows.new_zeros(most)
        padded_rows[: len(rows)] = rows
        padded = values.new_zeros(most, values.shape[1])
        padded[: len(rows)] = values
        all_rows = [torch.empty_like(padded_rows) for _ in range(self.size)]
        all_values = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(all_rows, padded_rows)
        dist.all_gather(all_values, padded)
        cut = [int(count) for count in counts]
        stacked = torch.cat([part[:n] for part, n in zip(all_rows, cut, strict=True)])
        unique, place = torch.unique(stacked, return_inverse=True)
        total = values.new_zeros(len(unique), values.shape[1])
        total.index_add_(0, place, torch.cat([part[:n] for part, n in zip(all_values, cut, strict=True)]))
        return RowGradient(unique, total)

    def share(self, value: Value) -> Value:
        """Pickled by torch.distributed between our own processes."""
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        shared: Value = box[0]
        return shared

    def share_tensors(self, tensors: dict[str, Tensor]) -> None:
        """One broadcast a tensor, in the order of names."""
        for name in sorted(tensors):
            dist.broadcast(tensors[name], src=0)

    def wait(self) -> None:
        """A barrier."""
        dist.barrier()


def share_checkpoint(communicator: Communicator, checkpoint: Checkpoint | None) -> Checkpoint | None:
    """The checkpoint that process 0 has, or None where it has none."""
    if communicator.size == 1:
        return checkpoint
    tensors = checkpoint.tensors if checkpoint else {}
    shapes = communicator.share({name: (t.shape, t.dtype) for name, t in tensors.items()})
    state = communicator.share(checkpoint.state if checkpoint else None)
    if state is None:
        return None
    if communicator.rank:
        tensors = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in shapes.items()}
    communicator.share_tensors(tensors)
    return Checkpoint(tensors, state)


@contextmanager
def processes(
    host: str, port: int, rank: int, size: int, *, backend: str = "gloo", meeting: timedelta = _MEETING
) -> Iterator[Communicator]:
    """Join `size` processes that meet where process 0 listens, and part from them at the end.

    Raises `ConfigError` where they do not meet in time.
    """
    if size == 1:
        yield Alone()
        return
    try:
        store = dist.TCPStore(host, port, size, is_master=rank == 0, timeout=meeting)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"Process {rank} of {size} could not meet the others at {host}:{port} ({str(error).splitlines()[0][:120]}): "
            "check that they can reach each other and that the port is free."
        ) from None
    try:
        yield Processes()
    except RuntimeError as error:
        if not any(word in str(error) for word in _LOST):
            raise
        raise NcfError(
            f"Process {rank} of {size} lost another one, whose own log says why it ended."
        ) from error
    finally:
        dist.destroy_process_group()
