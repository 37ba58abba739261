"""Checkpoints: everything that the next step depends on, in a folder that is whole or not there.

In: the tensors and the state of a run. Out: folders of `tensors.safetensors` (weights, optimiser moments, the
averaged and the best weights) and `state.json` (position, history of epochs, digests). The decision worth
knowing: a checkpoint of another experiment or of other data is refused. Only the newest are kept.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ncf.data.files import atomic_folder, sha256_of, write_text
from ncf.errors import CheckpointError

SCHEMA_VERSION = 2
_TENSORS = "tensors.safetensors"
_STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by name, and `state`: JSON values."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]


def add_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, named `prefix.name`."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors named `prefix.…`, without the prefix."""
    start = len(prefix) + 1
    return {name[start:]: value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


class Checkpoints:
    """The checkpoints of one run in `folder`; the newest `keep` stay. The digests identify the run."""

    def __init__(self, folder: Path, experiment_digest: str, data_digest: str, keep: int = 2) -> None:
        self.folder = folder
        self._identity = {
            "schema_version": SCHEMA_VERSION,
            "experiment": experiment_digest,
            "data": data_digest,
        }
        self._keep = keep

    def save(self, epoch: int, step: int, checkpoint: Checkpoint) -> Path:
        """Write the checkpoint of (epoch, step), and remove all but the newest; the new folder."""
        target = self.folder / f"epoch-{epoch:05d}-step-{step:09d}"
        for unfinished in self.folder.glob(".epoch-*.part"):  # of a process that was killed while writing
            shutil.rmtree(unfinished, ignore_errors=True)
        # Written under another name and renamed when whole, so that a kill leaves no half of a checkpoint.
        with atomic_folder(target) as temporary:
            save_file(
                {n: t.detach().contiguous().cpu() for n, t in checkpoint.tensors.items()},
                temporary / _TENSORS,
            )
            state = {**checkpoint.state, **self._identity, "sha256": sha256_of(temporary / _TENSORS)}
            write_text(temporary / _STATE, json.dumps(state))
        for old in self._folders()[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint, verified, or None. Raises `CheckpointError` if it cannot be used."""
        folders = self._folders()
        return self._load(folders[-1]) if folders else None

    def exist(self) -> bool:
        """Whether there is one to resume from."""
        return bool(self._folders())

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("epoch-*") if path.is_dir())

    def _load(self, path: Path) -> Checkpoint:
        damaged = (
            f"The checkpoint {path} is damaged: remove it to resume from an earlier one, or start again."
        )
        try:
            state = json.loads((path / _STATE).read_text("utf-8"))
            if not isinstance(state, dict) or state.get("sha256") != sha256_of(path / _TENSORS):
                raise CheckpointError(damaged)
            tensors = load_file(path / _TENSORS)
        except (OSError, ValueError, SafetensorError):
            raise CheckpointError(damaged) from None
        self._refuse_foreign(path, state)
        return Checkpoint(tensors, state)

    def _refuse_foreign(self, path: Path, state: dict[str, Any]) -> None:
        reasons = {
            "schema_version": "was written by another version of ncf",
            "experiment": "belongs to another experiment (its settings differ)",
            "data": "was trained on other data",
        }
        for key, reason in reasons.items():
            if state.get(key) != self._identity[key]:
                raise CheckpointError(
                    f"The checkpoint {path} {reason}: train with the settings and data it was made with, "
                    "or start again with another --output."
                )
