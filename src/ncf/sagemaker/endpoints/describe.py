"""What belongs to an endpoint, how it is, and waiting while it changes.

In: a session and an endpoint's name. Out: AWS's descriptions of the endpoint, its configurations and models,
or a flat `Summary` with its price. The one decision worth knowing: the tags `ncf:project` and `ncf:endpoint`
alone say what belongs to an endpoint, never a name, so that nobody else's resources are changed or deleted.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker import names
from ncf.sagemaker.calls import entries, wait_until
from ncf.sagemaker.endpoints import autoscaling
from ncf.sagemaker.endpoints.requests import BEFORE_TAG, ENDPOINT_TAG, Hosting
from ncf.sagemaker.prices import Estimate, estimate, serverless_second
from ncf.sagemaker.session import TAG, Session

Description = dict[str, Any]
MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
"""Statuses of an endpoint that is changing."""
_STAMP = len("-20261124-173012-123")
_TRIES = 10


@dataclass(frozen=True)
class EndpointProgress:
    """How to wait for an endpoint."""

    log: Callable[[str], None] = lambda _: None
    """Receives a line for each change of its status."""
    sleep: Callable[[float], None] = time.sleep
    patience: float = 2 * 3600
    """Seconds until waiting is given up; SageMaker continues."""


@dataclass(frozen=True)
class Summary:
    """One endpoint; None where something is not known or does not apply."""

    name: str
    status: str
    instance: str | None
    """`1 x ml.c7i.large`, `serverless 2048 MB`."""
    since: str
    """When it was last changed, in UTC."""
    hourly: float | None
    """US dollars an hour for what runs now; a serverless endpoint costs nothing while it is idle."""
    config: str
    before: str | None
    """The configuration that a rollback returns to."""
    model: str | None
    image: str | None
    model_uri: str | None
    asynchronous: bool
    capture: str | None
    """`20 % to s3://…`."""
    scaling: str | None
    """`1 to 4 instances`."""
    reason: str | None
    """Why it failed, or why its last update did."""

    def document(self) -> dict[str, Any]:
        """The fields, for `--json`."""
        return asdict(self)


def is_absent(error: CloudError) -> bool:
    """Whether AWS says that the resource does not exist."""
    text = str(error).lower()
    missing = "could not find" in text or "does not exist" in text
    return error.code == "ResourceNotFound" or (error.code.startswith("Validation") and missing)


def find(session: Session, endpoint: str) -> Description | None:
    """The answer of DescribeEndpoint, or None where there is no such endpoint."""
    return _or_none(session.client("sagemaker").describe_endpoint, EndpointName=endpoint)


def find_config(session: Session, name: str) -> Description | None:
    """The answer of DescribeEndpointConfig, or None where the configuration was deleted."""
    return _or_none(session.client("sagemaker").describe_endpoint_config, EndpointConfigName=name)


def existing(session: Session, endpoint: str) -> Description:
    """The answer of DescribeEndpoint; raises `CloudError` where there is no such endpoint."""
    description = find(session, endpoint)
    if description is None:
        raise CloudError(
            f"There is no endpoint {endpoint!r}: 'ncf sagemaker endpoints' lists the existing ones."
        )
    return description


def own(session: Session, endpoint: str) -> Description:
    """As `existing`; raises `CloudError` also where the endpoint is another project's."""
    description = existing(session, endpoint)
    check_own(session, description)
    return description


def check_own(session: Session, description: Description) -> None:
    """Raise `CloudError` for an endpoint that does not carry this project's tag."""
    if tags_of(session, description["EndpointArn"]).get(TAG) != session.project:
        raise CloudError(
            f"The endpoint {description['EndpointName']!r} does not belong to project {session.project!r} "
            "and is left alone: give --project, or another --name."
        )


def tags_of(session: Session, arn: str) -> dict[str, str]:
    """The tags of a resource of SageMaker."""
    tags = entries(session.client("sagemaker"), "list_tags", "Tags", ResourceArn=arn)
    return {tag["Key"]: tag["Value"] for tag in tags}


def new_part(session: Session, endpoint: str) -> str:
    """A new name for a model or configuration of the endpoint."""
    prefix = () if endpoint.startswith(session.project) else (session.project,)
    return names.new_name(*prefix, endpoint)


def configs_of(session: Session, endpoint: str) -> list[Description]:
    """Every configuration that was made for the endpoint, the oldest first."""
    client = session.client("sagemaker")
    found = _tagged(session, endpoint, "list_endpoint_configs", "EndpointConfig")
    return [client.describe_endpoint_config(EndpointConfigName=name) for name in found]


def models_of(session: Session, endpoint: str) -> list[str]:
    """The names of all models that were made for the endpoint, the oldest first."""
    return _tagged(session, endpoint, "list_models", "Model")


