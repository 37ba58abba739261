"""Several processes that train one model: each takes its part of every step, and all make the same update.

Each process draws and trains on its own groups of a step; the gradients are added up, weighted by the groups behind
them. What comes out is the update that one process would have made, but for the order in which floats are added.
Process 0 alone decides and writes; the others are told.

`SingleProcess` is a single process. `TorchCommunicator` speaks through `torch.distributed` (gloo, nccl, or Amazon's smddp), and
`ncf.training.parallel.horovod` through Horovod. `connect` finds out which; the trainer does not ask.
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
"""How long a process waits for another one's part before it gives up."""
MEETING = timedelta(minutes=10)
"""How long it waits for the others to come."""
_LARGE_TABLE = 8 * 2**20
"""Bytes of a gradient from which it is worth looking for the rows that it has."""


class Communicator(Protocol):
    """`rank` of `size` processes. Every method is called by all of them, in the same order."""

    rank: int
    size: int

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """Each summed over the processes, as float32."""

    def add(self, gradients: Gradients) -> Gradients:
        """Gradients summed over the processes; of large tables only the rows in use are exchanged."""

    def all_gather_object(self, value: Value) -> list[Value]:
        """What each process has, in the order of ranks."""

    def broadcast(self, value: Value) -> Value:
        """What process 0 has."""

    def broadcast_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite with what process 0 has."""

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        """The rows of all processes, one after the other; their numbers may differ."""

    def barrier(self) -> None:
        """Until all are here."""

    def phase(self, words: str) -> None:
        """What this process does from now on, for a report should it hang."""


class SingleProcess:
    """One process: nothing to exchange."""

    rank, size = 0, 1

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """As they are."""
        return tensors

    def add(self, gradients: Gradients) -> Gradients:
        """As they are."""
        return gradients

    def all_gather_object(self, value: Value) -> list[Value]:
        """This one's."""
        return [value]

    def broadcast(self, value: Value) -> Value:
        """As it is."""
        return value

    def broadcast_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Nothing to do."""

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        """As they are."""
        return rows

    def barrier(self) -> None:
        """Nobody to wait for."""

    def phase(self, words: str) -> None:
        """Nobody asks."""


class Collective:
    """What is the same whoever carries the tensors: subclasses say how to add up, gather and broadcast."""

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
        """Each process adds up one piece, in pairs and pairs of pairs, as the kernels add up the parts of one process.

        A ring, which an all-reduce over a network usually is, adds in an order that depends on the piece and the number of
        processes.
        """
        pieces = self._swap(torch.nn.functional.pad(flat, (0, -len(flat) % self.size)))
        return self._join(add_in_pairs(list(pieces.view(self.size, -1))))[: len(flat)]

    def broadcast_tensors(self, tensors: dict[str, Tensor]) -> None:
        """One broadcast a tensor, in the order of names."""
        for name in sorted(tensors):
            there = self._broadcast(tensors[name], name)
            if there is not tensors[name]:
                tensors[name].copy_(there)

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """In one exchange."""
        flat = self._sum(torch.cat([tensor.reshape(-1).float() for tensor in tensors]))
        pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)]

    def add(self, gradients: Gradients) -> Gradients:
        """What is whole in one sum; rows in a gather a side, and one of values a table."""
        few = self._used_rows(gradients)
        whole = [p for p, gradient in gradients.items() if gradient.rows is None and p not in few]
        sums = dict(zip(whole, self.sum([gradients[parameter].values for parameter in whole]), strict=True))
        places: dict[int, tuple[Tensor, Tensor]] = {}
        added: Gradients = {}
        for parameter, gradient in gradients.items():
            if parameter in sums:
                added[parameter] = RowGradient(None, sums[parameter])
            elif gradient.rows is None:
                used = few[parameter]
                rows, values = self._add_rows(*self._places(used), gradient.values[used])
                added[parameter] = RowGradient(
                    None, torch.zeros_like(gradient.values).index_copy_(0, rows, values)
                )
            else:  # the tables of a side share their rows
                if id(gradient.rows) not in places:
                    places[id(gradient.rows)] = self._places(gradient.rows)
                added[parameter] = RowGradient(*self._add_rows(*places[id(gradient.rows)], gradient.values))
        return added

    def _used_rows(self, gradients: Gradients) -> dict[Tensor, Tensor]:
        """Of large tables that take part whole: this process's rows, where that makes at most half of the bytes."""
        large = [p for p, g in gradients.items() if g.rows is None and g.values.nbytes >= _LARGE_TABLE]
        if not large:
            return {}
        used = {p: gradients[p].values.any(dim=1).nonzero().squeeze(1) for p in large}
        counts = self.sum([torch.tensor([float(len(used[p])) for p in large], device=large[0].device)])[0]
        return {p: used[p] for p, n in zip(large, counts.tolist(), strict=True) if n <= len(p)}

    def _places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of all processes, each once, and which of them each row of each process is."""
        unique, place = torch.unique(torch.cat(self._gather(rows)), return_inverse=True)
        return unique, place

    def _add_rows(self, rows: Tensor, place: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The rows, and their gradients added in the order of ranks."""
        total = values.new_zeros(len(rows), values.shape[1])
        return rows, total.index_add_(0, place, torch.cat(self._gather(values)))

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        """One gather."""
        return torch.cat(self._gather(rows))

    def phase(self, words: str) -> None:
        """Told to the others once a second."""
        self.watch.phase = words


