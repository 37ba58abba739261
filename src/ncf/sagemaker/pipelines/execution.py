"""Pipelines: made, changed, started, watched, stopped, deleted; the same calls for AWS and for local mode.

In: a session and a `PipelinePlan`. Out: the names and states that AWS gives. `plan_of` is where the session's facts, the recipe
and the options become a plan; the definition itself is `ncf.sagemaker.pipelines.definition`.
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
from ncf.sagemaker.container.criteria import PromotionCriteria
from ncf.sagemaker.jobs.images import own_image
from ncf.sagemaker.jobs.requests import TrainingOptions, training_request, vpc
from ncf.sagemaker.names import checked
from ncf.sagemaker.pipelines import registry
from ncf.sagemaker.pipelines.definition import definition
from ncf.sagemaker.pipelines.steps import Approval, PipelinePlan
from ncf.sagemaker.session import Session

OVER = ("Succeeded", "Failed", "Stopped")
_ABSENT = ("ResourceNotFound", "ResourceNotFoundException", "ValidationException")


@dataclass(frozen=True)
class Options:
    """What a user may say of a pipeline, apart from the session."""

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
    """One execution, as DescribePipelineExecution and ListPipelineExecutionSteps give it."""

    described: dict[str, Any]
    steps: list[dict[str, Any]]

    @property
    def arn(self) -> str:
        """Its full name."""
        return str(self.described["PipelineExecutionArn"])

    @property
    def status(self) -> str:
        """Executing, Stopping, Stopped, Failed or Succeeded."""
        return str(self.described["PipelineExecutionStatus"])

    @property
    def over(self) -> bool:
        """Whether nothing more happens."""
        return self.status in OVER

    @property
    def package(self) -> str | None:
        """ARN of the model package that it registered."""
        arns = [one.get("Metadata", {}).get("RegisterModel", {}).get("Arn") for one in self.steps]
        return next((arn for arn in arns if arn), None)


def plan_of(session: Session, experiment: Experiment, options: Options) -> PipelinePlan:
    """The plan; data that lie here are sent. Raises `ConfigError` for what cannot be."""
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
    """The pipeline that is given, or the project's."""
    return checked(given or f"{session.project}-pipeline", "The pipeline's name")


def check_input(where: str) -> None:
    """Raise `ConfigError` for a file or a folder that is not here."""
    if "://" not in where and not Path(where).exists():
        raise ConfigError(f"There is no {where}: give a table, a prepared folder or an address in S3.")


def input_data(session: Session, where: str) -> str:
    """An address as it is; a file or a folder here is sent, and sent again only where it has changed."""
    check_input(where)
    if "://" in where:
        return where
    path = Path(where)
    return session.upload(path, "pipelines", "input", path.resolve().name)


def upsert(session: Session, plan: PipelinePlan) -> bool:
    """Create the pipeline, its model group and the champion's folder, or change the definition; whether it is new."""
    registry.ensure_group(session, plan.group)
    registry.sync_champion(session, plan.group)
    client, text = session.client("sagemaker"), json.dumps(definition(plan), indent=1)
    if find(session, plan.name) is None:
        client.create_pipeline(
            PipelineName=plan.name, PipelineDefinition=text, RoleArn=plan.role, Tags=session.tags(),
            ClientRequestToken=_token(),
        )  # fmt: skip
        return True
    client.update_pipeline(PipelineName=plan.name, PipelineDefinition=text, RoleArn=plan.role)
    return False


def find(session: Session, name: str) -> dict[str, Any] | None:
    """DescribePipeline's answer, or None where there is no pipeline of that name."""
    try:
        found: dict[str, Any] = session.client("sagemaker").describe_pipeline(PipelineName=name)
    except CloudError as error:
        if error.code not in _ABSENT:
            raise
        return None
    return found


def start(session: Session, name: str, parameters: Mapping[str, str] | None = None) -> str:
    """Start an execution against the newest approved model; returns its ARN."""
    group = group_of(known(session, name))
    registry.sync_champion(session, group)
    answer = session.client("sagemaker").start_pipeline_execution(
        PipelineName=name, PipelineParameters=pairs(parameters or {}), ClientRequestToken=_token()
    )
    return str(answer["PipelineExecutionArn"])


def resume_or_start(session: Session, name: str, parameters: Mapping[str, str]) -> tuple[str, bool]:
    """Go on with the last execution, if it failed or was stopped and nothing was changed since; else start one.

    Returns the ARN, and whether it goes on.
    """
    last = next(iter(executions(session, name)), None)
    if last and last["PipelineExecutionStatus"] in ("Failed", "Stopped"):
        arn = str(last["PipelineExecutionArn"])
        if _same(session, name, arn, parameters):
            return retry(session, arn), True
    return start(session, name, parameters), False


def retry(session: Session, arn: str) -> str:
    """Go on with an execution that failed or was stopped; what succeeded is not repeated."""
    session.client("sagemaker").retry_pipeline_execution(
        PipelineExecutionArn=arn, ClientRequestToken=_token()
    )
    return arn


def executions(session: Session, name: str) -> list[dict[str, Any]]:
    """The executions of a pipeline, the newest first."""
    pages = session.client("sagemaker").get_paginator("list_pipeline_executions")
    asked = {"PipelineName": name, "SortBy": "CreationTime", "SortOrder": "Descending"}
    return [one for page in pages.paginate(**asked) for one in page["PipelineExecutionSummaries"]]


def execution(session: Session, arn: str) -> Execution:
    """The state of an execution, its steps in the order in which they started."""
    client = session.client("sagemaker")
    described = client.describe_pipeline_execution(PipelineExecutionArn=arn)
    pages = client.get_paginator("list_pipeline_execution_steps")
    steps = [
        one
        for page in pages.paginate(PipelineExecutionArn=arn, SortOrder="Ascending")
        for one in page["PipelineExecutionSteps"]
    ]
    return Execution(
        described, sorted(steps, key=lambda one: one.get("StartTime") or datetime.max.replace(tzinfo=UTC))
    )


