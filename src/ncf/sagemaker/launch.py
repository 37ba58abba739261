"""From folders and options to a started job: everything that can be wrong is found before anything is sent.

In: an experiment, the folders it needs, options. Out: the name of a job that runs. The one decision worth knowing: the
order. Options, recipe, role, VPC and image are checked first, then data go up, and the job is the last call: whatever
fails on the way leaves nothing running, and what was sent is found again by the next try.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ncf.config import Experiment
from ncf.errors import ConfigError, DataError
from ncf.sagemaker import jobs, names, sending
from ncf.sagemaker.job_image import image_for
from ncf.sagemaker.requests import TrainingOptions, training_request
from ncf.sagemaker.sending import Progress, silent
from ncf.sagemaker.session import Session


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
    settled = settle(session, experiment, inputs, options)
    training_request(session, experiment, settled)
    return jobs.start(
        session, training_request(session, experiment, send(session, inputs, settled, progress))
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
        checkpoints = jobs.resumable(session, inputs.resume, session.uri("data", data_digest(inputs.data)))
    image = image_for(
        session, options.distribution, options.instance_type, inputs.image, script_mode=inputs.script_mode
    )
    return replace(options, image=image, checkpoints=checkpoints)


def send(
    session: Session, inputs: Inputs, options: TrainingOptions, progress: Progress = silent
) -> TrainingOptions:
    """Upload, and give the options their URIs."""
    data, digest = sending.send_data(session, inputs.data, progress)
    pretrained = None
    if inputs.gmf is not None and inputs.mlp is not None:
        pretrained = sending.send_pretrained(session, inputs.gmf, inputs.mlp, digest)
    code = sending.send_code(session) if inputs.script_mode else None
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
