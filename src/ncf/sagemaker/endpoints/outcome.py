"""How a change of an endpoint ends: it is healthy, or it is undone and a `CloudError` says why; and its
removal.

In: a `Change` that SageMaker has begun. Out: a healthy endpoint, or the state before and an error with the
last lines of the containers' log. Removal can be repeated: what is already gone is not an error. The log
group of an endpoint has a stream for each container that ever ran; those that wrote last come first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ncf.errors import CloudError, Interrupted
from ncf.sagemaker.aws_errors import redacted
from ncf.sagemaker.calls import entries
from ncf.sagemaker.endpoints import autoscaling
from ncf.sagemaker.endpoints.autoscaling import Registered
from ncf.sagemaker.endpoints.describe import (
    Description,
    EndpointProgress,
    check_own,
    configs_of,
    find,
    is_absent,
    models_of,
    settle,
)
from ncf.sagemaker.jobs.logs import ENDPOINTS
from ncf.sagemaker.session import TAG, Session

LINES = 20


@dataclass(frozen=True)
class Change:
    """A change that SageMaker has begun."""

    endpoint: str
    config: str
    """The new configuration."""
    before: str | None
    """The configuration before; None for a new endpoint."""
    variant: str
    began: float
    """Seconds since the epoch: older lines of the log do not matter."""
    model: str | None = None
    """A model that was made for the change together with the configuration; None for a rollback."""
    suspended: Registered | None = None
    """Autoscaling that is suspended until the change is done."""


def conclude(session: Session, change: Change, progress: EndpointProgress) -> None:
    """Wait until the endpoint is healthy; otherwise undo the change and raise `CloudError`."""
    scaling = ""
    if change.suspended:
        scaling = " Its autoscaling is suspended: deploy again with --autoscale when it is in service."
    left = (
        f"ncf stopped waiting for {change.endpoint}, but SageMaker continues: "
        f"'ncf sagemaker describe {change.endpoint}' shows its state.{scaling}"
    )
    try:
        after = settle(session, change.endpoint, progress)
    except KeyboardInterrupt:
        raise Interrupted(left) from None
    except CloudError as error:
        if error.code == "Timeout":
            raise CloudError(left, "Timeout") from error
        raise
    if _serves(after, change.config):
        if change.suspended:
            autoscaling.register_again(session, change.suspended, change.variant)
        return
    lines = tail(session, change.endpoint, change.began)
    done = _undo(session, change, after, progress)
    reason = "it was deleted meanwhile" if after is None else after.get("FailureReason")
    raise unhealthy(change.endpoint, reason, done, lines)


def unhealthy(endpoint: str, reason: str | None, done: str, lines: Sequence[str]) -> CloudError:
    """The error for a failed change: SageMaker's reason, what was `done`, and the last `lines` of the log."""
    cause = redacted(reason or "SageMaker gives no reason").strip().rstrip(".")
    sentence = f"The endpoint {endpoint} did not become healthy ({cause}). {done}"
    group = group_of(endpoint)
    if not lines:
        why = "the container did not start, or its role may not write logs"
        return CloudError(f"{sentence} Its log {group} has no lines: {why}.", "Unhealthy")
    log = "\n".join(f"  {line}" for line in lines)
    return CloudError(f"{sentence}\nThe log {group} ends with:\n{log}", "Unhealthy")


def tail(session: Session, endpoint: str, since: float = 0.0, most: int = LINES) -> list[str]:
    """The last lines since a time in seconds, at most `most`, without secrets; none where there is no log."""
    client, group = session.client("logs"), group_of(endpoint)
    events: list[dict[str, Any]] = []
    try:
        streams = list(entries(client, "describe_log_streams", "logStreams", logGroupName=group))
        for stream in sorted(streams, key=lambda stream: -stream.get("lastEventTimestamp", 0))[:3]:
            name = stream["logStreamName"]
            events += client.get_log_events(logGroupName=group, logStreamName=name, startFromHead=False)[
                "events"
            ]
    except CloudError as error:
        if error.code in ("ResourceNotFoundException", "AccessDeniedException"):
            return []
        raise
    new = [event for event in events if event["timestamp"] >= since * 1000]
    new.sort(key=lambda event: int(event["timestamp"]))
    return [redacted(str(event["message"]).rstrip()) for event in new[-most:]]


