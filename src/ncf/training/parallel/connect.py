"""Connects this process to the others: torchrun's, Amazon's SMDDP, Horovod's, or none.

In: the environment that a launcher left (`RANK`, `WORLD_SIZE`, Horovod's variables) and the requested kind.
Out: a connected `Communicator`, which is closed at the end. The decision worth knowing: nothing after this
asks which one it is.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from ncf.errors import ConfigError
from ncf.runtime import local_rank
from ncf.training.parallel.communicator import (
    KINDS,
    MEETING,
    PATIENCE,
    Communicator,
    SingleProcess,
    TorchCommunicator,
    has_cuda,
)
from ncf.training.parallel.watchdog import Watchdog


@contextmanager
def connect(kind: str = "auto", timeout: timedelta = PATIENCE) -> Iterator[Communicator]:
    """Connect to the processes that were started together with this one.

    `kind` is one of `KINDS`: `torchrun` and `smddp` for processes of torchrun, `horovod` for those of
    Horovod; `auto` is torchrun, or a single process if there are no others. `timeout` limits every exchange.
    Raises `ConfigError` if `kind` does not match how the process was started.
    """
    if kind not in KINDS:
        raise ConfigError(f"--distributed must be one of {', '.join(KINDS)}, not {kind!r}.")
    environment = os.environ
    if kind == "horovod":
        from ncf.training.parallel.horovod import horovod

        with horovod(timeout) as communicator:
            yield communicator
        return
    if "WORLD_SIZE" not in environment or "RANK" not in environment:
        if kind != "auto":
            raise ConfigError(
                f"--distributed {kind} needs processes that torchrun starts: use --nproc N on one machine, "
                "or 'torchrun … -m ncf train …' on several."
            )
        if int(environment.get("HOROVOD_SIZE", environment.get("OMPI_COMM_WORLD_SIZE", "1"))) > 1:
            raise ConfigError("These processes were started by Horovod or MPI: add --distributed horovod.")
        yield SingleProcess()
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


def _backend(kind: str) -> str:
    """The backend's name. With GPUs, this process takes the one with its own local rank."""
    if has_cuda():
        torch.cuda.set_device(local_rank())
    if kind != "smddp":
        return "nccl" if has_cuda() else "gloo"
    try:
        importlib.import_module("smdistributed.dataparallel.torch.torch_smddp")
    except ImportError:
        raise ConfigError(
            "--distributed smddp needs Amazon's library smdistributed.dataparallel, which only SageMaker's "
            "PyTorch images for ml.p4d and ml.p4de instances contain: use --distributed torchrun elsewhere."
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
    """Join `size` processes that meet at `host`:`port`, as process `rank`, and leave the group at the end.

    `backend` is that of `torch.distributed`. `meeting` limits the wait for the others, `timeout` every later
    exchange. `listens` says whether this process opens the port, by default process 0 (under torchrun, the
    agent may). `attempt` tells restarts apart. If one process fails, the others end with its message. Raises
    `ConfigError` if they do not meet.
    """
    if size == 1:
        yield SingleProcess()
        return
    listens = rank == 0 if listens is None else listens
    try:
        store = dist.TCPStore(host, port, is_master=listens, timeout=meeting, wait_for_workers=False)  # type: ignore[attr-defined]
        prefix = f"ncf/{attempt}"
        group = dist.PrefixStore(f"{prefix}/group", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=timeout)
        # The watchdog uses a connection of its own, because it works in another thread.
        client = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=5))  # type: ignore[attr-defined]
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"Process {rank} of {size} could not meet the others at {host}:{port} "
            f"({str(error).splitlines()[0][:120]}): check that they can reach each other and that the port "
            "is free."
        ) from None
    watch = Watchdog(rank, size, dist.PrefixStore(f"{prefix}/watch", client))  # type: ignore[attr-defined]
    try:
        with watch.over():
            yield TorchCommunicator(watch)
    finally:
        dist.destroy_process_group()
