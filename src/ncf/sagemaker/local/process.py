"""The processes that jobs and fleets live in: started, looked for, and cleaned up after when they died.

A worker runs in a session of its own: the command that started it may end or be interrupted.
It holds a lock on a file for as long as it lives. It inherits the lock from the command that starts it,
so it never seems dead at the start; the kernel releases the lock however the worker ends.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from ncf.data.files import storage_errors
from ncf.sagemaker.local.state import MOVING, StateRecord
from ncf.sagemaker.local.surroundings import Plane

LOCK = "worker.lock"
WORKER_LOG = "worker.log"
_SOON = 60.0
"""Seconds that a record may be there before its worker."""
_COMMAND = (sys.executable, "-P", "-m", "ncf.sagemaker.local.worker")


def start(plane: Plane, record: StateRecord, task: str) -> None:
    """Start the worker of a record's task; returns when it is on its own."""
    store, folder = plane.store, record.folder / task
    command = [*_COMMAND, str(store.home), store.region, record.kind.name, record.name, task]
    with store.locked(), storage_errors(folder):
        # Noted first: should this process be killed meanwhile, the next call finds a task without a worker.
        record.set(tasks=[*record.state.get("tasks", ()), task])
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOCK).open("a+") as lock, (folder / WORKER_LOG).open("ab") as log:
            fcntl.flock(lock, fcntl.LOCK_EX)
            subprocess.run(
                [*command, str(lock.fileno())], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=store.home,
                env={**os.environ, "PYTHONUNBUFFERED": "1"}, pass_fds=(lock.fileno(),), check=True,
            )  # fmt: skip


def alive(folder: Path) -> bool:
    """Whether the worker of a folder runs."""
    try:
        lock = (folder / LOCK).open("r")
    except FileNotFoundError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def pid(folder: Path) -> int:
    """The number of a worker's process, or 0."""
    try:
        return int((folder / LOCK).read_text("ascii") or 0)
    except FileNotFoundError:
        return 0


def sweep(plane: Plane) -> None:
    """Clean up after workers that died without a word: their children, their containers, their records."""
    if not plane.store.home.is_dir():
        return
    with plane.store.locked():
        for record in plane.store.all():
            lost = record.status in MOVING and time.time() - record.created > _SOON
            for task in record.state.get("tasks") or (["run"] if lost else []):
                folder = record.folder / task
                if not alive(folder):
                    kill_children(folder)
                    plane.died(record, task)


def kill_children(folder: Path) -> None:
    """End what a dead worker left in its session: followers of logs."""
    number = pid(folder)
    # The number may belong to another process by now; as long as none has it, the group is the worker's.
    if number and _is_gone(number):
        with suppress(ProcessLookupError):
            os.killpg(number, signal.SIGKILL)


def _is_gone(number: int) -> bool:
    """Whether no process has this number, but perhaps a dead one that was not waited for."""
    done = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(number)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()[:1] in ("", "Z")
