"""Checkpoints of sharded tables: each process writes what it holds, and any number of processes reads it back.

PyTorch's distributed checkpoint in its safetensors form, one file a process, which says which rows of which tensor it has;
there is no pickle in it, and neither writing nor reading needs TorchRec. The folder lies in `tables/` beside the
checkpoints of the rest. The checkpoint that process 0 writes afterwards names it and the sha256 of every file, so
tables that it does not name count for nothing, and tables that have changed since are refused.
"""

import shutil
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

from ncf.data.files import sha256_of, storage_error
from ncf.errors import CheckpointError
from ncf.training.checkpoint import Checkpoints
from ncf.training.parallel.sharding import ShardedTables

_FOLDER = "tables"


def save_tables(tables: ShardedTables, checkpoints: Checkpoints, epoch: int, step: int) -> dict[str, Any]:
    """Write the tables of (epoch, step); what the checkpoint's state must say of them. Collective.

    Raises `StorageError` on all processes where one could not write.
    """
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
    """Remove the tables of checkpoints that are there no more. Process 0 alone does it, after its own checkpoint."""
    kept = {path.name for path in checkpoints.folder.glob("epoch-*")}
    for folder in (checkpoints.folder / _FOLDER).glob("epoch-*"):
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)


def load_tables(tables: ShardedTables, checkpoints: Checkpoints, state: dict[str, Any]) -> None:
    """Read the tables that a checkpoint's state names, whatever number of processes wrote them. Collective.

    Raises `CheckpointError` on all processes where one finds a file missing or changed.
    """
    folder = tables.communicator.broadcast(checkpoints.folder / _FOLDER / state["folder"])
    changed = [
        name
        for name in _own(tables, sorted(state["sha256"]))
        if not (folder / name).is_file() or sha256_of(folder / name) != state["sha256"][name]
    ]
    for rank, names in enumerate(tables.communicator.all_gather_object(changed)):
        if names:
            raise CheckpointError(
                f"Process {rank} does not find {names[0]} in {folder} as it was written: all processes must see the same "
                "--output; copy the checkpoint afresh, or remove it to go on from an earlier one."
            )
    if state["best"]:
        tables.keep_best()  # makes the room that is read into
    try:
        load(_state(tables), storage_reader=HuggingFaceStorageReader(str(folder)))
    except CheckpointException as error:
        raise CheckpointError(
            f"The tables in {folder} cannot be read ({_first(error)[1]}): remove the checkpoint to go on from an earlier "
            "one, or start again."
        ) from error


def _own(tables: ShardedTables, names: list[Any]) -> list[Any]:
    """This process's share of the files to digest."""
    return names[tables.communicator.rank :: tables.communicator.size]


def _first(error: CheckpointException) -> tuple[int, BaseException]:
    """The first process that failed, and why."""
    rank, (reason, _) = next(iter(error.failures.items()))
    return rank, reason


def _state(tables: ShardedTables) -> dict[str, DTensor]:
    """What each process holds, as parts of whole tensors."""
    mesh = DeviceMesh.from_group(dist.group.WORLD, tables.device.type)  # type: ignore[arg-type]
    state = {}
    for name, (held, shape) in tables.held().items():
        stride = torch.empty(shape, device="meta").stride()
        state[name] = DTensor.from_local(
            held, mesh, [Shard(0)], run_check=False, shape=torch.Size(shape), stride=stride
        )
    return state
