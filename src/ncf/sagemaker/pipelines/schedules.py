"""A pipeline that starts by the clock: EventBridge Scheduler calls StartPipelineExecution.

Schedules carry no tags, but groups of them do: all of a project's are in one group, named as the project and tagged, so
that clean-up finds them. Source: CreateSchedule, EventBridge Scheduler API Reference.
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
    """`rate(7 days)`, `cron(0 3 ? * MON *)`, or the six fields of a cron alone; raises `ConfigError` for others."""
    if len(text.split()) == _CRON_FIELDS and "(" not in text:
        return f"cron({text})"
    if not _EXPRESSION.fullmatch(text):
        raise ConfigError(
            f"{text!r} is no schedule: say rate(7 days), or cron(0 3 ? * MON *) with AWS's six fields."
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
    """Start `pipeline` by the clock, or change when; whether the schedule is new.

    `role` is the ARN of a role that scheduler.amazonaws.com may assume and that may call
    sagemaker:StartPipelineExecution (docs/pipeline.md).
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
    """Take the clock away; raises `CloudError` where there is none."""
    if find(session, pipeline) is None:
        raise CloudError(f"The pipeline {pipeline} has no schedule.")
    session.client("scheduler").delete_schedule(Name=pipeline, GroupName=session.project)


def find(session: Session, pipeline: str) -> dict[str, Any] | None:
    """GetSchedule's answer, or None."""
    try:
        found: dict[str, Any] = session.client("scheduler").get_schedule(
            Name=pipeline, GroupName=session.project
        )
    except CloudError as error:
        if error.code != "ResourceNotFoundException":
            raise
        return None
    return found


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
