"""Training jobs from start to end: start, follow, list, stop, and how a job ended in one sentence.

In: a request of `ncf.sagemaker.jobs.requests`. Out: a `TrainingJob`, as far as it has come. The one decision
worth knowing: a job that did not complete is a `JobFailed` with SageMaker's reason as its sentence, and the
last lines of its log.

Source: DescribeTrainingJob and its SecondaryStatus, Amazon SageMaker API Reference.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.calls import entries
from ncf.sagemaker.jobs import logs
from ncf.sagemaker.jobs.run import LAST_LINES, OVER, JobFailed
from ncf.sagemaker.prices import price
from ncf.sagemaker.session import Session

_ERROR = re.compile(r"^(?:AlgorithmError|ClientError|InternalServerError|CapacityError): ")
_EXIT = re.compile(r",? ?[Ee]xit code:? ?\d+\.?$")


@dataclass(frozen=True)
class TrainingJob:
    """One job as `DescribeTrainingJob` shows it."""

    described: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.described["TrainingJobName"])

    @property
    def status(self) -> str:
        """InProgress, Completed, Failed, Stopping or Stopped."""
        return str(self.described["TrainingJobStatus"])

    @property
    def secondary(self) -> str:
        """What it is doing: Starting, Downloading, Training, Interrupted, MaxRuntimeExceeded, …"""
        return str(self.described.get("SecondaryStatus", self.status))

    @property
    def over(self) -> bool:
        """Whether its status is final."""
        return self.status in OVER

    @property
    def reason(self) -> str:
        """SageMaker's FailureReason, without what SageMaker puts around the run's own sentence."""
        return _EXIT.sub("", _ERROR.sub("", str(self.described.get("FailureReason", "")))).strip()

    @property
    def seconds(self) -> float | None:
        """How long it has run on its instances; None before it has started there."""
        start, end = (self.described.get(f"Training{what}Time") for what in ("Start", "End"))
        if start is None:
            return None
        return float(((end or datetime.now(UTC)) - start).total_seconds())

    @property
    def cost(self) -> float | None:
        """US dollars so far, by the seconds that are billed; None where they or the price are not known."""
        resources = self.described.get("ResourceConfig", {})
        billed = self.described.get("BillableTimeInSeconds", self.seconds)
        if billed == 0:
            return 0.0
        hourly = price(resources.get("InstanceType", ""), "training")
        if hourly is None or billed is None:
            return None
        return float(hourly * billed / 3600 * resources.get("InstanceCount", 1))

    @property
    def metrics(self) -> dict[str, float]:
        """The last value of each figure that SageMaker read from the log."""
        figures = self.described.get("FinalMetricDataList", ())
        return {figure["MetricName"]: figure["Value"] for figure in figures}

    @property
    def artifact(self) -> str | None:
        """URI of its model.tar.gz, once there is one."""
        uri = self.described.get("ModelArtifacts", {}).get("S3ModelArtifacts")
        return str(uri) if uri else None

    @property
    def checkpoints(self) -> str | None:
        """URI of its checkpoints."""
        uri = self.described.get("CheckpointConfig", {}).get("S3Uri")
        return str(uri) if uri else None

    def channel(self, name: str) -> str | None:
        """URI of one of its channels."""
        for channel in self.described.get("InputDataConfig", ()):
            if channel["ChannelName"] == name:
                return str(channel["DataSource"]["S3DataSource"]["S3Uri"])
        return None


def start(session: Session, request: Mapping[str, Any]) -> str:
    """Start the job of a `training_request` and return its name."""
    session.client("sagemaker").create_training_job(**request)
    return str(request["TrainingJobName"])


def describe(session: Session, name: str) -> TrainingJob:
    """The job of that name; raises `CloudError` where there is none."""
    try:
        return TrainingJob(session.client("sagemaker").describe_training_job(TrainingJobName=name))
    except CloudError as error:
        if error.code not in ("ValidationException", "ResourceNotFound"):
            raise
        where = "on this machine" if session.local else f"in {session.region}"
        sentence = f"There is no training job {name!r} {where}: 'ncf sagemaker jobs' lists them."
        raise CloudError(sentence, error.code) from None


def wait(
    session: Session,
    name: str,
    on_line: Callable[[logs.Line], None] = lambda _: None,
    on_status: Callable[[TrainingJob], None] = lambda _: None,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> TrainingJob:
    """Follow a job to its end; raises `JobFailed` unless it completed. The job does not end with this call.

    `on_line` receives each line of the log, `on_status` the job after each look at it.
    """
    job = describe(session, name)
    last: deque[str] = deque(maxlen=LAST_LINES)

    def ended() -> bool:
        nonlocal job
        job = describe(session, name)
        on_status(job)
        return job.over

    for line in logs.follow(session, logs.TRAINING, f"{name}/", ended, sleep=sleep):
        last.append(line.text)
        on_line(line)
    check_completed(job, last)
    return job


def check_completed(job: TrainingJob, lines: Sequence[str] = ()) -> None:
    """Raise `JobFailed` unless the job has completed; `lines` are the last of its log."""
    if job.status == "Completed":
        return
    limits = job.described.get("StoppingCondition", {})
    again = f"'ncf sagemaker train … --resume {job.name}' continues from its last checkpoint"
    if not job.over:
        state = f"is still running ({job.secondary}): 'ncf sagemaker logs {job.name} --follow' follows it."
    elif job.secondary == "MaxRuntimeExceeded":
        state = f"was stopped after --max-run {limits.get('MaxRuntimeInSeconds')} seconds: {again}."
    elif job.secondary == "MaxWaitTimeExceeded":
        seconds = limits.get("MaxWaitTimeInSeconds")
        state = f"got too little spot time in --max-wait {seconds} seconds: {again}, without --spot at once."
    elif job.status == "Stopped":
        state = f"was stopped before it ended: {again}."
    else:
        state = f"failed: {job.reason or 'SageMaker gives no reason'}"
    raise JobFailed(f"The job {job.name} {state}", job.secondary, lines)


def stop(session: Session, name: str) -> TrainingJob:
    """Ask a job to stop, which gives it two minutes for a checkpoint; a finished job stays as it is."""
    job = describe(session, name)
    if job.status == "InProgress":
        session.client("sagemaker").stop_training_job(TrainingJobName=name)
        job = describe(session, name)
    return job


def list_jobs(session: Session, most: int = 20) -> list[TrainingJob]:
    """The project's newest jobs, at most `most` of them."""
    summaries = entries(
        session.client("sagemaker"), "list_training_jobs", "TrainingJobSummaries",
        NameContains=session.project, SortBy="CreationTime", SortOrder="Descending",
    )  # fmt: skip
    names = (summary["TrainingJobName"] for summary in summaries)
    ours = (name for name in names if name.startswith(f"{session.project}-"))
    return [describe(session, name) for name in islice(ours, most)]


def resumable(session: Session, name: str, data: str) -> str:
    """URI of an earlier job's checkpoints; raises `ConfigError` if a job on `data` cannot resume it."""
    job = describe(session, name)
    if not job.over:
        raise ConfigError(
            f"The job {name} is still running, and two jobs may not write the same checkpoints: stop it "
            f"first ('ncf sagemaker stop {name}')."
        )
    if job.checkpoints is None:
        raise ConfigError(f"The job {name} kept no checkpoints: start a new job without --resume.")
    if (job.channel("train") or data).rstrip("/") != data:
        raise ConfigError(f"The job {name} was trained on other data: give --data the folder of that job.")
    return job.checkpoints
