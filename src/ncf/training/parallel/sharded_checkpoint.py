"""Checkpoints of sharded tables: each process writes its rows, and any number of processes can read them
back.

The format is PyTorch's distributed checkpoint as safetensors, with one file per process that names the rows
it holds. It contains no pickle and does not need TorchRec. The folder lies in `tables/` next to the
checkpoints of the other state. The checkpoint that process 0 writes afterwards names this folder and the
sha256 of every file, so tables of an unfinished checkpoint are ignored and tables that were changed are
refused.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from ncf.data.files import sha256_of, storage_error
from ncf.errors import CheckpointError
from ncf.training.checkpoint import Checkpoints
from ncf.training.parallel.sharding import ShardedTables

if TYPE_CHECKING:
    # At run time these are imported where they are used: they take a second, and few runs have sharded
    # tables.
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.tensor import DTensor

_FOLDER = "tables"


def save_tables(tables: ShardedTables, checkpoints: Checkpoints, epoch: int, step: int) -> dict[str, Any]:
    """Write `tables` as of (`epoch`, `step`) below the folder of `checkpoints`. Collective.

    Returns what the checkpoint's state must record about them. Raises `StorageError` on all processes if one
    fails.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    communicator = tables.communicator
    folder = communicator.broadcast(checkpoints.folder / _FOLDER / f"epoch-{epoch:05d}-step-{step:09d}")
    if communicator.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
    communicator.barrier()
    try:
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        save(_state(tables), storage_writer=writer)
    except CheckpointException as error:
        rank, reason = _first(error)
        if isinstance(reason, OSError):
            raise storage_error(reason, f"{folder} (process {rank})") from error
        raise
    digests = {path.name: sha256_of(path) for path in _own(tables, sorted(folder.glob("shard-*")))}
    parts = communicator.all_gather_object(digests)
    every = {name: digest for part in parts for name, digest in part.items()}
    return {"folder": folder.name, "sha256": every, "best": bool(tables.best)}


def forget_tables(checkpoints: Checkpoints) -> None:
    """Remove tables whose checkpoint in `checkpoints` is gone. Only process 0 calls this, after its own
    checkpoint."""
    kept = {path.name for path in checkpoints.folder.glob("epoch-*")}
    for folder in (checkpoints.folder / _FOLDER).glob("epoch-*"):
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def load_tables(tables: ShardedTables, checkpoints: Checkpoints, state: dict[str, Any]) -> None:
    """Read `tables` from `checkpoints` as `state`, the return value of `save_tables`, names them. Collective.

    They may have been written by another number of processes. Raises `CheckpointError` on all processes if
    one finds a file missing or changed.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    folder = tables.communicator.broadcast(checkpoints.folder / _FOLDER / state["folder"])
    changed = [
        name
        for name in _own(tables, sorted(state["sha256"]))
        if not (folder / name).is_file() or sha256_of(folder / name) != state["sha256"][name]
    ]
    for rank, names in enumerate(tables.communicator.all_gather_object(changed)):
        if names:
            raise CheckpointError(
                f"For process {rank}, {names[0]} in {folder} is missing or changed: check that all "
                "processes see the same --output. Copy the checkpoint again, or remove it to resume from "
                "an earlier one."
            )
    if state["best"]:
        tables.keep_best()  # allocates the tensors that are read into
    try:
        load(_state(tables), storage_reader=HuggingFaceStorageReader(str(folder)))
    except CheckpointException as error:
        raise CheckpointError(
            f"The tables in {folder} cannot be read ({_first(error)[1]}): remove the checkpoint to resume "
            "from an earlier one, or start again."
        ) from error


def _own(tables: ShardedTables, names: list[Any]) -> list[Any]:
    """This process's share of the files to digest."""
    return names[tables.communicator.rank :: tables.communicator.size]


def _first(error: CheckpointException) -> tuple[int, BaseException]:
    """The first process that failed, and why."""
    rank, (reason, _) = next(iter(error.failures.items()))
    return rank, reason


def _state(tables: ShardedTables) -> dict[str, DTensor]:
    """The rows of this process, as parts of distributed tensors."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor, Shard

    mesh = DeviceMesh.from_group(dist.group.WORLD, tables.device.type)  # type: ignore[arg-type]
    state = {}
    for name, (held, shape) in tables.held().items():
        stride = torch.empty(shape, device="meta").stride()
        state[name] = DTensor.from_local(
            held, mesh, [Shard(0)], run_check=False, shape=torch.Size(shape), stride=stride
        )
    return state
