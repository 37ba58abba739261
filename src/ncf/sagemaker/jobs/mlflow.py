"""Records a training job in MLflow exactly once: by the job itself, or from here after it was fetched.

In: a job and the folder that `fetch` made of it. Out: a run with the tags `ncf.sagemaker_job`,
`ncf.instance_type`, `ncf.instance_count`, `ncf.billable_seconds` and `ncf.cost_usd`. The one decision worth
knowing: a job only gets an address that it can reach. A database or a folder is on this machine, so the run
is sent from here. The same happens where the job's log says that it could not record itself, for example
because its image has no MLflow.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from ncf.errors import CloudError, ConfigError, TrackingError
from ncf.sagemaker.container.environment import JOB_TAG, job_identity
from ncf.sagemaker.jobs import logs, training
from ncf.sagemaker.jobs.training import TrainingJob
from ncf.sagemaker.session import Session
from ncf.tracking import mlflow
from ncf.tracking.mlflow_run import import_run

_TROUBLE = re.compile(
    r"\[ncf\] Warning: (?:this run is not recorded in MLflow: (.*)|(MLflow at .*); training goes on)"
)


@dataclass(frozen=True)
class Tracking:
    """Where jobs are recorded; raises `ConfigError` for an address that can never work."""

    address: str
    """URI of the tracking server, database or folder."""
    experiment: str

    def __post_init__(self) -> None:
        if not mlflow.remote(self.address):
            mlflow.resolve(self.address)

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the container; none where it cannot reach the address."""
        if not mlflow.remote(self.address):
            return {}
        return {"MLFLOW_TRACKING_URI": self.address, "MLFLOW_EXPERIMENT_NAME": self.experiment}


def record(session: Session, name: str, folder: Path, tracking: Tracking) -> str:
    """Make sure that the job `name`, fetched to `folder`, is recorded with its cost; returns a sentence that
    says where.

    Raises `TrackingError` or `ConfigError` where neither the job nor this machine could record it.
    """
    trouble = _trouble(session, name) if tracking.environment else "the address is on this machine"
    try:
        run = _recorded(training.describe(session, name), folder, tracking)
    except (TrackingError, ConfigError) as error:
        if trouble:
            raise
        where = mlflow.shown(tracking.address)
        return f"{name} recorded itself at {where}; its cost could not be added: {error}"
    why = f"; from here, since the job could not: {trouble}" if trouble and tracking.environment else "."
    return f"{name} is {run} at {mlflow.shown(tracking.address)}{why}"


def facts(job: TrainingJob) -> dict[str, str]:
    """Tags that the run itself lacks: instances, billed seconds, and US dollars by our price table."""
    resources = job.described.get("ResourceConfig", {})
    billed, cost = job.described.get("BillableTimeInSeconds", job.seconds), job.cost
    values = {
        "ncf.instance_type": resources.get("InstanceType"),
        "ncf.instance_count": resources.get("InstanceCount"),
        "ncf.billable_seconds": None if billed is None else round(billed),
        "ncf.cost_usd": None if cost is None else f"{cost:.4f}",
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _recorded(job: TrainingJob, folder: Path, tracking: Tracking) -> str:
    store = mlflow.MLflowStore(mlflow.resolve(tracking.address), tracking.experiment)
    recorded = next((run for run in store.runs({JOB_TAG: job.name}) if run.parent is None), None)
    if recorded is not None and recorded.status == "FINISHED":
        run_id = recorded.run_id
    else:
        run_id = import_run(store, folder, identity=job_identity)
    for name, value in facts(job).items():
        store.set_tag(run_id, name, value)
    return f"run {run_id[:8]} of {recorded.experiment if recorded else tracking.experiment}"


def _trouble(session: Session, name: str) -> str | None:
    """Why the job could not record itself, according to its log; None where it says nothing."""
    try:
        lines = logs.read(session, logs.TRAINING, f"{name}/")
    except CloudError:
        return None  # the store is asked for the run in any case
    matches = (_TROUBLE.search(line.text) for line in lines)
    return next((match[1] or match[2] for match in matches if match), None)
