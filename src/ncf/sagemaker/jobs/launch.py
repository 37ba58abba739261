"""From folders and options to a started job: everything that can be wrong is found before anything is sent.

In: an experiment, the folders that it needs, options. Out: the name of a running job. The one decision worth
knowing: the order. Options, recipe, role, VPC and image are checked first, then data are uploaded, and the
job is the last call. So a failure on the way leaves nothing running, and the next try finds what was already
uploaded.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ncf.config import Experiment
from ncf.data import Dataset
from ncf.data.files import sha256_of
from ncf.errors import ConfigError, DataError
from ncf.sagemaker import names
from ncf.sagemaker.jobs import package, training
from ncf.sagemaker.jobs.images import image_for
from ncf.sagemaker.jobs.requests import TrainingOptions, training_request
from ncf.sagemaker.session import Session
from ncf.serving.artifact import open_artifact

Progress = Callable[[int, int], None]
"""Receives the bytes that are sent, and the total."""
_SHORT = 16


def silent(_done: int, _total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class Inputs:
    """What a job needs from this machine."""

    data: Path
    """A prepared data folder."""
    gmf: str | None = None
    mlp: str | None = None
    """Runs to fuse."""
    script_mode: bool = False
    """Use AWS's PyTorch image with our source instead of our image."""
    image: str | None = None
    checkpoints: str | None = None
    """A URI, or a folder in local mode."""
    resume: str | None = None
    """A job whose checkpoints to continue from."""


def launch(
    session: Session,
    experiment: Experiment,
    inputs: Inputs,
    options: TrainingOptions,
    progress: Progress = silent,
) -> str:
    """Upload the inputs, start a training job and return its name; `options` have no URIs or image yet."""
    resolved = resolve(session, experiment, inputs, options)
    training_request(session, experiment, resolved)  # raises for a recipe, role or VPC that cannot be
    sent = send(session, inputs, resolved, progress)
    return training.start(session, training_request(session, experiment, sent))


def job_name(session: Session, name: str | None, experiment: Experiment) -> str:
    """The given name with the project in front; or a new one with the time."""
    if name is None:
        return names.new_name(session.project, experiment.name)
    head = f"{session.project}-"
    return names.checked(name if name.startswith(head) else f"{head}{name}", "--name")


def resolve(
    session: Session, experiment: Experiment, inputs: Inputs, options: TrainingOptions
) -> TrainingOptions:
    """The options with image and checkpoints, after all checks that need no upload; raises `ConfigError`."""
    if (inputs.gmf is None) != (inputs.mlp is None):
        raise ConfigError("--gmf and --mlp belong together: give both runs to fuse, or neither.")
    if inputs.gmf is not None and experiment.pretraining is None:
        raise ConfigError("--gmf and --mlp need a recipe with a [pretraining] table: see recipes/.")
    checkpoints = _checkpoints(session, inputs.checkpoints) if inputs.checkpoints else None
    if inputs.resume is not None:
        if checkpoints is not None:
            raise ConfigError("--resume takes the checkpoints of that job: leave out --checkpoints.")
        data = session.uri("data", data_digest(inputs.data))
        checkpoints = training.resumable(session, inputs.resume, data)
    image = image_for(
        session, options.distribution, options.instance_type, inputs.image, script_mode=inputs.script_mode
    )
    return replace(options, image=image, checkpoints=checkpoints)


def send(
    session: Session, inputs: Inputs, options: TrainingOptions, progress: Progress = silent
) -> TrainingOptions:
    """Upload data, runs to fuse and code, and return the options with their URIs."""
    data, digest = send_data(session, inputs.data, progress)
    pretrained = None
    if inputs.gmf is not None and inputs.mlp is not None:
        pretrained = send_pretrained(session, inputs.gmf, inputs.mlp, digest)
    code = send_code(session) if inputs.script_mode else None
    return replace(options, data=data, pretrained=pretrained, code=code)


def send_data(session: Session, folder: str | Path, progress: Progress = silent) -> tuple[str, str]:
    """Upload a prepared folder to `data/DIGEST`; returns URI and digest. Raises `DataError` if damaged."""
    digest = Dataset.open(folder).digest
    return send_folder(session, Path(folder), "data", digest, progress=progress), digest


def send_folder(session: Session, folder: Path, *parts: str, progress: Progress = silent) -> str:
    """Upload the files of a folder to `session.uri(*parts)`, and return that URI."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total, done = sum(path.stat().st_size for path in files), 0
    for path in files:
        progress(done, total)
        session.upload(path, *parts, *path.relative_to(folder).parts)
        done += path.stat().st_size
    progress(total, total)
    return session.uri(*parts)


def send_pretrained(session: Session, gmf: str | Path, mlp: str | Path, data_digest: str) -> str:
    """Upload two artifacts to gmf/ and mlp/; raises `ConfigError` where they were trained on other data."""
    artifacts = {"gmf": open_artifact(gmf), "mlp": open_artifact(mlp)}
    for name, artifact in artifacts.items():
        if artifact.manifest["data"]["digest"] != data_digest:
            raise ConfigError(
                f"The run of --{name} was trained on other data than --data: train it on these."
            )
    digests = (sha256_of(artifact.folder / "manifest.json") for artifact in artifacts.values())
    where = "-".join(digest[:_SHORT] for digest in digests)
    for name, artifact in artifacts.items():
        send_folder(session, artifact.folder, "pretrained", where, name)
    return session.uri("pretrained", where)


def send_code(session: Session) -> str:
    """Upload the source for AWS's image: packed for S3, as a folder for local mode, which mounts it."""
    with tempfile.TemporaryDirectory(prefix="ncf-code-") as folder:
        packed = package.pack_training_code(Path(folder) / "sourcedir.tar.gz")
        parts = ("code", sha256_of(packed)[:_SHORT])
        if session.uri(*parts).startswith("file://"):
            return session.upload(package.pack_training_code(Path(folder) / "source"), *parts)
        return session.upload(packed, *parts, packed.name)


def data_digest(folder: Path) -> str:
    """The digest of a prepared folder, without opening it; raises `DataError` where there is none."""
    try:
        document: Mapping[str, Any] = json.loads((folder / "dataset.json").read_text("utf-8"))
        return str(document["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        sentence = f"{folder} is not a prepared data folder: make one with 'ncf prepare … --output {folder}'."
        raise DataError(sentence) from None


def _checkpoints(session: Session, given: str) -> str:
    """The URI of `--checkpoints`; raises `ConfigError` where the job could not write there."""
    uri = given if "://" in given else f"file://{Path(given).resolve()}"
    if uri.partition("://")[0] != session.uri("jobs").partition("://")[0]:
        raise ConfigError(
            f"A job cannot keep checkpoints in {given}: give an s3:// address hosted, a folder with --local."
        )
    return uri
