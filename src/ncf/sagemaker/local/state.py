"""What exists: one record a resource, in `home/KIND/NAME/state.json`, and the kinds, read off botocore's
model.

A kind is whatever the model of SageMaker has a `Describe…` for. Records change under one lock for the whole
of `home`, and each file is replaced whole, so several commands, workers and threads may use the folder at
once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from ncf.data.files import storage_errors
from ncf.sagemaker.local.requests import Refusal, invalid, service_model

LOCAL_ACCOUNT = "000000000000"
ENDED = ("Completed", "Failed", "Stopped", "Succeeded")
MOVING = ("InProgress", "Stopping", "Executing", "Creating", "Updating", "RollingBack", "Deleting")
"""Statuses that a worker is about to change."""
STATE = "state.json"
_MEMBERS = {"kind", "name", "tags", "request", "state", "created"}
_PATHS = {
    "PipelineExecution": "pipeline", "Trial": "experiment-trial",
    "TrialComponent": "experiment-trial-component",
}  # fmt: skip
_UNKNOWN = {
    "TrainingJob": "Requested resource not found.",
    "Endpoint": 'Could not find endpoint "{arn}".',
    "EndpointConfig": 'Could not find endpoint configuration "{arn}".',
    "Model": 'Could not find model "{arn}".',
    "ProcessingJob": "Could not find requested job with name: {name}",
    "TransformJob": "Could not find requested job with name: {name}",
    "ModelPackage": "ModelPackage {arn} does not exist.",
    "ModelPackageGroup": "ModelPackageGroup {arn} does not exist.",
}
"""AWS's sentence for a name that is not there, of the kinds that answer with ValidationException."""


@dataclass(frozen=True)
class ResourceKind:
    """A kind of resource by the name that its operations have: `TrainingJob`, `Endpoint`, …"""

    name: str

    @cached_property
    def key(self) -> str:
        """The member of requests that names one."""
        shape = service_model("sagemaker").operation_model(f"Describe{self.name}").input_shape
        return str(next(iter(shape.required_members), f"{self.name}Name"))

    @cached_property
    def described(self) -> Any:
        """The members of what Describe answers."""
        return service_model("sagemaker").operation_model(f"Describe{self.name}").output_shape.members

    @cached_property
    def arn(self) -> str:
        """The member that holds the ARN; a few kinds call it by another name than their own."""
        own = f"{self.name}Arn"
        return own if own in self.described else next(name for name in self.described if name.endswith("Arn"))

    @cached_property
    def path(self) -> str:
        """`training-job`, as ARNs have it."""
        return _PATHS.get(self.name) or re.sub(r"(?<!^)(?=[A-Z])", "-", self.name).lower()

    @cached_property
    def status(self) -> str:
        """The member that holds the status."""
        stem = self.key.removesuffix("Name").removesuffix("Arn")
        names = (name for name in (f"{self.name}Status", f"{stem}Status") if name in self.described)
        return next(names, "Status")

    @cached_property
    def first_status(self) -> str | None:
        """The status of a kind that nothing has to be started for."""
        shape = self.described.get(self.status)
        good = ("InService", "Completed", "Created", "Active", "Ready")
        return next((name for name in good if name in (shape.enum if shape else ())), None)


@cache
def kind_of(name: str) -> ResourceKind:
    """The kind of that name; raises `KeyError` where the model has none."""
    if f"Describe{name}" not in service_model("sagemaker").operation_names:
        raise KeyError(name)
    return ResourceKind(name)


@dataclass
class StateRecord:
    """One resource: the request that made it, its tags, and its state in the words of Describe."""

    store: Store
    kind: ResourceKind
    name: str
    request: dict[str, Any]
    tags: dict[str, str]
    state: dict[str, Any]
    created: float

    @property
    def region(self) -> str:
        """The region that it belongs to."""
        return self.store.region

    @property
    def arn(self) -> str:
        """Its ARN."""
        return self.store.arn(self.kind, self.name)

    @property
    def folder(self) -> Path:
        """Where its state and the files of its workers lie."""
        return self.store.home / self.kind.name / self.name

    @property
    def status(self) -> str:
        """Its status when it was last read, or an empty string."""
        return str(self.state.get(self.kind.status, ""))

    @property
    def everything(self) -> dict[str, Any]:
        """All that Describe and List choose from."""
        times = {"CreationTime": self.created, "LastModifiedTime": self.created}
        return {**times, self.kind.arn: self.arn, **self.request, **self.state}

    def set(self, **state: Any) -> None:
        """Change members of the state; what was deleted meanwhile stays deleted."""
        with self.store.locked():
            if self.reload():
                self.state |= {**state, "LastModifiedTime": time.time()}
                self.write()

    def reload(self) -> bool:
        """Read it again, since another process may have changed it; False where it was deleted."""
        current = self.store.find(self.kind.name, self.name)
        if current is not None:
            self.request, self.tags, self.state = current.request, current.tags, current.state
        return current is not None

    def write(self) -> None:
        """Replace its file."""
        content = {
            "kind": self.kind.name, "name": self.name, "tags": self.tags, "request": self.request,
            "state": self.state, "created": self.created,
        }  # fmt: skip
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = self.folder / f".{STATE}.{os.getpid()}"
            temporary.write_text(json.dumps(content, indent=1, default=str), "utf-8")
            temporary.replace(self.folder / STATE)


