"""What the worker of a training or a processing job does: run the SDK's job, take its results, say how it ended.

A training job's result goes to `S3OutputPath/JOB/output/`, `model.tar.gz` and `output.tar.gz`, as on AWS. The reason of a
failure is what the container left in /opt/ml/output/failure; else its exit code and the end of its log.
"""

from __future__ import annotations

import shutil
import tarfile
import time
from pathlib import Path
from typing import Any

from ncf.errors import NcfError
from ncf.sagemaker.local import docker, jobs, logs, sdk
from ncf.sagemaker.local.jobs import PROCESSING, TRAINING
from ncf.sagemaker.local.state import Record, Store
from ncf.sagemaker.local.watch import ContainerWatcher

LONGEST = 1024
"""Characters of FailureReason and ExitMessage."""
_DAY = 86_400
_NO_MODEL = "The container ended well but left no model in /opt/ml/model: see that its command is 'train' and the job's log."


def run_training(store: Store, record: Record) -> None:
    """From Starting to Completed, Failed or Stopped."""
    request, name = record["request"], record["name"]
    folder = store.folder(TRAINING.word, name)
    watch = ContainerWatcher(
        folder,
        logs.stream_folder(store.home, TRAINING.word, name),
        request["ResourceConfig"].get("InstanceCount", 1),
    )
    session = sdk.session(folder / "root", folder, store.region)
    asked = sdk.training_request(request)
    sdk.keep_what_containers_wrote()
    watch.run(
        lambda: session.sagemaker_client.create_training_job(**asked),
        lambda: _started(store, record, "Training"), _limit(request), sdk.GRACE,
    )  # fmt: skip
    docker.take_over([folder / "root", *sdk.written_by_containers(request)], record["image"])
    results = _results(folder / "root")
    more: dict[str, Any] = {}
    if results and _members(results / "model.tar.gz"):
        more["artifact"] = _keep(results, request["OutputDataConfig"]["S3OutputPath"], name, session)
    _end(store, record, watch, _failure(folder / "root"), more)


def run_processing(store: Store, record: Record) -> None:
    """From InProgress to Completed, Failed or Stopped; the SDK brings the outputs where they belong."""
    request, name = record["request"], record["name"]
    folder = store.folder(PROCESSING.word, name)
    cluster = request["ProcessingResources"]["ClusterConfig"]
    watch = ContainerWatcher(
        folder, logs.stream_folder(store.home, PROCESSING.word, name), cluster.get("InstanceCount", 1)
    )
    session = sdk.session(folder / "root", folder, store.region)
    asked = sdk.processing_request(request)
    sdk.keep_what_containers_wrote()
    watch.run(
        lambda: session.sagemaker_client.create_processing_job(**asked),
        lambda: _started(store, record, "Processing"), _limit(request), sdk.GRACE,
    )  # fmt: skip
    docker.take_over([folder / "root"], record["image"])
    messages = sorted((folder / "root").glob("*/algo-*/output/message"))
    said = messages[0].read_text("utf-8", "replace").strip()[:LONGEST] if messages else ""
    _end(store, record, watch, said, {"message": said})


def reason_of(watch: ContainerWatcher, codes: list[int]) -> str:
    """One sentence for a container that did not end well and left no word."""
    if isinstance(watch.error, NcfError):
        return str(watch.error)
    if "restricted system paths" in str(watch.error):
        return f"SageMaker's local mode mounts nothing from system folders ({watch.error}): move the data, or set NCF_HOME."
    if not codes:
        said = _last_words(watch.folder) or str(watch.error)
        return f"The container could not be started: {said}"
    code = next((one for one in codes if one), 0)
    return f"The container ended with exit code {code}: {logs.tail(watch.logs) or 'it wrote nothing'}"


def _end(store: Store, record: Record, watch: ContainerWatcher, failure: str, more: dict[str, Any]) -> None:
    codes = docker.exit_codes(docker.containers(watch.folder))
    docker.remove(watch.folder)
    word, name = record["kind"], record["name"]
    if watch.late:
        jobs.move(store, word, name, "Stopped", "MaxRuntimeExceeded", **more)
    elif watch.stopping.is_set():
        jobs.move(store, word, name, "Stopped", "Stopped", **more)
    elif watch.error is not None or (codes and all(codes)):
        jobs.move(
            store,
            word,
            name,
            "Failed",
            "Failed",
            reason=(failure or reason_of(watch, codes))[:LONGEST],
            **more,
        )
    elif word == TRAINING.word and "artifact" not in more:
        jobs.move(store, word, name, "Failed", "Failed", reason=_NO_MODEL)
    else:
        jobs.move(store, word, name, "Completed", "Completed", **more)


def _started(store: Store, record: Record, secondary: str) -> None:
    jobs.move(store, record["kind"], record["name"], "InProgress", secondary, started=time.time())


def _limit(request: dict[str, Any]) -> float:
    return float(request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _DAY))


def _results(root: Path) -> Path | None:
    """Where the SDK has put the archives, if it came so far."""
    return next(
        (path for path in root.glob("*/compressed_artifacts") if (path / "output.tar.gz").is_file()), None
    )


def _members(archive: Path) -> int:
    with tarfile.open(archive) as opened:
        return len(opened.getnames())


def _failure(root: Path) -> str:
    """What the first container to fail left in /opt/ml/output/failure: the others only miss it."""
    files = sorted(root.glob("*/algo-*/output/failure"), key=lambda file: file.stat().st_mtime_ns)
    return files[0].read_text("utf-8", "replace").strip() if files else ""


def _keep(results: Path, uri: str, name: str, session: Any) -> str:
    """Bring the archives to where the request wants them; the address of the model's."""
    path = sdk.path_of(uri)
    if path is None:
        from ncf.sagemaker import storage

        storage.upload(session.s3_client, results, f"{uri.rstrip('/')}/{name}/output")
    else:
        target = path / name / "output"
        target.mkdir(parents=True, exist_ok=True)
        for file in results.iterdir():
            shutil.copyfile(file, target / file.name)
    return f"{uri.rstrip('/')}/{name}/output/model.tar.gz"


def _last_words(folder: Path) -> str:
    """What compose said last; the traces of the SDK's exceptions are not for the reader."""
    lines = [logs.plain(line) for line in (folder / "worker.log").read_text("utf-8", "replace").splitlines()]
    told = [
        line.strip() for line in lines if line.startswith(("ERROR", "Error", "error", "Cannot", "no such"))
    ]
    return " ".join(told[-2:])[-400:]
