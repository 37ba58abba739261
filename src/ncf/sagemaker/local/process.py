"""The detached process of a job or a deployment: started, looked for, asked to stop, and mourned.

A worker holds a lock on a file for as long as it lives. It inherits the lock, locked, from the command that starts it, so
there is no moment in which it seems dead; the kernel lets go of it however the worker ends, `kill -9` included.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ncf.data.files import storage_errors
from ncf.sagemaker.local import docker
from ncf.sagemaker.local.state import Record, Store

WORKER_LOG = "worker.log"
DIED = (
    "The process that ran this here died (it was killed, or the machine restarted) and its containers were removed: "
    "start it again, a job resumes from its checkpoints."
)
KINDS = ("training-job", "processing-job", "transform-job", "deployment", "pipeline-execution")
ACTIVE = ("InProgress", "Stopping", "Starting", "InService", "Executing")
_LOCK = "worker.lock"
_SOON = 60.0
"""Seconds in which a record may be there before its worker."""
_COMMAND = (sys.executable, "-P", "-m", "ncf.sagemaker.local.worker")
_NEEDS_AWS = re.compile(r"s3://|\.dkr\.ecr\.|:mlflow-(?:tracking-server|app)/")
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip


def start(store: Store, record: Record) -> None:
    """Start the worker of a record; returns when it is on its own."""
    folder = store.folder(record["kind"], record["name"])
    command = [*_COMMAND, str(store.home), store.region, record["kind"], record["name"]]
    with storage_errors(folder), (folder / _LOCK).open("a+") as lock, (folder / WORKER_LOG).open("ab") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(
            [*command, str(lock.fileno())], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=store.home,
            env=environment(store, record), pass_fds=(lock.fileno(),), check=True,
        )  # fmt: skip


def detach(descriptor: int) -> None:
    """In the new process: go on in a session of its own, and let the command that waits for it go."""
    child = os.fork()
    if child:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(child).encode(), 0)
        os._exit(0)
    os.setsid()
    os.set_inheritable(descriptor, False)


def alive(folder: Path) -> bool:
    """Whether the worker of a folder runs."""
    try:
        lock = (folder / _LOCK).open("r")
    except FileNotFoundError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def terminate(folder: Path) -> bool:
    """Ask a worker to stop its containers and end; False where there is none."""
    if not alive(folder):
        return False
    with suppress(ProcessLookupError):
        os.kill(_pid(folder), signal.SIGTERM)
    return True


def sweep(store: Store, died: Callable[[Store, Record], None]) -> None:
    """Clean up after workers that died without a word: their containers, their children, their records by `died`."""
    if not store.home.is_dir():
        return
    with store.locked():
        for kind in KINDS:
            for record in store.all(kind):
                folder = store.folder(kind, record["name"])
                started = (folder / _LOCK).exists() or time.time() - record["created"] > _SOON
                if record["status"] in ACTIVE and started and not alive(folder):
                    _bury(folder)
                    died(store, record)


def environment(store: Store, record: Record) -> dict[str, str]:
    """Variables of a worker: no telemetry, no look at the instance's metadata, credentials only where S3 or ECR is named."""
    settings = store.folder(record["kind"], record["name"]) / "sdk.yaml"
    with storage_errors(settings):
        settings.write_text(
            "SchemaVersion: '1.0'\nSageMaker:\n  PythonSDK:\n    Modules:\n      TelemetryOptOut: true\n",
            "utf-8",
        )
    fixed = {
        "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": store.region, "AWS_DEFAULT_REGION": store.region,
        "SAGEMAKER_USER_CONFIG_OVERRIDE": str(settings), "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    if _NEEDS_AWS.search(str(record)):
        return {**os.environ, **fixed}
    kept = {name: value for name, value in os.environ.items() if name not in _CREDENTIALS}
    return {**kept, **fixed, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_CONFIG_FILE": os.devnull}


def _bury(folder: Path) -> None:
    docker.remove(folder)
    pid = _pid(folder)
    if pid and _gone(pid):
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _gone(pid: int) -> bool:
    """Whether no process has this number but perhaps a dead one; its group is ours then, if there still is one."""
    said = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return said.stdout.strip()[:1] in ("", "Z")


def _pid(folder: Path) -> int:
    try:
        return int((folder / _LOCK).read_text("ascii") or 0)
    except FileNotFoundError:
        return 0
