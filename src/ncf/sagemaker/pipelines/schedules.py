"""Schedules of a pipeline: EventBridge Scheduler calls StartPipelineExecution.

Schedules carry no tags, but their groups do. All schedules of a project are in one group, named like the
project and tagged, so clean-up finds them. Source: CreateSchedule, EventBridge Scheduler API Reference.
"""

import re
from collections.abc import Mapping
from typing import Any

from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.pipelines.execution import known, pairs
from ncf.sagemaker.session import Session

_EXPRESSION = re.compile(r"(rate|cron|at)\(.+\)")
_CRON_FIELDS = 6


def checked_expression(text: str) -> str:
    """The expression in `text`: `rate(7 days)`, `cron(0 3 ? * MON *)`, or only the six fields of a cron.

    Raises `ConfigError` for other texts.
    """
    if len(text.split()) == _CRON_FIELDS and "(" not in text:
        return f"cron({text})"
    if not _EXPRESSION.fullmatch(text):
        raise ConfigError(
            f"{text!r} is not a schedule: give rate(7 days), or cron(0 3 ? * MON *) with AWS's six fields."
        )
    return text


def schedule(
    session: Session,
    pipeline: str,
    expression: str,
    role: str,
    parameters: Mapping[str, str] | None = None,
    timezone: str = "UTC",
) -> bool:
    """Create or change the schedule of `pipeline`; returns whether it is new.

    `expression` and `timezone` say when, `parameters` are those of each start. `role` is the ARN of a role
    that scheduler.amazonaws.com may assume and that may call sagemaker:StartPipelineExecution
    (docs/pipeline.md).
    """
    request = {
        "Name": pipeline,
        "GroupName": session.project,
        "ScheduleExpression": checked_expression(expression),
        "ScheduleExpressionTimezone": timezone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": _target(str(known(session, pipeline)["PipelineArn"]), role, parameters or {}),
    }
    _ensure_group(session)
    client = session.client("scheduler")
    if find(session, pipeline) is None:
        client.create_schedule(**request)
        return True
    client.update_schedule(**request)
    return False


def unschedule(session: Session, pipeline: str) -> None:
    """Delete the schedule of a pipeline; raises `CloudError` where there is none."""
    if find(session, pipeline) is None:
        raise CloudError(f"The pipeline {pipeline} has no schedule: nothing to remove.")
    session.client("scheduler").delete_schedule(Name=pipeline, GroupName=session.project)


def find(session: Session, pipeline: str) -> dict[str, Any] | None:
    """The answer of GetSchedule, or None where the pipeline has no schedule."""
    client = session.client("scheduler")
    try:
        answer: dict[str, Any] = client.get_schedule(Name=pipeline, GroupName=session.project)
    except CloudError as error:
        if error.code != "ResourceNotFoundException":
            raise
        return None
    return answer


def _target(arn: str, role: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    target: dict[str, Any] = {"Arn": arn, "RoleArn": role, "RetryPolicy": {"MaximumRetryAttempts": 3}}
    if parameters:
        target["SageMakerPipelineParameters"] = {"PipelineParameterList": pairs(parameters)}
    return target


def _ensure_group(session: Session) -> None:
    client = session.client("scheduler")
    try:
        client.get_schedule_group(Name=session.project)
    except CloudError as error:
        if error.code != "ResourceNotFoundException":
            raise
        client.create_schedule_group(Name=session.project, Tags=session.tags())
