"""Pipelines and their executions: create, change, start, follow, stop, delete; the same calls for AWS and
local mode.

In: a session and a `PipelinePlan`. Out: the names and states that AWS returns. `plan_of` makes a plan from
the session, the recipe and the options; the definition itself is `ncf.sagemaker.pipelines.definition`.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ncf.config import Experiment
from ncf.data.options import read_options
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.calls import entries, wait_until
from ncf.sagemaker.container.criteria import PromotionCriteria
from ncf.sagemaker.jobs.images import own_image
from ncf.sagemaker.jobs.requests import TrainingOptions, training_request, vpc
from ncf.sagemaker.names import checked
from ncf.sagemaker.pipelines import registry
from ncf.sagemaker.pipelines.definition import Approval, PipelinePlan, definition
from ncf.sagemaker.session import Session

OVER = ("Succeeded", "Failed", "Stopped")
_ABSENT = ("ResourceNotFound", "ResourceNotFoundException", "ValidationException")


@dataclass(frozen=True)
class Options:
    """What a user may choose about a pipeline; `PipelinePlan` explains the fields."""

    name: str | None = None
    image: str | None = None
    group: str | None = None
    data: str | None = None
    prepare: Mapping[str, str] | None = None
    training_instance: str = "ml.c7i.xlarge"
    processing_instance: str = "ml.m5.large"
    max_run: int = 24 * 3600
    spot: bool = False
    bar: PromotionCriteria = PromotionCriteria()  # noqa: RUF009 - it is frozen
    approve: bool = False
    fail_if_not_better: bool = False


@dataclass(frozen=True)
class Execution:
    """One execution, as DescribePipelineExecution and ListPipelineExecutionSteps show it."""

    described: dict[str, Any]
    steps: list[dict[str, Any]]

    @property
    def arn(self) -> str:
        return str(self.described["PipelineExecutionArn"])

    @property
    def status(self) -> str:
        """Executing, Stopping, Stopped, Failed or Succeeded."""
        return str(self.described["PipelineExecutionStatus"])

    @property
    def over(self) -> bool:
        """Whether its status is final."""
        return self.status in OVER

    @property
    def package(self) -> str | None:
        """ARN of the model package that it registered, or None."""
        arns = [step.get("Metadata", {}).get("RegisterModel", {}).get("Arn") for step in self.steps]
        return next((arn for arn in arns if arn), None)

    @property
    def reason(self) -> str:
        """Why it failed, or how to resume it after a stop, in one sentence."""
        if self.status == "Stopped":
            return "'ncf sagemaker pipeline retry' resumes it."
        reasons = [self.described.get("FailureReason"), *(step.get("FailureReason") for step in self.steps)]
        return str(next(filter(None, reasons), "SageMaker gives no reason; see the logs of its last job."))

    def lines(self) -> list[str]:
        """A line for each step, and one for the whole."""
        return [*(step_line(step) for step in self.steps), f"{self.status}  {self.arn}"]

    def to_json(self, verdict: dict[str, Any] | None) -> dict[str, Any]:
        """For `status --json`; `verdict` is the evaluation."""
        steps = [
            {"name": step["StepName"], "status": step["StepStatus"], "seconds": _seconds(step),
             "reason": step.get("FailureReason"), "metadata": step.get("Metadata", {})}
            for step in self.steps
        ]  # fmt: skip
        return {
            "execution": self.arn, "status": self.status, "steps": steps, "package": self.package,
            "evaluation": verdict,
        }  # fmt: skip


def plan_of(session: Session, experiment: Experiment, options: Options) -> PipelinePlan:
    """The plan of a pipeline; local data are uploaded. Raises `ConfigError` for options that cannot be."""
    name = pipeline_name(session, options.name)
    group = registry.group_name(session, options.group)
    image = own_image(session, options.image)
    read_options({key: text for key, text in (options.prepare or {}).items() if key != "name"})
    training = TrainingOptions(
        name="Train", data="", image=image, instance_type=options.training_instance, max_run=options.max_run,
        spot=options.spot,
    )  # fmt: skip
    approval: Approval = "Approved" if options.approve else "PendingManualApproval"
    return PipelinePlan(
        name=name, experiment=experiment, image=image, role=session.role, group=group,
        base=session.uri("pipelines", name), champion=registry.champion_uri(session, group),
        training=training_request(session, experiment, training),
        input_data=input_data(session, options.data) if options.data else "",
        prepare=options.prepare or {}, processing_instance=options.processing_instance,
        longest_seconds=options.max_run, bar=options.bar, approval=approval,
        fail_if_not_better=options.fail_if_not_better, kms_key=session.settings.kms_key, vpc=vpc(session),
        tags=tuple(session.tags()),
    )  # fmt: skip


def pipeline_name(session: Session, given: str | None = None) -> str:
    """The given name of a pipeline, or the project's."""
    return checked(given or f"{session.project}-pipeline", "The pipeline's name")


