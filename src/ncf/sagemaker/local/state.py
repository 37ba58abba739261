"""What exists in local mode: `home/KINDs/NAME/state.json`, one small file a resource.

In: the folder `home`. Out: records, which are plain dictionaries. Changes are made under one lock for the whole of
`home`, and each file is replaced whole, so that several commands and workers may be at it at once.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from ncf.data.files import atomic_file, storage_errors, write_text

ACCOUNT = "000000000000"
STATE = "state.json"
Record = dict[str, Any]


class Store:
    """The records of one `home`. A kind is the word of its ARN: `training-job`, `model`, `endpoint`, …"""

    def __init__(self, home: Path, region: str) -> None:
        self.home = home
        self.region = region

    @cached_property
    def _lock(self) -> FileLock:
        with storage_errors(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
        return FileLock(self.home / "lock")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes a record in the block; may be nested."""
        with self._lock:
            yield

    def folder(self, kind: str, name: str) -> Path:
        """Where the resource keeps its files."""
        return self.home / f"{kind}s" / name

    def arn(self, kind: str, name: str) -> str:
        """A name as AWS writes it in full, with a made-up account."""
        return f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:{kind}/{name}"

    def named(self, arn: str) -> tuple[str, str]:
        """Kind and name of an ARN."""
        kind, _, name = arn.rpartition(":")[2].partition("/")
        return kind, name

    def read(self, kind: str, name: str) -> Record | None:
        """The record, or None where there is none."""
        try:
            record: Record = json.loads((self.folder(kind, name) / STATE).read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return record

    def all(self, kind: str) -> list[Record]:
        """Every record of a kind, the oldest first."""
        paths = sorted((self.home / f"{kind}s").glob(f"*/{STATE}"))
        found = [self.read(kind, path.parent.name) for path in paths]
        return sorted((one for one in found if one is not None), key=lambda one: one["created"])

    def create(self, kind: str, name: str, request: Record, **more: Any) -> Record:
        """Write a new record; `request` is what was asked for, its tags apart."""
        kept = {key: value for key, value in request.items() if key != "Tags"}
        now = time.time()
        record = {
            "kind": kind, "name": name, "arn": self.arn(kind, name), "tags": list(request.get("Tags", [])),
            "request": kept, "created": now, "modified": now, **more,
        }  # fmt: skip
        with self.locked():
            self._write(kind, name, record)
        return record

    @contextmanager
    def editing(self, kind: str, name: str) -> Iterator[Record]:
        """The record, to be changed in the block; what was deleted meanwhile stays deleted."""
        with self.locked():
            record = self.read(kind, name)
            there = record is not None
            record = record or {}
            yield record
            if there:
                record["modified"] = time.time()
                self._write(kind, name, record)

    def delete(self, kind: str, name: str) -> None:
        """Remove a resource with its files."""
        with self.locked():
            folder = self.folder(kind, name)
            (folder / STATE).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)

    def _write(self, kind: str, name: str, record: Record) -> None:
        with atomic_file(self.folder(kind, name) / STATE) as temporary:
            write_text(temporary, json.dumps(record, indent=2, default=str))


def moment(seconds: float) -> datetime:
    """A time of a record as boto3 gives it."""
    return datetime.fromtimestamp(seconds, UTC)