class Store:
    """The records of one region below `home`."""

    def __init__(self, home: Path, region: str, account: str = LOCAL_ACCOUNT) -> None:
        self.home, self.region, self.account = home, region, account
        # Threads wait for each other here at once; the lock of the file is looked at every 50 ms only.
        self._threads = threading.RLock()

    @cached_property
    def _processes(self) -> Any:
        from filelock import FileLock

        with storage_errors(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
        return FileLock(self.home / "lock")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes a record in the block; may be nested."""
        with self._threads, self._processes:
            yield

    def arn(self, kind: ResourceKind, name: str) -> str:
        """The ARN of a name."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind.path}/{name}"

    def add(self, kind: str, name: str, request: dict[str, Any], **state: Any) -> StateRecord:
        """Write a new record; raises AWS's error where the name is taken. Tags are kept apart from the
        request.
        """
        kept = {key: value for key, value in request.items() if key != "Tags"}
        tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags", ())}
        with self.locked():
            if existing := self.find(kind, name):
                raise _taken(existing)
            record = StateRecord(self, kind_of(kind), name, kept, tags, state, time.time())
            record.write()
        return record

    def find(self, kind: str, name: str) -> StateRecord | None:
        """The record of a name, or None."""
        return self._read(self.home / kind / name / STATE)

    def get(self, kind: str, name: str) -> StateRecord:
        """The record of a name or an ARN; raises AWS's error where there is none."""
        short = name.partition(f":{kind_of(kind).path}/")[2] or name
        record = self.find(kind, short) if ".." not in short else None
        if record is None:
            arn = self.arn(kind_of(kind), short)
            if kind in _UNKNOWN:
                raise invalid(_UNKNOWN[kind].format(arn=arn, name=short))
            raise Refusal("ResourceNotFound", f"{kind} '{arn}' does not exist.")
        return record

    def by_arn(self, arn: str) -> StateRecord:
        """The record of an ARN; raises AWS's error where there is none."""
        for record in self.all():
            if record.arn == arn:
                return record
        raise Refusal("ResourceNotFound", f"Could not find the resource {arn}.")

    def all(self, kind: str | None = None) -> list[StateRecord]:
        """Every record, of a kind or of all, the oldest first."""
        folder = self.home / kind if kind else self.home
        # Folders of workers hold thousands of files, so the walk does not go below a state.
        records = (self._read(path) for path in _states(folder))
        return sorted((record for record in records if record), key=lambda record: record.created)

    def remove(self, record: StateRecord) -> None:
        """Delete a record with its files."""
        with self.locked():
            (record.folder / STATE).unlink(missing_ok=True)
            shutil.rmtree(record.folder, ignore_errors=True)

    def _read(self, path: Path) -> StateRecord | None:
        content = record_in(path)
        return StateRecord(self, kind_of(content.pop("kind")), **content) if content else None


def record_in(path: Path) -> dict[str, Any] | None:
    """What a record's file says; None where there is none, or a file of somebody else's."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content if isinstance(content, dict) and set(content) == _MEMBERS else None


def _states(folder: Path) -> Iterator[Path]:
    """The state files below a folder; kinds whose names have slashes nest theirs."""
    if (folder / STATE).is_file():
        yield folder / STATE
        return
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False) and entry.name not in ("storage", "logs"):
            yield from _states(Path(entry.path))


def _taken(record: StateRecord) -> Refusal:
    """AWS's words for a name that is in use."""
    kind = record.kind.name
    if kind.endswith("Job"):
        unique = "Job name must be unique within an AWS account and region"
        return Refusal("ResourceInUse", f"{unique}, and a job with this name already exists ({record.arn})")
    if kind == "ModelPackageGroup":
        return invalid(f"Model Package Group already exists: {record.arn}")
    if kind == "Pipeline":
        name = f"Pipeline with name ({record.name}) already exists"
        return invalid(f"Pipeline names must be unique within an AWS account and region. {name}.")
    words = {"EndpointConfig": "endpoint configuration"}.get(kind, record.kind.path.replace("-", " "))
    return invalid(f'Cannot create already existing {words} "{record.arn}".')