def check_input(path: str) -> None:
    """Raise `ConfigError` for a local file or folder that does not exist."""
    if "://" not in path and not Path(path).exists():
        raise ConfigError(f"There is no {path}: give a table, a prepared folder or an address in S3.")


def input_data(session: Session, path: str) -> str:
    """The URI of the data at `path`; a local file or folder is uploaded, again only where it has changed."""
    check_input(path)
    if "://" in path:
        return path
    return session.upload(Path(path), "pipelines", "input", Path(path).resolve().name)


def upsert(session: Session, plan: PipelinePlan) -> bool:
    """Create the pipeline, its model group and champion's folder, or change it; returns whether it is new."""
    registry.ensure_group(session, plan.group)
    registry.sync_champion(session, plan.group)
    client, text = session.client("sagemaker"), json.dumps(definition(plan), indent=1)
    request = {"PipelineName": plan.name, "PipelineDefinition": text, "RoleArn": plan.role}
    if find(session, plan.name) is not None:
        client.update_pipeline(**request)
        return False
    client.create_pipeline(**request, Tags=session.tags(), ClientRequestToken=_token())
    return True


def find(session: Session, name: str) -> dict[str, Any] | None:
    """The answer of DescribePipeline, or None where there is no pipeline of that name."""
    try:
        pipeline: dict[str, Any] = session.client("sagemaker").describe_pipeline(PipelineName=name)
    except CloudError as error:
        if error.code not in _ABSENT:
            raise
        return None
    return pipeline


def known(session: Session, name: str) -> dict[str, Any]:
    """As `find`; raises `CloudError` where there is no pipeline."""
    pipeline = find(session, name)
    if pipeline is None:
        raise CloudError(f"There is no pipeline {name}: make it with 'ncf sagemaker pipeline create RECIPE'.")
    return pipeline


def start(session: Session, name: str, parameters: Mapping[str, str] | None = None) -> str:
    """Start an execution, which compares its model with the newest approved one; returns its ARN."""
    registry.sync_champion(session, group_of(known(session, name)))
    answer = session.client("sagemaker").start_pipeline_execution(
        PipelineName=name, PipelineParameters=pairs(parameters or {}), ClientRequestToken=_token()
    )
    return str(answer["PipelineExecutionArn"])


def resume_or_start(session: Session, name: str, parameters: Mapping[str, str]) -> tuple[str, bool]:
    """Resume the last execution if it failed or was stopped and nothing has changed since; otherwise start
    one.

    Returns the ARN, and whether the execution was resumed.
    """
    last = next(iter(executions(session, name)), None)
    if last and last["PipelineExecutionStatus"] in ("Failed", "Stopped"):
        arn = str(last["PipelineExecutionArn"])
        if _is_same(session, name, arn, parameters):
            return retry(session, arn), True
    return start(session, name, parameters), False


def retry(session: Session, arn: str) -> str:
    """Resume an execution that failed or was stopped, without the steps that succeeded; returns `arn`."""
    client = session.client("sagemaker")
    client.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=_token())
    return arn


def executions(session: Session, name: str) -> list[dict[str, Any]]:
    """The summaries of a pipeline's executions, the newest first."""
    order = {"SortBy": "CreationTime", "SortOrder": "Descending"}
    client = session.client("sagemaker")
    key = "PipelineExecutionSummaries"
    return list(entries(client, "list_pipeline_executions", key, PipelineName=name, **order))


def execution(session: Session, arn: str) -> Execution:
    """The state of an execution, with its steps in the order in which they started."""
    client, key = session.client("sagemaker"), "PipelineExecutionSteps"
    described = client.describe_pipeline_execution(PipelineExecutionArn=arn)
    listed = entries(
        client, "list_pipeline_execution_steps", key, PipelineExecutionArn=arn, SortOrder="Ascending"
    )
    never = datetime.max.replace(tzinfo=UTC)
    return Execution(described, sorted(listed, key=lambda step: step.get("StartTime") or never))


