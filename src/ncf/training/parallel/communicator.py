"""Several processes that train one model: each takes its part of every step, and all make the same update.

Each process draws and trains on its own groups of a step. The gradients are summed, weighted by the number of
groups behind them, so the update is the one that a single process would make, up to the order of
floating-point additions. Only process 0 decides and writes; it broadcasts what the others need.

`TorchCommunicator` uses `torch.distributed` (gloo, nccl or Amazon's smddp), `ncf.training.parallel.horovod`
uses Horovod, and `SingleProcess` exchanges nothing. `ncf.training.parallel.connect` chooses one; the trainer
does not ask which.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ncf.errors import ConfigError
from ncf.training.checkpoint import Checkpoint
from ncf.training.kernels.batch import Gradients, RowGradient
from ncf.training.kernels.branch import add_in_pairs
from ncf.training.parallel.watchdog import Watchdog

Value = TypeVar("Value")
KINDS = ("auto", "torchrun", "horovod", "smddp")
PATIENCE = timedelta(minutes=30)
"""How long a process waits in an exchange before it gives up."""
MEETING = timedelta(minutes=10)
"""How long a process waits for the others to start."""
_LARGE_TABLE = 8 * 2**20
"""Bytes of a gradient from which it pays to look for its non-zero rows."""


class Communicator(Protocol):
    """Process `rank` of `size`. All processes must call every method, in the same order."""

    rank: int
    size: int

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """The sum of each tensor over the processes, in float32. Shapes must be the same everywhere."""

    def add(self, gradients: Gradients) -> Gradients:
        """The sum of `gradients` over the processes. Of large tables only the rows in use are exchanged."""

    def all_gather_object(self, value: Value) -> list[Value]:
        """The `value` of every process, in the order of ranks."""

    def broadcast(self, value: Value) -> Value:
        """The `value` of process 0."""

    def broadcast_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite `tensors`, by name, with those of process 0."""

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        """The `rows` of all processes, concatenated in the order of ranks. Their numbers may differ."""

    def barrier(self) -> None:
        """Wait until all processes are here."""

    def phase(self, words: str) -> None:
        """Note what this process does from now on (`words`), for the error message if it hangs."""


class SingleProcess:
    """The communicator of a single process, which returns its inputs."""

    rank, size = 0, 1

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        return tensors

    def add(self, gradients: Gradients) -> Gradients:
        return gradients

    def all_gather_object(self, value: Value) -> list[Value]:
        return [value]

    def broadcast(self, value: Value) -> Value:
        return value

    def broadcast_tensors(self, tensors: dict[str, Tensor]) -> None:
        pass

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        return rows

    def barrier(self) -> None:
        pass

    def phase(self, words: str) -> None:
        pass


