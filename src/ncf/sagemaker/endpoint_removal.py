"""Delete an endpoint with all that was made for it, as often as one likes: what is gone already is no mistake."""

from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker import autoscaling
from ncf.sagemaker.endpoint_state import Watch, absent, check_own, configs_of, find, models_of, settle
from ncf.sagemaker.session import Session


def delete(session: Session, endpoint: str, *, watch: Watch | None = None) -> list[str]:
    """Delete the endpoint with all that was made for it; names of what was deleted, nothing where there is nothing."""
    watch, client, gone = watch or Watch(), session.client("sagemaker"), []
    current = find(session, endpoint)
    if current is not None:
        check_own(session, current)
    configs = configs_of(session, endpoint)
    variants = {one["VariantName"] for config in configs for one in config["ProductionVariants"]}
    scaled = [one for one in sorted(variants) if autoscaling.unregister(session, endpoint, one)]
    gone += [f"autoscaling of {endpoint}/{variant}" for variant in scaled]
    if current is not None:
        if current["EndpointStatus"] != "Deleting":
            client.delete_endpoint(EndpointName=endpoint)
        settle(session, endpoint, watch)
        gone.append(f"endpoint {endpoint}")
    for config in configs:
        client.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
        gone.append(f"configuration {config['EndpointConfigName']}")
    for model in models_of(session, endpoint):
        client.delete_model(ModelName=model)
        gone.append(f"model {model}")
    return gone


def take_away(watch: Watch, call: Any, **request: str) -> None:
    """Delete what was made in vain; where that fails, say so and go on, since another error is on its way."""
    try:
        call(**request)
    except CloudError as error:
        if not absent(error):
            watch.say(f"{next(iter(request.values()))} could not be deleted: {error}")
