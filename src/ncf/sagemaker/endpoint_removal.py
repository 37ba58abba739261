"""Delete an endpoint with all that was made for it, as often as one likes: what is gone already is no mistake."""

from collections.abc import Callable
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker import autoscaling, endpoint_logs
from ncf.sagemaker.endpoint_state import Watch, absent, check_own, configs_of, find, models_of, settle
from ncf.sagemaker.session import Session


def delete(session: Session, endpoint: str, *, logs: bool = True, watch: Watch | None = None) -> list[str]:
    """Delete the endpoint with all that was made for it; names of what was deleted, nothing where there is nothing.

    The log group goes with it, or is left to clean-up by `logs`. One that may not be deleted is said, and the rest goes on.
    """
    watch, client, gone = watch or Watch(), session.client("sagemaker"), []
    current = find(session, endpoint)
    if current is not None:
        check_own(session, current)
    configs = configs_of(session, endpoint)
    variants = {one["VariantName"] for config in configs for one in config["ProductionVariants"]}
    scaled = [one for one in sorted(variants) if autoscaling.unregister(session, endpoint, one)]
    gone += [f"autoscaling of {endpoint}/{variant}" for variant in scaled]
    models = models_of(session, endpoint)
    if current is not None:
        _said(watch, endpoint, lambda: endpoint_logs.claim(session, endpoint))
        if current["EndpointStatus"] != "Deleting":
            client.delete_endpoint(EndpointName=endpoint)
        settle(session, endpoint, watch)
        gone.append(f"endpoint {endpoint}")
    ours = current is not None or configs or models
    if logs and ours and _said(watch, endpoint, lambda: endpoint_logs.remove(session, endpoint)):
        gone.append(f"log group {endpoint_logs.group_of(endpoint)}")
    for config in configs:
        client.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
        gone.append(f"configuration {config['EndpointConfigName']}")
    for model in models:
        client.delete_model(ModelName=model)
        gone.append(f"model {model}")
    return gone


def _said(watch: Watch, endpoint: str, act: Callable[[], Any]) -> Any:
    """What it comes to; a refusal is said and no more, since an endpoint that costs money must go without its log too."""
    try:
        return act()
    except CloudError as error:
        watch.say(f"{endpoint}: its log group {endpoint_logs.group_of(endpoint)} stays as it is: {error}")
        return None


def take_away(watch: Watch, call: Any, **request: str) -> None:
    """Delete what was made in vain; where that fails, say so and go on, since another error is on its way."""
    try:
        call(**request)
    except CloudError as error:
        if not absent(error):
            watch.say(f"{next(iter(request.values()))} could not be deleted: {error}")
