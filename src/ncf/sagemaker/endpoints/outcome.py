"""What becomes of a change: the endpoint is healthy, or it is brought back to what it was, and a `CloudError` says why."""

from dataclasses import dataclass

from ncf.errors import CloudError, Interrupted
from ncf.sagemaker.endpoints import autoscaling, diagnosis
from ncf.sagemaker.endpoints.autoscaling import Registered
from ncf.sagemaker.endpoints.removal import delete, take_away
from ncf.sagemaker.endpoints.state import Description, EndpointProgress, settle
from ncf.sagemaker.session import Session


@dataclass(frozen=True)
class Change:
    """A change that SageMaker has begun."""

    endpoint: str
    config: str
    """The configuration that it changes to."""
    before: str | None
    """The one that it had; None for a new endpoint."""
    variant: str
    began: float
    """Seconds since the epoch: older lines of the log are of no interest."""
    model: str | None = None
    """A model that was made for the change together with the configuration; None for a rollback."""
    suspended: Registered | None = None
    """Autoscaling that rests until the change is done."""


def conclude(session: Session, change: Change, watch: EndpointProgress) -> None:
    """Wait until the endpoint is healthy; otherwise undo the change and raise the `CloudError` that says why."""
    try:
        after = settle(session, change.endpoint, watch)
    except KeyboardInterrupt:
        raise Interrupted(_goes_on(change)) from None
    except CloudError as error:
        if error.code == "Timeout":
            raise CloudError(_goes_on(change), "Timeout") from error
        raise
    if _serves(after, change.config):
        _scale_again(session, change, change.variant)
        return
    lines = diagnosis.tail(session, change.endpoint, change.began)
    then = _bring_back(session, change, after, watch)
    reason = "it was deleted meanwhile" if after is None else after.get("FailureReason")
    raise diagnosis.unhealthy(change.endpoint, reason, then, lines)


def _bring_back(session: Session, change: Change, after: Description | None, watch: EndpointProgress) -> str:
    """Undo the change; returns what was done as a sentence."""
    if change.before is None:
        delete(session, change.endpoint, logs=False, watch=watch)
        return "It was deleted with its configuration and model: mend the cause and deploy again."
    if not _serves(after, change.before) and not _went_back(session, change.endpoint, change.before, watch):
        return (
            f"Nor did it come back with configuration {change.before}: delete it with "
            f"'ncf sagemaker delete {change.endpoint}' and deploy again."
        )
    _undo(session, change, watch)
    return f"It serves as before, by configuration {change.before}: mend the cause and deploy again."


def _serves(found: Description | None, config: str | None) -> bool:
    return found is not None and (found["EndpointStatus"], found["EndpointConfigName"]) == (
        "InService",
        config,
    )


def _scale_again(session: Session, change: Change, variant: str) -> None:
    if change.suspended:
        autoscaling.register_again(session, change.suspended, variant)


def _undo(session: Session, change: Change, watch: EndpointProgress) -> None:
    if change.suspended:
        _scale_again(session, change, change.suspended.variant)
    if change.model:
        client = session.client("sagemaker")
        take_away(watch, client.delete_endpoint_config, EndpointConfigName=change.config)
        take_away(watch, client.delete_model, ModelName=change.model)


def _goes_on(change: Change) -> str:
    scaling = (
        " Its autoscaling rests: deploy again with --autoscale when it is in service."
        if change.suspended
        else ""
    )
    return (
        f"Waiting for {change.endpoint} was given up, and SageMaker goes on: "
        f"'ncf sagemaker describe {change.endpoint}' shows what becomes of it.{scaling}"
    )


def _went_back(session: Session, endpoint: str, config: str, watch: EndpointProgress) -> bool:
    """Where SageMaker has not gone back by itself."""
    watch.log(f"{endpoint}: back to configuration {config}.")
    try:
        session.client("sagemaker").update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
        return _serves(settle(session, endpoint, watch), config)
    except CloudError as error:
        watch.log(str(error))
        return False
