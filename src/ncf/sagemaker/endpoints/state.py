"""What there is of an endpoint: its description, its configurations and models, and what it comes to while it changes.

The one decision worth knowing: what belongs to an endpoint is told by the tags `ncf:project` and `ncf:endpoint` alone,
never by a name, so that nothing of somebody else is ever changed or deleted.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker import names
from ncf.sagemaker.endpoints.requests import ENDPOINT_TAG
from ncf.sagemaker.paging import entries
from ncf.sagemaker.session import TAG, Session

Description = dict[str, Any]
MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_STAMP = len("-20261124-173012-123")
_SHORTEST, _LONGEST = 1.0, 15.0
_PATIENCE = 2 * 3600
_PASSING = (
    "ThrottlingException",
    "Throttling",
    "RequestLimitExceeded",
    "Network",
    "InternalFailure",
    "ServiceUnavailable",
)
_TRIES = 10


def _silent(_: str) -> None:
    """For who does not want to hear."""


@dataclass(frozen=True)
class EndpointProgress:
    """How to wait: whom to tell of progress, and what passes the time."""

    log: Callable[[str], None] = _silent
    sleep: Callable[[float], None] = time.sleep
    patience: float = _PATIENCE
    """Seconds until waiting is given up; what was started goes on."""


def absent(error: CloudError) -> bool:
    """Whether AWS says that there is no such thing."""
    said = str(error).lower()
    return error.code == "ResourceNotFound" or (
        error.code.startswith("Validation") and ("could not find" in said or "does not exist" in said)
    )


def find(session: Session, endpoint: str) -> Description | None:
    """The endpoint as DescribeEndpoint has it, or None; raises `CloudError` for anything else."""
    try:
        found: Description = session.client("sagemaker").describe_endpoint(EndpointName=endpoint)
    except CloudError as error:
        if absent(error):
            return None
        raise
    return found


def config_named(session: Session, name: str) -> Description | None:
    """A configuration as DescribeEndpointConfig has it, or None where it was deleted."""
    try:
        found: Description = session.client("sagemaker").describe_endpoint_config(EndpointConfigName=name)
    except CloudError as error:
        if absent(error):
            return None
        raise
    return found


def existing(session: Session, endpoint: str) -> Description:
    """The endpoint; raises `CloudError` where there is none."""
    found = find(session, endpoint)
    if found is None:
        raise CloudError(
            f"There is no endpoint {endpoint!r}: 'ncf sagemaker endpoints' lists those that are."
        )
    return found


def own(session: Session, endpoint: str) -> Description:
    """The endpoint of this project; raises `CloudError` where there is none, or it is not this project's."""
    found = existing(session, endpoint)
    check_own(session, found)
    return found


def check_own(session: Session, found: Description) -> None:
    """Raise `CloudError` for an endpoint that does not carry this project's tag."""
    if tags_of(session, found["EndpointArn"]).get(TAG) != session.project:
        raise CloudError(
            f"The endpoint {found['EndpointName']!r} is not of project {session.project!r} and is left alone: "
            "give --project, or another --name."
        )


def tags_of(session: Session, arn: str) -> dict[str, str]:
    """The tags of a resource."""
    client = session.client("sagemaker")
    return {tag["Key"]: tag["Value"] for tag in entries(client.list_tags, "Tags", ResourceArn=arn)}


def new_part(session: Session, endpoint: str) -> str:
    """A new name for a model or configuration of the endpoint."""
    known = endpoint.startswith(session.project)
    return names.new_name(*(() if known else (session.project,)), endpoint)


def configs_of(session: Session, endpoint: str) -> list[Description]:
    """Every configuration that was made for the endpoint, described, the oldest first."""
    client = session.client("sagemaker")
    listed = client.list_endpoint_configs
    found = _tagged(session, endpoint, listed, "EndpointConfigs", "EndpointConfigName", "EndpointConfigArn")
    return [client.describe_endpoint_config(EndpointConfigName=name) for name in found]


def models_of(session: Session, endpoint: str) -> list[str]:
    """The names of every model that was made for the endpoint."""
    listed = session.client("sagemaker").list_models
    return _tagged(session, endpoint, listed, "Models", "ModelName", "ModelArn")


def _tagged(
    session: Session, endpoint: str, call: Callable[..., Any], key: str, name: str, arn: str
) -> list[str]:
    stem = new_part(session, endpoint)[:-_STAMP]
    wanted = {TAG: session.project, ENDPOINT_TAG: endpoint}
    return sorted(
        one[name]
        for one in entries(call, key, NameContains=stem)
        if one[name].startswith(stem) and wanted.items() <= tags_of(session, one[arn]).items()
    )


def settle(session: Session, endpoint: str, watch: EndpointProgress) -> Description | None:
    """Wait until the endpoint changes no more; None when it is gone. Raises `CloudError` where that takes too long.

    What passes (throttling, a network that is away for a moment) is waited for.
    """
    began, told, wait, failures = time.monotonic(), "", _SHORTEST, 0
    waited = 0.0
    while True:
        try:
            found = find(session, endpoint)
            failures = 0
        except CloudError as error:
            failures += 1
            if error.code not in _PASSING or failures >= _TRIES:
                raise
        else:
            status = "gone" if found is None else str(found["EndpointStatus"])
            if status not in MOVING:
                return found
            if status != told:
                watch.log(f"{endpoint}: {status} …")
                told = status
        waited = max(waited + wait, time.monotonic() - began)
        if waited > watch.patience:
            raise CloudError(
                f"The endpoint {endpoint} is still {told or 'changing'} after {watch.patience / 60:.0f} minutes; it goes on: "
                f"'ncf sagemaker describe {endpoint}' shows it.",
                "Timeout",
            )
        watch.sleep(wait)
        wait = min(_LONGEST, wait * 1.3)
