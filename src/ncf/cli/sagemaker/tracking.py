"""`--track` and `--experiment` of the commands that train in a job or fetch its run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ncf.sagemaker.jobs.mlflow import Tracking
    from ncf.sagemaker.session import Session

Track = Annotated[
    str | None,
    typer.Option(
        metavar="URI", envvar="NCF_TRACK", show_default=False,
        help="Record in MLflow: sqlite:///FILE or a folder here, http(s)://SERVER or an ARN.",
    ),
]  # fmt: skip
TrackAs = Annotated[
    str | None,
    typer.Option(
        "--experiment", envvar=["NCF_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME"], show_default=False,
        help="Experiment of MLflow; the project by default.",
    ),
]  # fmt: skip


def tracking(session: "Session", track: str | None, experiment: str | None) -> "Tracking | None":
    """Where to record, or None; raises `ConfigError` for an address that can never work."""
    if track is None:
        return None
    from ncf.sagemaker.jobs.mlflow import Tracking

    return Tracking(track, experiment or session.project)


def again(where: "Tracking | None") -> str:
    """The options by which a later command records at the same address."""
    if where is None:
        return ""
    from ncf.tracking.mlflow import shown

    return f" --track {shown(where.address)} --experiment {where.experiment}"


def recorded(session: "Session", job: str, folder: Path, where: "Tracking | None") -> None:
    """Record the fetched run and print where; a failure is only a warning, since the run is here."""
    if where is None:
        return
    from ncf.errors import ConfigError, TrackingError
    from ncf.sagemaker.jobs.mlflow import record
    from ncf.tracking import console

    try:
        console.log(record(session, job, folder, where))
    except (TrackingError, ConfigError) as trouble:
        flags = f"{' --local' if session.local else ''} --output {folder}{again(where)}"
        console.log(
            f"Warning: {job} is not recorded: {trouble}; 'ncf sagemaker fetch {job}{flags}' does it later."
        )
