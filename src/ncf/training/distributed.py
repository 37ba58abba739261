"""Several processes that train one model: each takes its part of every step, and all make the same update.

Each process draws and trains on its own groups of a step; the gradients are added up, weighted by the groups behind
them. What comes out is the update that one process would have made, but for the order in which floats are added.
Process 0 alone decides and writes; the others are told.

`Alone` is a single process. `Processes` speaks through `torch.distributed` (gloo, nccl, or Amazon's smddp), and
`ncf.training.horovod` through Horovod. `connect` finds out which; the trainer does not ask.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ncf.errors import ConfigError
from ncf.runtime import local_rank
from ncf.training.checkpoint import Checkpoint
from ncf.training.kernels import Gradients, add_in_pairs
from ncf.training.rows import RowGradient
from ncf.training.watch import Watch

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

    def all(self, value: Value) -> list[Value]:
        """What each process has, in the order of ranks."""

    def share(self, value: Value) -> Value:
        """What process 0 has."""

    def share_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Overwrite with what process 0 has."""

    def collect(self, rows: Tensor) -> Tensor:
        """The rows of all processes, one after the other; their numbers may differ."""

    def wait(self) -> None:
        """Until all are here."""

    def phase(self, words: str) -> None:
        """What this process does from now on, for a report should it hang."""


class Alone:
    """One process: nothing to exchange."""

    rank, size = 0, 1

    def sum(self, tensors: list[Tensor]) -> list[Tensor]:
        """As they are."""
        return tensors

    def add(self, gradients: Gradients) -> Gradients:
        """As they are."""
        return gradients

    def all(self, value: Value) -> list[Value]:
        """This one's."""
        return [value]

    def share(self, value: Value) -> Value:
        """As it is."""
        return value

    def share_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Nothing to do."""

    def collect(self, rows: Tensor) -> Tensor:
        """As they are."""
        return rows

    def wait(self) -> None:
        """Nobody to wait for."""

    def phase(self, words: str) -> None:
        """Nobody asks."""


class Many:
    """What is the same whoever carries the tensors: subclasses say how to add up, gather and broadcast."""

    rank: int
    size: int
    watch: Watch

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

    def share_tensors(self, tensors: dict[str, Tensor]) -> None:
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

    def collect(self, rows: Tensor) -> Tensor:
        """One gather."""
        return torch.cat(self._gather(rows))

    def phase(self, words: str) -> None:
        """Told to the others once a second."""
        self.watch.phase = words


class Processes(Many):
    """The processes of `torch.distributed`'s default group, which is initialised already. It asks for no second one."""

    def __init__(self, watch: Watch) -> None:
        self.rank, self.size, self.watch = dist.get_rank(), dist.get_world_size(), watch
        self._place = torch.device("cpu" if dist.get_backend() == "gloo" or not _has_cuda() else "cuda")

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

    def all(self, value: Value) -> list[Value]:
        """Pickled by torch.distributed between our own processes."""
        self.watch.count += 1
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share(self, value: Value) -> Value:
        """Pickled by torch.distributed between our own processes."""
        self.watch.count += 1
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0)
        shared: Value = box[0]
        return shared

    def wait(self) -> None:
        """A barrier."""
        self.watch.count += 1
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


def agree(communicator: Communicator, facts: Mapping[str, str]) -> None:
    """Refuse to train where the processes differ in any of these facts; all of them raise the same `ConfigError`."""
    everyone = communicator.all(dict(facts))
    for name in facts:
        for rank, other in enumerate(everyone):
            if other[name] != everyone[0][name]:
                raise ConfigError(
                    f"Processes 0 and {rank} do not have the same {name} ({everyone[0][name][:20]} and "
                    f"{other[name][:20]}): start all of them with the same recipe, data and versions."
                )


@contextmanager
def connect(kind: str = "auto", timeout: timedelta = PATIENCE) -> Iterator[Communicator]:
    """The processes that this one was started with: by torchrun (`auto`, `torchrun`, `smddp`) or by Horovod.

    `auto` is a single process where nobody started several. Raises `ConfigError` where `kind` does not fit what is there.
    """
    if kind not in KINDS:
        raise ConfigError(f"--distributed must be one of {', '.join(KINDS)}, not {kind!r}.")
    environment = os.environ
    if kind == "horovod":
        from ncf.training.horovod import horovod

        with horovod(timeout) as communicator:
            yield communicator
        return
    if "WORLD_SIZE" not in environment or "RANK" not in environment:
        if kind != "auto":
            raise ConfigError(
                f"--distributed {kind} is for processes that torchrun starts: use --nproc N on one machine, or "
                "'torchrun … -m ncf train …' on several."
            )
        if int(environment.get("HOROVOD_SIZE", environment.get("OMPI_COMM_WORLD_SIZE", "1"))) > 1:
            raise ConfigError("These processes were started by Horovod or MPI: add --distributed horovod.")
        yield Alone()
        return
    with processes(
        environment["MASTER_ADDR"],
        int(environment["MASTER_PORT"]),
        int(environment["RANK"]),
        int(environment["WORLD_SIZE"]),
        backend=_backend(kind),
        timeout=timeout,
        listens=environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True" and environment["RANK"] == "0",
        attempt=environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
    ) as communicator:
        yield communicator


def _has_cuda() -> bool:
    return torch.cuda.is_available()


def _backend(kind: str) -> str:
    """The backend's name; this process takes the GPU of its place among those on this machine."""
    if _has_cuda():
        torch.cuda.set_device(local_rank())
    if kind != "smddp":
        return "nccl" if _has_cuda() else "gloo"
    try:
        importlib.import_module("smdistributed.dataparallel.torch.torch_smddp")
    except ImportError:
        raise ConfigError(
            "--distributed smddp needs Amazon's library smdistributed.dataparallel, which is only in SageMaker's PyTorch "
            "images for ml.p4d and ml.p4de instances: use --distributed torchrun elsewhere."
        ) from None
    return "smddp"


@contextmanager
def processes(
    host: str,
    port: int,
    rank: int,
    size: int,
    *,
    backend: str = "gloo",
    meeting: timedelta = MEETING,
    timeout: timedelta = PATIENCE,
    listens: bool | None = None,
    attempt: str = "0",
) -> Iterator[Communicator]:
    """Join `size` processes that meet at `host`:`port`, and part from them at the end.

    Process 0 listens there, unless `listens` says otherwise (torchrun's agent may). `attempt` tells restarts apart.
    What fails in one process is told to the others, who end with its sentence. Raises `ConfigError` where they do not meet
    in time.
    """
    if size == 1:
        yield Alone()
        return
    listens = rank == 0 if listens is None else listens
    try:
        store = dist.TCPStore(host, port, is_master=listens, timeout=meeting, wait_for_workers=False)  # type: ignore[attr-defined]
        prefix = f"ncf/{attempt}"
        group = dist.PrefixStore(f"{prefix}/group", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=timeout)
        # A client of its own, as the watch speaks from another thread.
        client = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=5))  # type: ignore[attr-defined]
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"Process {rank} of {size} could not meet the others at {host}:{port} ({str(error).splitlines()[0][:120]}): "
            "check that they can reach each other and that the port is free."
        ) from None
    watch = Watch(rank, size, dist.PrefixStore(f"{prefix}/watch", client))  # type: ignore[attr-defined]
    try:
        with watch.over():
            yield Processes(watch)
    finally:
        dist.destroy_process_group()