def _tagged(session: Session, endpoint: str, operation: str, noun: str) -> list[str]:
    """Names of models or configurations with the endpoint's tag, the oldest first: names end in a time."""
    stem = new_part(session, endpoint)[:-_STAMP]
    wanted = {TAG: session.project, ENDPOINT_TAG: endpoint}
    summaries = entries(session.client("sagemaker"), operation, f"{noun}s", NameContains=stem)
    return sorted(
        summary[f"{noun}Name"]
        for summary in summaries
        if summary[f"{noun}Name"].startswith(stem)
        and wanted.items() <= tags_of(session, summary[f"{noun}Arn"]).items()
    )


def settle(session: Session, endpoint: str, progress: EndpointProgress) -> Description | None:
    """Wait until the endpoint stops changing; returns its description, or None once it is gone.

    Transient errors (throttling, a short loss of the network) are waited out. Raises `CloudError` with code
    `Timeout` after the patience of `progress`.
    """
    last = ""

    def look() -> Description | None:
        nonlocal last
        description = find(session, endpoint)
        status = str(description["EndpointStatus"]) if description else ""
        if status in MOVING and status != last:
            progress.log(f"{endpoint}: {status} …")
            last = status
        return description

    try:
        return wait_until(
            look,
            lambda description: description is None or description["EndpointStatus"] not in MOVING,
            patience=progress.patience,
            faults=_TRIES,
            sleep=progress.sleep,
        )
    except TimeoutError:
        raise CloudError(
            f"The endpoint {endpoint} is still {last or 'changing'} after {progress.patience / 60:.0f} "
            f"minutes; SageMaker continues: 'ncf sagemaker describe {endpoint}' shows it.",
            "Timeout",
        ) from None


def summaries(session: Session) -> list[Summary]:
    """This project's endpoints, the newest first."""
    listed = entries(session.client("sagemaker"), "list_endpoints", "Endpoints")
    ours = [entry for entry in listed if tags_of(session, entry["EndpointArn"]).get(TAG) == session.project]
    return [summary(session, own(session, entry["EndpointName"])) for entry in ours]


def summary(session: Session, endpoint: Description) -> Summary:
    """The summary of an endpoint that DescribeEndpoint has described."""
    name = endpoint["EndpointName"]
    config = find_config(session, endpoint["EndpointConfigName"]) or {"ProductionVariants": [{}]}
    variant, running = config["ProductionVariants"][0], (endpoint.get("ProductionVariants") or [{}])[0]
    count = running.get("CurrentInstanceCount", variant.get("InitialInstanceCount", 0))
    instance, hourly = _instance(variant, count)
    model, variant_name, arn = (
        variant.get("ModelName"),
        variant.get("VariantName"),
        config.get("EndpointConfigArn"),
    )
    described = _or_none(session.client("sagemaker").describe_model, ModelName=model) if model else None
    container = (described or {}).get("PrimaryContainer", {})
    scaling = autoscaling.find(session, name, variant_name) if variant_name else None
    limits = scaling.target if scaling else None
    return Summary(
        name=name, status=endpoint["EndpointStatus"], instance=instance,
        since=endpoint["LastModifiedTime"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"), hourly=hourly,
        config=endpoint["EndpointConfigName"], before=tags_of(session, arn).get(BEFORE_TAG) if arn else None,
        model=model, image=container.get("Image"), model_uri=container.get("ModelDataUrl"),
        asynchronous="AsyncInferenceConfig" in config, capture=_capture(endpoint.get("DataCaptureConfig")),
        scaling=f"{limits['MinCapacity']} to {limits['MaxCapacity']} instances" if limits else None,
        reason=endpoint.get("FailureReason"),
    )  # fmt: skip


def cost(hosting: Hosting, most: int | None = None) -> Estimate:
    """The largest cost of an endpoint; `most` is the largest number of instances with autoscaling."""
    if hosting.serverless_mb is None:
        return estimate(hosting.instance_type, "hosting", most or hosting.instance_count)
    what = (
        f"serverless {hosting.serverless_mb} MB, billed while it computes, {hosting.max_concurrency} "
        "requests at once without a pause"
    )
    return Estimate(what, 3600 * hosting.max_concurrency * serverless_second(hosting.serverless_mb), None)


def _or_none(describe: Callable[..., Description], **key: str) -> Description | None:
    try:
        return describe(**key)
    except CloudError as error:
        if not is_absent(error):
            raise
        return None


def _instance(variant: Description, count: int) -> tuple[str | None, float | None]:
    """What a variant runs on, and US dollars an hour."""
    if serverless := variant.get("ServerlessConfig"):
        return f"serverless {serverless['MemorySizeInMB']} MB", 0.0
    if "InstanceType" not in variant:
        return None, None
    estimated = estimate(variant["InstanceType"], "hosting", count)
    return estimated.what, estimated.hourly


def _capture(config: Description | None) -> str | None:
    if not config or not config.get("EnableCapture"):
        return None
    return f"{config['CurrentSamplingPercentage']} % to {config['DestinationS3Uri']}"