def delete(
    session: Session, endpoint: str, *, logs: bool = True, progress: EndpointProgress | None = None
) -> list[str]:
    """Delete the endpoint with everything that was made for it; returns what was deleted, possibly nothing.

    Without `logs` the log group stays for clean-up. A log group that may not be deleted is reported to
    `progress`, and the rest continues, since an endpoint costs money and its log hardly does.
    """
    progress, client = progress or EndpointProgress(), session.client("sagemaker")
    current = find(session, endpoint)
    if current is not None:
        check_own(session, current)
    configs = configs_of(session, endpoint)
    variants = {variant["VariantName"] for config in configs for variant in config["ProductionVariants"]}
    scaled = [variant for variant in sorted(variants) if autoscaling.unregister(session, endpoint, variant)]
    gone = [f"autoscaling of {endpoint}/{variant}" for variant in scaled]
    models = models_of(session, endpoint)
    if current is not None:
        _try_log_group(progress, endpoint, lambda: claim_log_group(session, endpoint))
        if current["EndpointStatus"] != "Deleting":
            client.delete_endpoint(EndpointName=endpoint)
        settle(session, endpoint, progress)
        gone.append(f"endpoint {endpoint}")
    ours = current is not None or configs or models
    if logs and ours and _try_log_group(progress, endpoint, lambda: _delete_log_group(session, endpoint)):
        gone.append(f"log group {group_of(endpoint)}")
    for config in configs:
        client.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
        gone.append(f"configuration {config['EndpointConfigName']}")
    for model in models:
        client.delete_model(ModelName=model)
        gone.append(f"model {model}")
    return gone


def discard(progress: EndpointProgress, call: Any, **request: str) -> None:
    """Delete what is no longer needed; a failure is only reported, since another error is on its way."""
    try:
        call(**request)
    except CloudError as error:
        if not is_absent(error):
            progress.log(f"{next(iter(request.values()))} could not be deleted: {error}")


def group_of(endpoint: str) -> str:
    """The name of the endpoint's log group."""
    return f"{ENDPOINTS}/{endpoint}"


def claim_log_group(session: Session, endpoint: str) -> None:
    """Tag the log group with the project, so clean-up finds it without the endpoint (not in local mode)."""
    client, name = session.client("logs"), group_of(endpoint)
    for group in entries(client, "describe_log_groups", "logGroups", logGroupNamePrefix=name):
        if group["logGroupName"] == name and "arn" in group:
            client.tag_resource(resourceArn=group["arn"].removesuffix(":*"), tags={TAG: session.project})


def _delete_log_group(session: Session, endpoint: str) -> bool:
    """Delete the log group; returns whether there was one."""
    try:
        session.client("logs").delete_log_group(logGroupName=group_of(endpoint))
    except CloudError as error:
        if error.code != "ResourceNotFoundException":
            raise
        return False
    return True


def _try_log_group(progress: EndpointProgress, endpoint: str, act: Callable[[], Any]) -> Any:
    try:
        return act()
    except CloudError as error:
        progress.log(f"{endpoint}: its log group {group_of(endpoint)} stays as it is: {error}")
        return None


def _undo(session: Session, change: Change, after: Description | None, progress: EndpointProgress) -> str:
    """Undo the change; returns a sentence that says what was done."""
    if change.before is None:
        delete(session, change.endpoint, logs=False, progress=progress)
        return "It was deleted with its configuration and model: fix the cause and deploy again."
    if not _serves(after, change.before) and not _goes_back(
        session, change.endpoint, change.before, progress
    ):
        return (
            f"It could not return to configuration {change.before} either: delete it with "
            f"'ncf sagemaker delete {change.endpoint}' and deploy again."
        )
    if change.suspended:
        autoscaling.register_again(session, change.suspended, change.suspended.variant)
    if change.model:
        client = session.client("sagemaker")
        discard(progress, client.delete_endpoint_config, EndpointConfigName=change.config)
        discard(progress, client.delete_model, ModelName=change.model)
    return f"It serves as before, with configuration {change.before}: fix the cause and deploy again."


def _serves(description: Description | None, config: str | None) -> bool:
    """Whether the endpoint is in service with that configuration."""
    if description is None:
        return False
    return (description["EndpointStatus"], description["EndpointConfigName"]) == ("InService", config)


def _goes_back(session: Session, endpoint: str, config: str, progress: EndpointProgress) -> bool:
    """Return to a configuration where SageMaker has not done so itself; whether that worked."""
    progress.log(f"{endpoint}: back to configuration {config}.")
    try:
        session.client("sagemaker").update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
        return _serves(settle(session, endpoint, progress), config)
    except CloudError as error:
        progress.log(str(error))
        return False