def has_cuda() -> bool:
    return torch.cuda.is_available()


class TorchCommunicator(Collective):
    """The processes of `torch.distributed`'s default group, which is initialised already. It asks for no second one."""

    def __init__(self, watch: Watchdog) -> None:
        self.rank, self.size, self.watch = dist.get_rank(), dist.get_world_size(), watch
        self._place = torch.device("cpu" if dist.get_backend() == "gloo" or not has_cuda() else "cuda")

    def _sum(self, flat: Tensor) -> Tensor:
        self.watch.count += 1
        if self.size == 2 or dist.get_backend() != "gloo":
            dist.all_reduce(flat)
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
        there = tensor.to(self._place)
        dist.broadcast(there, src=0)
        return there

    def _gather(self, rows: Tensor) -> list[Tensor]:
        """Padded to the longest, as all parts of an all-gather have one shape."""
        here = rows.to(self._place)
        self.watch.count += 1
        lengths = [torch.zeros(1, dtype=torch.int64, device=self._place) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(here)], dtype=torch.int64, device=self._place))
        cut = [int(length) for length in lengths]
        padded = here.new_zeros(max(cut), *here.shape[1:])
        padded[: len(here)] = here
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded)
        return [part[:length].to(rows.device) for part, length in zip(parts, cut, strict=True)]

    def all_gather_object(self, value: Value) -> list[Value]:
        """Pickled by torch.distributed between our own processes."""
        self.watch.count += 1
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: Value) -> Value:
        """Pickled by torch.distributed between our own processes."""
        self.watch.count += 1
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        shared: Value = box[0]
        return shared

    def barrier(self) -> None:
        """A barrier."""
        self.watch.count += 1
        dist.barrier()


def broadcast_checkpoint(communicator: Communicator, checkpoint: Checkpoint | None) -> Checkpoint | None:
    """The checkpoint that process 0 has, or None where it has none."""
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
    """Refuse to train where the processes differ in any of these facts; all of them raise the same `ConfigError`."""
    everyone = communicator.all_gather_object(dict(facts))
    for name in facts:
        for rank, other in enumerate(everyone):
            if other[name] != everyone[0][name]:
                raise ConfigError(
                    f"Processes 0 and {rank} do not have the same {name} ({everyone[0][name][:20]} and "
                    f"{other[name][:20]}): start all of them with the same recipe, data and versions."
                )