def definition_of(session: Session, arn: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The definition with which an execution was started, and its parameters."""
    client = session.client("sagemaker")
    text = client.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)["PipelineDefinition"]
    given = entries(
        client, "list_pipeline_parameters_for_execution", "PipelineParameters", PipelineExecutionArn=arn
    )
    return json.loads(text), {entry["Name"]: entry["Value"] for entry in given}


def follow(
    session: Session,
    arn: str,
    on_change: Callable[[Execution], None] = lambda _: None,
    *,
    seconds: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Execution:
    """Wait for the end of an execution; `on_change` receives each state, `seconds` pass between two looks."""

    def look() -> Execution:
        now = execution(session, arn)
        on_change(now)
        return now

    return wait_until(look, lambda now: now.over, first=seconds, longest=seconds, sleep=sleep)


def verdict(session: Session, now: Execution) -> dict[str, Any] | None:
    """The document that Evaluate wrote, or None where it has not run."""
    done = [
        step for step in now.steps if step["StepStatus"] == "Succeeded" and step["StepName"] == "Evaluate"
    ]
    arn = done[-1].get("Metadata", {}).get("ProcessingJob", {}).get("Arn") if done else None
    if not arn:
        return None
    job = session.client("sagemaker").describe_processing_job(ProcessingJobName=arn.rpartition("/")[2])
    uri = job["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
    return registry.evaluation(session, f"{uri}/evaluation.json")


def stop(session: Session, arn: str) -> None:
    """Ask an execution to stop, with the job that it runs."""
    session.client("sagemaker").stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=_token())


def delete(session: Session, name: str) -> None:
    """Delete the pipeline; its models stay in the registry."""
    known(session, name)
    session.client("sagemaker").delete_pipeline(PipelineName=name, ClientRequestToken=_token())


def group_of(pipeline: Mapping[str, Any]) -> str:
    """The model group in which a pipeline registers; raises `CloudError` for a pipeline of another kind."""
    steps = json.loads(pipeline["PipelineDefinition"])["Steps"]
    inner = [step for outer in steps for step in outer["Arguments"].get("IfSteps", ())]
    names = [step["Arguments"]["ModelPackageGroupName"] for step in inner if step["Type"] == "RegisterModel"]
    if not names:
        raise CloudError(
            "This pipeline registers no model: it was not made by 'ncf sagemaker pipeline create'."
        )
    return str(names[0])


def pairs(parameters: Mapping[str, str]) -> list[dict[str, str]]:
    """Parameters in the form of requests."""
    return [{"Name": name, "Value": value} for name, value in parameters.items()]


def step_line(step: dict[str, Any]) -> str:
    """The name, state, duration and result of a step."""
    seconds = _seconds(step)
    minutes, rest = divmod(round(seconds or 0), 60)
    duration = "" if seconds is None else f"{minutes}:{rest:02}"
    return f"{step['StepName']:<10} {step['StepStatus']:<10} {duration:>8}  {_result(step)}".rstrip()


class Changes:
    """Finds the steps whose state has changed since the last look."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}

    def lines(self, now: Execution) -> list[str]:
        """A line for each step that has changed."""
        new = [step for step in now.steps if self._before.get(step["StepName"]) != step["StepStatus"]]
        self._before = {step["StepName"]: step["StepStatus"] for step in now.steps}
        return [step_line(step) for step in new]


def _is_same(session: Session, name: str, arn: str, parameters: Mapping[str, str]) -> bool:
    """Whether the pipeline still has the definition of an execution, and a start the same parameters."""
    then, given = definition_of(session, arn)
    now = json.loads(known(session, name)["PipelineDefinition"])
    defaults = {entry["Name"]: str(entry.get("DefaultValue", "")) for entry in now["Parameters"]}
    return bool(then == now and defaults | given == defaults | dict(parameters))


def _token() -> str:
    """A token of at least 32 characters, by which AWS knows a repeated call from a new one."""
    return secrets.token_hex(20)


def _seconds(step: dict[str, Any]) -> float | None:
    if "StartTime" not in step:
        return None
    return float(((step.get("EndTime") or datetime.now(UTC)) - step["StartTime"]).total_seconds())


def _result(step: dict[str, Any]) -> str:
    """Why a step failed, which way a condition went, or what was made."""
    metadata = step.get("Metadata", {})
    if step.get("FailureReason"):
        return str(step["FailureReason"])
    if "Condition" in metadata:
        return "better" if metadata["Condition"].get("Outcome") == "True" else "not better"
    made = (entry["Arn"] for entry in metadata.values() if isinstance(entry, dict) and "Arn" in entry)
    return str(next(made, ""))
