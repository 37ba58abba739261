"""Delete an endpoint with all that was made for it, as often as one likes: what is gone already is no mistake."""

from collections.abc import Callable
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.endpoints import autoscaling, removal
from ncf.sagemaker.endpoints.state import (
    EndpointProgress,
    absent,
    check_own,
    configs_of,
    find,
    models_of,
    settle,
)
from ncf.sagemaker.jobs.logs import ENDPOINTS
from ncf.sagemaker.paging import entries
from ncf.sagemaker.session import TAG, Session


def delete(
    session: Session, endpoint: str, *, logs: bool = True, watch: EndpointProgress | None = None
) -> list[str]:
    """Delete the endpoint with all that was made for it; names of what was deleted, nothing where there is nothing.

    The log group goes with it, or is left to clean-up by `logs`. One that may not be deleted is said, and the rest goes on.
    """
    watch, client, gone = watch or EndpointProgress(), session.client("sagemaker"), []
    current = find(session, endpoint)
    if current is not None:
        check_own(session, current)
    configs = configs_of(session, endpoint)
    variants = {one["VariantName"] for config in configs for one in config["ProductionVariants"]}
    scaled = [one for one in sorted(variants) if autoscaling.unregister(session, endpoint, one)]
    gone += [f"autoscaling of {endpoint}/{variant}" for variant in scaled]
    models = models_of(session, endpoint)
    if current is not None:
        _said(watch, endpoint, lambda: removal.claim(session, endpoint))
        if current["EndpointStatus"] != "Deleting":
            client.delete_endpoint(EndpointName=endpoint)
        settle(session, endpoint, watch)
        gone.append(f"endpoint {endpoint}")
    ours = current is not None or configs or models
    if logs and ours and _said(watch, endpoint, lambda: removal.remove(session, endpoint)):
        gone.append(f"log group {removal.group_of(endpoint)}")
    for config in configs:
        client.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
        gone.append(f"configuration {config['EndpointConfigName']}")
    for model in models:
        client.delete_model(ModelName=model)
        gone.append(f"model {model}")
    return gone


def _said(watch: EndpointProgress, endpoint: str, act: Callable[[], Any]) -> Any:
    """What it comes to; a refusal is said and no more, since an endpoint that costs money must go without its log too."""
    try:
        return act()
    except CloudError as error:
        watch.log(f"{endpoint}: its log group {removal.group_of(endpoint)} stays as it is: {error}")
        return None


def take_away(watch: EndpointProgress, call: Any, **request: str) -> None:
    """Delete what was made in vain; where that fails, say so and go on, since another error is on its way."""
    try:
        call(**request)
    except CloudError as error:
        if not absent(error):
            watch.log(f"{next(iter(request.values()))} could not be deleted: {error}")


def group_of(endpoint: str) -> str:
    """The name of its log group."""
    return f"{ENDPOINTS}/{endpoint}"


def claim(session: Session, endpoint: str) -> None:
    """Put the project's tag on it, so that clean-up finds it when the endpoint is gone; local mode has no tags."""
    logs, name = session.client("logs"), group_of(endpoint)
    for group in entries(logs.describe_log_groups, "logGroups", "nextToken", logGroupNamePrefix=name):
        if group["logGroupName"] == name and "arn" in group:
            arn = group["arn"].removesuffix(":*")
            logs.tag_resource(resourceArn=arn, tags={TAG: session.project})


def remove(session: Session, endpoint: str) -> bool:
    """Delete it; whether there was one. Raises `CloudError` where AWS refuses."""
    try:
        session.client("logs").delete_log_group(logGroupName=group_of(endpoint))
    except CloudError as error:
        if error.code == "ResourceNotFoundException":
            return False
        raise
    return True