class Collective:
    """The part that does not depend on the backend.

    Subclasses implement `_sum` of a flat tensor, `_gather` of rows, `_broadcast` from process 0, and for sums
    in pairs `_swap` (all-to-all of equal pieces) and `_join` (all-gather of one piece each).
    """

    rank: int
    size: int
    watch: Watchdog

    def _sum(self, flat: Tensor) -> Tensor:
        raise NotImplementedError

    def _gather(self, rows: Tensor) -> list[Tensor]:
        raise NotImplementedError

    def _swap(self, pieces: Tensor) -> Tensor:
        raise NotImplementedError

    def _join(self, piece: Tensor) -> Tensor:
        raise NotImplementedError

    def _broadcast(self, tensor: Tensor, name: str) -> Tensor:
        raise NotImplementedError

    def _sum_in_pairs(self, flat: Tensor) -> Tensor:
        """Each process sums one piece, in pairs and pairs of pairs, as the kernels sum the parts of one
        process.

        The usual all-reduce (a ring) adds in an order that depends on the piece and on the number of
        processes, so its result differs in the last bits from that of another number of processes.
        """
        pieces = self._swap(torch.nn.functional.pad(flat, (0, -len(flat) % self.size)))
        return self._join(add_in_pairs(list(pieces.view(self.size, -1))))[: len(flat)]

    def broadcast_tensors(self, tensors: dict[str, Tensor]) -> None:
        # Dictionaries may be ordered differently on each process, but names sort the same everywhere.
        for name in sorted(tensors):
            received = self._broadcast(tensors[name], name)
            if received is not tensors[name]:
                tensors[name].copy_(received)

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        # One exchange for all tensors: latency costs more than the copy.
        flat = self._sum(torch.cat([tensor.reshape(-1).float() for tensor in tensors]))
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]

    def add(self, gradients: Gradients) -> Gradients:
        """Whole gradients take one sum; row gradients take one gather of rows per side and one of values per
        table."""
        sparse = self._used_rows(gradients)
        whole = [p for p, gradient in gradients.items() if gradient.rows is None and p not in sparse]
        sums = dict(zip(whole, self.sum([gradients[parameter].values for parameter in whole]), strict=True))
        unions: dict[int, tuple[Tensor, Tensor]] = {}
        added: Gradients = {}
        for parameter, gradient in gradients.items():
            if parameter in sums:
                added[parameter] = RowGradient(None, sums[parameter])
            elif gradient.rows is None:
                used = sparse[parameter]
                rows, values = self._add_rows(*self._union(used), gradient.values[used])
                added[parameter] = RowGradient(
                    None, torch.zeros_like(gradient.values).index_copy_(0, rows, values)
                )
            else:  # the tables of a side share their rows
                if id(gradient.rows) not in unions:
                    unions[id(gradient.rows)] = self._union(gradient.rows)
                added[parameter] = RowGradient(*self._add_rows(*unions[id(gradient.rows)], gradient.values))
        return added

    def _used_rows(self, gradients: Gradients) -> dict[Tensor, Tensor]:
        """This process's non-zero rows of each large whole table, if sending only those halves the bytes or
        better."""
        large = [p for p, g in gradients.items() if g.rows is None and g.values.nbytes >= _LARGE_TABLE]
        if not large:
            return {}
        used = {p: gradients[p].values.any(dim=1).nonzero().squeeze(1) for p in large}
        counts = self.sum([torch.tensor([float(len(used[p])) for p in large], device=large[0].device)])[0]
        # The decision uses the sum of all counts, so all processes decide alike.
        return {p: used[p] for p, n in zip(large, counts.tolist(), strict=True) if n <= len(p)}

    def _union(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct rows of all processes, and the position among them of each row of each process."""
        unique, positions = torch.unique(torch.cat(self._gather(rows)), return_inverse=True)
        return unique, positions

    def _add_rows(self, rows: Tensor, positions: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The distinct `rows`, and their gradients, added in the order of ranks."""
        total = values.new_zeros(len(rows), values.shape[1])
        return rows, total.index_add_(0, positions, torch.cat(self._gather(values)))

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        return torch.cat(self._gather(rows))

    def phase(self, words: str) -> None:
        self.watch.phase = words


def has_cuda() -> bool:
    """Whether torch can use a GPU. Tests replace this function."""
    return torch.cuda.is_available()


class TorchCommunicator(Collective):
    """The processes of `torch.distributed`'s default group, which must be initialised. It makes no second
    group."""

    def __init__(self, watch: Watchdog) -> None:
        """`watch` counts the exchanges."""
        self.rank, self.size, self.watch = dist.get_rank(), dist.get_world_size(), watch
        self._device = torch.device("cpu" if dist.get_backend() == "gloo" or not has_cuda() else "cuda")

    def _sum(self, flat: Tensor) -> Tensor:
        self.watch.count += 1
        if self.size == 2 or dist.get_backend() != "gloo":
            dist.all_reduce(flat)  # a sum of two has only one order; on GPUs speed comes before equal bits
            return flat
        return self._sum_in_pairs(flat)

    def _swap(self, pieces: Tensor) -> Tensor:
        swapped = torch.empty_like(pieces)
        dist.all_to_all_single(swapped, pieces)
        return swapped

    def _join(self, piece: Tensor) -> Tensor:
        joined = piece.new_empty(self.size, len(piece))
        dist.all_gather(list(joined), piece)
        return joined.view(-1)

    def _broadcast(self, tensor: Tensor, _: str) -> Tensor:
        self.watch.count += 1
        moved = tensor.to(self._device)
        dist.broadcast(moved, src=0)
        return moved

    def _gather(self, rows: Tensor) -> list[Tensor]:
        """Padded to the longest, because all parts of an all-gather must have one shape."""
        moved = rows.to(self._device)
        self.watch.count += 1
        lengths = [torch.zeros(1, dtype=torch.int64, device=self._device) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(moved)], dtype=torch.int64, device=self._device))
        counts = [int(length) for length in lengths]
        padded = moved.new_zeros(max(counts), *moved.shape[1:])
        padded[: len(moved)] = moved
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return [part[:length].to(rows.device) for part, length in zip(parts, counts, strict=True)]

    def all_gather_object(self, value: Value) -> list[Value]:
        self.watch.count += 1
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Value) -> Value:
        self.watch.count += 1
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        received: Value = values[0]
        return received

    def barrier(self) -> None:
        self.watch.count += 1
        dist.barrier()


def broadcast_checkpoint(communicator: Communicator, checkpoint: Checkpoint | None) -> Checkpoint | None:
    """The checkpoint of process 0 on all processes, or None if it has none; `checkpoint` of the others is
    ignored."""
    if communicator.size == 1:
        return checkpoint
    tensors = checkpoint.tensors if checkpoint else {}
    shapes = communicator.broadcast({name: (t.shape, t.dtype) for name, t in tensors.items()})
    state = communicator.broadcast(checkpoint.state if checkpoint else None)
    if state is None:
        return None
    if communicator.rank:
        tensors = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in shapes.items()}
    communicator.broadcast_tensors(tensors)
    return Checkpoint(tensors, state)


def assert_same(communicator: Communicator, facts: Mapping[str, str]) -> None:
    """Raise the same `ConfigError` on all processes if any of `facts` (a name and its value) differs among
    them."""
    first, *others = communicator.all_gather_object(dict(facts))
    for name in facts:
        for rank, other in enumerate(others, 1):
            if other[name] != first[name]:
                raise ConfigError(
                    f"Processes 0 and {rank} do not have the same {name} ({first[name][:20]} and "
                    f"{other[name][:20]}): start all processes with the same recipe, data and versions."
                )
