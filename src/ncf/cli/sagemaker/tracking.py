"""`--track` and `--experiment` of the commands that train in a job and fetch its run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ncf.sagemaker.jobs.mlflow import Tracking
    from ncf.sagemaker.session import Session

Track = Annotated[
    str | None,
    typer.Option(
        metavar="URI",
        envvar="NCF_TRACK",
        help="Record in MLflow: sqlite:///FILE or a folder here, http(s)://SERVER or an ARN.",
        show_default=False,
    ),
]
TrackAs = Annotated[
    str | None,
    typer.Option(
        "--experiment",
        envvar=["NCF_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME"],
        help="Experiment of MLflow; the project by default.",
        show_default=False,
    ),
]


def tracking(session: "Session", track: str | None, experiment: str | None) -> "Tracking | None":
    """Where to record, or None; an address that can never work is an error before anything starts."""
    if track is None:
        return None
    from ncf.sagemaker.jobs.mlflow import Tracking

    return Tracking(track, experiment or session.project)


def again(where: "Tracking | None") -> str:
    """The options that ask a later command for the same."""
    if where is None:
        return ""
    from ncf.tracking.mlflow import shown

    return f" --track {shown(where.address)} --experiment {where.experiment}"


def recorded(session: "Session", job: str, folder: Path, where: "Tracking | None") -> None:
    """Say where the fetched run is recorded; that it could not be is a warning, since the run is here."""
    if where is None:
        return
    from ncf.cli import console
    from ncf.errors import ConfigError, TrackingError
    from ncf.sagemaker.jobs.mlflow import record

    try:
        console.log(record(session, job, folder, where))
    except (TrackingError, ConfigError) as trouble:
        here = " --local" if session.local else ""
        console.log(
            f"Warning: {job} is not recorded: {trouble}; "
            f"'ncf sagemaker fetch {job}{here} --output {folder}{again(where)}' does it later."
        )
