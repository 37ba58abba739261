"""A finished job into a run folder, as `ncf train` leaves one: artifact/, run.json, events.jsonl.

The one decision worth knowing: each step leaves something complete, so an interrupted fetch continues where
it was. `job.json` in the folder names its job, and the artifact is verified against its manifest before
anything is reported.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncf.data.files import atomic_file, storage_errors, write_text
from ncf.errors import ArtifactError, CloudError, StorageError
from ncf.sagemaker.jobs import training
from ncf.sagemaker.jobs.training import TrainingJob
from ncf.sagemaker.session import Session
from ncf.serving.archive import unpack
from ncf.serving.artifact import Artifact, open_artifact

_PARTS = ".download"
_OUTPUTS = ("run.json", "events.jsonl")


@dataclass(frozen=True)
class Fetched:
    """A run folder and its results (`metrics.json` of the artifact)."""

    folder: Path
    artifact: Path
    metrics: dict[str, Any]


def fetch(
    session: Session, name: str, output: str | Path | None = None, data: str | Path | None = None
) -> Fetched:
    """Download the completed job `name` to the folder `output` (default: `runs/JOB`).

    `data` is the folder that it was trained on; by default it is looked for in `data/`. Raises `JobFailed`
    for a job that did not complete, `StorageError` where `output` holds something else, and `ArtifactError`
    for a damaged download.
    """
    job = training.describe(session, name)
    training.check_completed(job)
    if job.artifact is None:
        raise CloudError(
            f"The job {name} completed without a model: see its log ('ncf sagemaker logs {name}')."
        )
    folder = Path(output) if output else Path("runs") / name
    _claim(folder, job)
    artifact = _artifact(session, job.artifact, folder)
    _outputs(session, job.artifact, folder)
    _write_run(folder, artifact, data)
    shutil.rmtree(folder / _PARTS, ignore_errors=True)
    metrics = json.loads((artifact.folder / "metrics.json").read_text("utf-8"))
    return Fetched(folder, artifact.folder, metrics)


def check_free(folder: Path) -> None:
    """Raise `StorageError` unless the folder is new or empty; called before a job starts, to fail early."""
    with storage_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StorageError(f"{folder} holds something else: choose an empty or a new --output.")


def _claim(folder: Path, job: TrainingJob) -> None:
    """Mark the folder as the job's; raises `StorageError` unless it is new, empty, or marked so already."""
    path = folder / "job.json"
    with storage_errors(folder):
        try:
            earlier = json.loads(path.read_text("utf-8"))["job"]
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError):
            earlier = None  # There is none, or it is somebody else's.
        if earlier != job.name:
            check_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            write_text(temporary, json.dumps(_provenance(job), indent=2))


def _provenance(job: TrainingJob) -> dict[str, Any]:
    described = job.described
    return {
        "job": job.name,
        "arn": described.get("TrainingJobArn"),
        "artifact": job.artifact,
        "image": described.get("AlgorithmSpecification", {}).get("TrainingImage"),
        "resources": described.get("ResourceConfig"),
        "seconds": described.get("TrainingTimeInSeconds"),
        "billed_seconds": described.get("BillableTimeInSeconds"),
    }


def _artifact(session: Session, uri: str, folder: Path) -> Artifact:
    """The verified `artifact/`: the one that is there, or a download of `uri`."""
    target = folder / "artifact"
    if target.is_dir():
        try:
            return open_artifact(target)
        except ArtifactError:
            shutil.rmtree(target)
    packed = _part(session, uri, folder)
    try:
        unpack(packed, target)
        return open_artifact(target)
    except ArtifactError:
        packed.unlink()
        shutil.rmtree(target, ignore_errors=True)
        raise


def _part(session: Session, uri: str, folder: Path) -> Path:
    part = folder / _PARTS / uri.rpartition("/")[2]
    return part if part.is_file() else session.download(uri, part)


def _outputs(session: Session, artifact_uri: str, folder: Path) -> None:
    """Fetch the run's other files: output.tar.gz, next to model.tar.gz."""
    if all((folder / name).is_file() for name in _OUTPUTS):
        return
    uri = f"{artifact_uri.rpartition('/')[0]}/output.tar.gz"
    try:
        unpacked = unpack(_part(session, uri, folder), folder / _PARTS / "output")
    except CloudError as error:
        if error.code != "404":
            raise
        return  # another image need not leave one
    for name in _OUTPUTS:
        for path in sorted(unpacked.rglob(name))[:1]:
            with storage_errors(folder):
                shutil.copy(path, folder / name)


def _write_run(folder: Path, artifact: Artifact, data: str | Path | None) -> None:
    """Write run.json with the data's path on this machine, not in the container."""
    path, trained_on = folder / "run.json", artifact.manifest["data"]["digest"]
    document = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    document.setdefault("experiment", artifact.experiment.model_dump(mode="json"))
    local_path = _data_here(trained_on, [Path(data)] if data else sorted(Path("data").glob("*")))
    document["data"] = {**document.get("data", {}), "path": local_path, "digest": trained_on}
    with atomic_file(path) as temporary:
        write_text(temporary, json.dumps(document, indent=2))


def _data_here(digest: str, folders: Iterable[Path]) -> str | None:
    """The first prepared folder with this digest."""
    for folder in folders:
        try:
            document = json.loads((folder / "dataset.json").read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(document, dict) and document.get("digest") == digest:
            return str(folder.resolve())
    return None
