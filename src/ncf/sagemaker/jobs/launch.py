"""From folders and options to a started job: everything that can be wrong is found before anything is sent.

In: an experiment, the folders it needs, options. Out: the name of a job that runs. The one decision worth knowing: the
order. Options, recipe, role, VPC and image are checked first, then data go up, and the job is the last call: whatever
fails on the way leaves nothing running, and what was sent is found again by the next try.
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
"""Told the bytes that are done, and all."""
_SHORT = 16


def silent(_done: int, _total: int) -> None:
    """No progress."""


def send_data(session: Session, folder: str | Path, progress: Progress = silent) -> tuple[str, str]:
    """A prepared data folder to `data/DIGEST`; its URI and the digest. Raises `DataError` for a damaged one."""
    digest = Dataset.open(folder).digest
    return send_folder(session, Path(folder), "data", digest, progress=progress), digest


def send_folder(session: Session, folder: Path, *parts: str, progress: Progress = silent) -> str:
    """The files of a folder, one by one."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total, done = sum(path.stat().st_size for path in files), 0
    for path in files:
        progress(done, total)
        session.upload(path, *parts, *path.relative_to(folder).parts)
        done += path.stat().st_size
    progress(total, total)
    return session.uri(*parts)


def send_pretrained(session: Session, gmf: str | Path, mlp: str | Path, data_digest: str) -> str:
    """Two artifacts to the folders gmf/ and mlp/; raises `ConfigError` where they are of other data."""
    halves = {"gmf": open_artifact(gmf), "mlp": open_artifact(mlp)}
    for name, artifact in halves.items():
        if artifact.manifest["data"]["digest"] != data_digest:
            raise ConfigError(
                f"The run of --{name} was trained on other data than --data: train it on these."
            )
    where = "-".join(sha256_of(one.folder / "manifest.json")[:_SHORT] for one in halves.values())
    for name, artifact in halves.items():
        send_folder(session, artifact.folder, "pretrained", where, name)
    return session.uri("pretrained", where)


def send_code(session: Session) -> str:
    """The source for AWS's image: packed for S3, as a folder for local mode, which mounts it."""
    with tempfile.TemporaryDirectory(prefix="ncf-code-") as folder:
        packed = package.pack_training_code(Path(folder) / "sourcedir.tar.gz")
        parts = ("code", sha256_of(packed)[:_SHORT])
        if session.uri(*parts).startswith("file://"):
            return session.upload(package.pack_training_code(Path(folder) / "source"), *parts)
        return session.upload(packed, *parts, packed.name)


@dataclass(frozen=True)
class Inputs:
    """What a job needs from this machine."""

    data: Path
    """A prepared data folder."""
    gmf: str | None = None
    mlp: str | None = None
    """Runs to fuse."""
    script_mode: bool = False
    """AWS's PyTorch image with our source, instead of our image."""
    image: str | None = None
    checkpoints: str | None = None
    """A URI, or a folder in local mode."""
    resume: str | None = None
    """A job whose checkpoints to go on from."""


def job_name(session: Session, name: str | None, experiment: Experiment) -> str:
    """The name given, with the project before it; or a new one with the time."""
    if name is None:
        return names.new_name(session.project, experiment.name)
    head = f"{session.project}-"
    return names.checked(name if name.startswith(head) else f"{head}{name}", "--name")


def launch(
    session: Session,
    experiment: Experiment,
    inputs: Inputs,
    options: TrainingOptions,
    progress: Progress = silent,
) -> str:
    """Send what is needed and start a training job; its name. `options` have no URIs and no image yet."""
    resolve_ties = settle(session, experiment, inputs, options)
    training_request(session, experiment, resolve_ties)
    return training.start(
        session, training_request(session, experiment, send(session, inputs, resolve_ties, progress))
    )


def settle(
    session: Session, experiment: Experiment, inputs: Inputs, options: TrainingOptions
) -> TrainingOptions:
    """The options with image and checkpoints, after all checks that need no upload."""
    if (inputs.gmf is None) != (inputs.mlp is None):
        raise ConfigError("--gmf and --mlp belong together: give both runs to fuse, or neither.")
    if inputs.gmf is not None and experiment.pretraining is None:
        raise ConfigError("--gmf and --mlp need a recipe with a [pretraining] table: see recipes/.")
    checkpoints = _place(session, inputs.checkpoints) if inputs.checkpoints else None
    if inputs.resume is not None:
        if checkpoints is not None:
            raise ConfigError("--resume takes the checkpoints of that job: leave out --checkpoints.")
        checkpoints = training.resumable(
            session, inputs.resume, session.uri("data", data_digest(inputs.data))
        )
    image = image_for(
        session, options.distribution, options.instance_type, inputs.image, script_mode=inputs.script_mode
    )
    return replace(options, image=image, checkpoints=checkpoints)


def send(
    session: Session, inputs: Inputs, options: TrainingOptions, progress: Progress = silent
) -> TrainingOptions:
    """Upload, and give the options their URIs."""
    data, digest = send_data(session, inputs.data, progress)
    pretrained = None
    if inputs.gmf is not None and inputs.mlp is not None:
        pretrained = send_pretrained(session, inputs.gmf, inputs.mlp, digest)
    code = send_code(session) if inputs.script_mode else None
    return replace(options, data=data, pretrained=pretrained, code=code)


def data_digest(folder: Path) -> str:
    """The digest of a prepared folder, without opening it; raises `DataError` where there is none."""
    try:
        document: Mapping[str, Any] = json.loads((folder / "dataset.json").read_text("utf-8"))
        return str(document["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(
            f"{folder} is not a prepared data folder: make one with 'ncf prepare … --output {folder}'."
        ) from None


def _place(session: Session, checkpoints: str) -> str:
    """The URI of `--checkpoints`, which must be of the kind that the job can write to."""
    uri = checkpoints if "://" in checkpoints else f"file://{Path(checkpoints).resolve()}"
    if uri.partition("://")[0] != session.uri("jobs").partition("://")[0]:
        raise ConfigError(
            f"A job cannot keep checkpoints in {checkpoints}: give an s3:// address hosted, a folder with --local."
        )
    return uri