def follow(
    session: Session,
    arn: str,
    on_change: Callable[[Execution], None] = lambda _: None,
    *,
    seconds: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Execution:
    """Wait for the end; `on_change` sees each state. The execution does not end with this call."""
    while True:
        now = execution(session, arn)
        on_change(now)
        if now.over:
            return now
        sleep(seconds)


def verdict(session: Session, now: Execution) -> dict[str, Any] | None:
    """What Evaluate wrote, or None where it has not come so far."""
    jobs = {one["StepName"]: one.get("Metadata", {}).get("ProcessingJob", {}).get("Arn") for one in now.steps
            if one["StepStatus"] == "Succeeded"}  # fmt: skip
    if not jobs.get("Evaluate"):
        return None
    job = session.client("sagemaker").describe_processing_job(
        ProcessingJobName=jobs["Evaluate"].rpartition("/")[2]
    )
    uri = job["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
    return registry.evaluation(session, f"{uri}/evaluation.json")


def stop(session: Session, arn: str) -> None:
    """Ask an execution to stop; its running job is stopped too."""
    session.client("sagemaker").stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=_token())


def delete(session: Session, name: str) -> None:
    """Delete the pipeline; its models stay in the registry."""
    known(session, name)
    session.client("sagemaker").delete_pipeline(PipelineName=name, ClientRequestToken=_token())


def known(session: Session, name: str) -> dict[str, Any]:
    """The pipeline; raises `CloudError` where there is none."""
    found = find(session, name)
    if found is None:
        raise CloudError(f"There is no pipeline {name}: make it with 'ncf sagemaker pipeline create RECIPE'.")
    return found


def group_of(pipeline: Mapping[str, Any]) -> str:
    """The model group that a pipeline registers in."""
    steps = json.loads(pipeline["PipelineDefinition"])["Steps"]
    inner = [one for step in steps for one in step["Arguments"].get("IfSteps", ())]
    names = [one["Arguments"]["ModelPackageGroupName"] for one in inner if one["Type"] == "RegisterModel"]
    if not names:
        raise CloudError(
            "This pipeline registers no model: it was not made by 'ncf sagemaker pipeline create'."
        )
    return str(names[0])


def pairs(parameters: Mapping[str, str]) -> list[dict[str, str]]:
    """Parameters as AWS takes them."""
    return [{"Name": name, "Value": value} for name, value in parameters.items()]


def _same(session: Session, name: str, arn: str, parameters: Mapping[str, str]) -> bool:
    client = session.client("sagemaker")
    then = client.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)["PipelineDefinition"]
    given = client.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)["PipelineParameters"]
    now = known(session, name)["PipelineDefinition"]
    defaults = {one["Name"]: str(one.get("DefaultValue", "")) for one in json.loads(now)["Parameters"]}
    same = defaults | {one["Name"]: one["Value"] for one in given} == defaults | dict(parameters)
    return bool(json.loads(then) == json.loads(now) and same)


def _token() -> str:
    """A retried call must not start a second execution (ClientRequestToken: at least 32 characters)."""
    return secrets.token_hex(20)


def lines(now: Execution) -> list[str]:
    """A line a step, and the whole in the last one."""
    return [*(step_line(one) for one in now.steps), f"{now.status}  {now.arn}"]


def step_line(step: dict[str, Any]) -> str:
    """Name, state, duration, and what there is to say."""
    return f"{step['StepName']:<10} {step['StepStatus']:<10} {_duration(step):>8}  {_remark(step)}".rstrip()


def reason(now: Execution) -> str:
    """Why it failed, in a sentence."""
    failed = [one for one in now.steps if one.get("FailureReason")]
    said = now.described.get("FailureReason") or (failed[0]["FailureReason"] if failed else "")
    if now.status == "Stopped":
        return "'ncf sagemaker pipeline retry' goes on with it."
    return str(said) or "SageMaker gives no reason; see the logs of its last job."


def as_record(now: Execution, verdict: dict[str, Any] | None) -> dict[str, Any]:
    """What `status --json` prints."""
    steps = [
        {"name": one["StepName"], "status": one["StepStatus"], "seconds": _seconds(one),
         "reason": one.get("FailureReason"), "metadata": one.get("Metadata", {})}
        for one in now.steps
    ]  # fmt: skip
    return {"execution": now.arn, "status": now.status, "steps": steps, "package": now.package, "evaluation": verdict}  # fmt: skip


class Changes:
    """The lines of the steps whose state has changed since the last look."""

    def __init__(self) -> None:
        self._before: dict[str, str] = {}

    def lines(self, now: Execution) -> list[str]:
        """What is new."""
        new = [one for one in now.steps if self._before.get(one["StepName"]) != one["StepStatus"]]
        self._before = {one["StepName"]: one["StepStatus"] for one in now.steps}
        return [step_line(one) for one in new]


def _seconds(step: dict[str, Any]) -> float | None:
    if "StartTime" not in step:
        return None
    return float(((step.get("EndTime") or datetime.now(UTC)) - step["StartTime"]).total_seconds())


def _duration(step: dict[str, Any]) -> str:
    seconds = _seconds(step)
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def _remark(step: dict[str, Any]) -> str:
    metadata = step.get("Metadata", {})
    if step.get("FailureReason"):
        return str(step["FailureReason"])
    if "Condition" in metadata:
        return "better" if metadata["Condition"].get("Outcome") == "True" else "not better"
    return str(next((one["Arn"] for one in metadata.values() if isinstance(one, dict) and "Arn" in one), ""))
