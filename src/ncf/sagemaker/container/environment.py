"""Reads what SageMaker puts under /opt/ml into a `Job`: a pure function of a folder, arguments and variables.

| below the root | what |
| --- | --- |
| `input/config/hyperparameters.json` | the experiment, all strings (`….container.hyperparameters`) |
| `input/config/resourceconfig.json` | this host and all hosts |
| `input/data/train/` | a prepared data folder of `ncf prepare` |
| `input/data/pretrained/gmf`, `…/mlp` | artifacts to fuse, instead of pre-training here (optional) |
| `input/data/checkpoints/` | checkpoints in local mode, which mounts only channels (optional) |
| `checkpoints/` | the run, which SageMaker copies to S3 as it grows: a job resumes from it |
| `model/`, `output/data/`, `output/failure` | the artifact; settings and events; the text of FailureReason |

Toolkits pass hyperparameters a second time as arguments (`--train.epochs 5`), with lists and flags written as
Python prints them. The file is exact and wins; arguments only count for settings that it lacks. Environment
variables say how the processes of a job start and meet (`ncf.sagemaker.container.distribution`).

Source: "How Amazon SageMaker Provides Training Information", SageMaker Developer Guide.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ncf.config import Experiment
from ncf.errors import ConfigError, DataError
from ncf.sagemaker.container.distribution import Distribution, from_variables
from ncf.sagemaker.container.hyperparameters import TUNED, from_hyperparameters

ROOT = Path("/opt/ml")
JOB_TAG = "ncf.sagemaker_job"
"""The tag of a job's run in MLflow, by which the run is found again: a job is recorded once."""


def job_identity(folder: Path) -> dict[str, str]:
    """The tags in MLflow of the run in `folder`: the job that runs here, or the one that `folder` was fetched
    from."""
    job = os.environ.get("TRAINING_JOB_NAME")
    with suppress(OSError, ValueError, AttributeError):
        job = job or json.loads((folder / "job.json").read_text("utf-8")).get("job")
    return {JOB_TAG: str(job)} if job else {}


@dataclass(frozen=True)
class Job:
    """One training job as its container sees it."""

    experiment: Experiment
    data: Path
    """The prepared data folder."""
    run: Path
    """The folder of the run, in which checkpoints are kept."""
    model: Path
    """Where the artifact goes."""
    output: Path
    """Where everything else to keep goes."""
    gmf: Path | None
    mlp: Path | None
    """Artifacts to fuse."""
    host: str
    """The name of this host among `hosts`."""
    hosts: tuple[str, ...]
    distribution: Distribution
    trial: bool
    """Whether a tuner started it, which keeps one of many."""


def read_job(
    root: Path = ROOT, arguments: Sequence[str] = (), variables: Mapping[str, str] = MappingProxyType({})
) -> Job:
    """The job below `root`; raises `ConfigError` or `DataError` where something is missing or wrong.

    `arguments` are hyperparameters as toolkits pass them, `variables` the environment.
    """
    config, channels = root / "input" / "config", root / "input" / "data"
    resources = _json(config / "resourceconfig.json", {"current_host": "algo-1", "hosts": ["algo-1"]})
    kept = channels / "checkpoints"
    given = _pairs(arguments) | _json(config / "hyperparameters.json", {})
    return Job(
        experiment=from_hyperparameters(given),
        data=_data_folder(channels / "train"),
        run=(kept if kept.is_dir() else root / "checkpoints") / "run",
        model=root / "model",
        output=root / "output" / "data",
        gmf=_optional(channels / "pretrained" / "gmf"),
        mlp=_optional(channels / "pretrained" / "mlp"),
        host=resources["current_host"],
        hosts=tuple(sorted(resources["hosts"])),
        distribution=from_variables(variables),
        trial=TUNED in given,
    )


def _json(path: Path, absent: dict[str, Any]) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return absent
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): SageMaker writes it before training.") from None
    return dict(value)


def _pairs(arguments: Sequence[str]) -> dict[str, str]:
    names, values = arguments[::2], arguments[1::2]
    wrong = next((name for name in names if not name.startswith("--")), None)
    if wrong is not None or len(names) != len(values):
        text = " ".join(arguments)
        raise ConfigError(f"Arguments must be '--name value', such as --train.epochs 5, and not {text!r}.")
    return {name.removeprefix("--"): value for name, value in zip(names, values, strict=True)}


def _data_folder(channel: Path) -> Path:
    """The prepared folder: the channel itself, or the only folder in it."""
    folders = sorted(path.parent for path in channel.glob("**/dataset.json")) if channel.is_dir() else []
    if len(folders) == 1:
        return folders[0]
    if folders:
        raise DataError(f"The channel 'train' holds {len(folders)} prepared data folders: give it one.")
    what = "holds no prepared data" if channel.is_dir() else "is missing"
    raise DataError(f"The channel 'train' {what}: give it the folder that 'ncf prepare' wrote.")


def _optional(path: Path) -> Path | None:
    return path if path.exists() else None
