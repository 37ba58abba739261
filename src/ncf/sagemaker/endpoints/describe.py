"""An endpoint as people and programs want to see it: one flat `Summary` from four calls, with its price."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.endpoints import autoscaling
from ncf.sagemaker.endpoints.requests import BEFORE_TAG, Hosting
from ncf.sagemaker.endpoints.state import Description, absent, config_named, own, tags_of
from ncf.sagemaker.paging import entries
from ncf.sagemaker.prices import Estimate, estimate, serverless_second
from ncf.sagemaker.session import TAG, Session


@dataclass(frozen=True)
class Summary:
    """What there is to know of an endpoint; None where it is not known or does not apply."""

    name: str
    status: str
    instance: str | None
    """`1 x ml.c7i.large`, `serverless 2048 MB`."""
    since: str
    """When it was changed last, in UTC."""
    hourly: float | None
    """US dollars an hour for what runs now; serverless ones cost nothing while nobody asks."""
    config: str
    before: str | None
    """The configuration that a rollback goes to."""
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
        """For `--json`."""
        return asdict(self)


def summaries(session: Session) -> list[Summary]:
    """This project's endpoints, the newest first."""
    listed = entries(session.client("sagemaker").list_endpoints, "Endpoints")
    ours = [one for one in listed if tags_of(session, one["EndpointArn"]).get(TAG) == session.project]
    return [summary(session, own(session, one["EndpointName"])) for one in ours]


def summary(session: Session, found: Description) -> Summary:
    """Of an endpoint as DescribeEndpoint has it."""
    config = config_named(session, found["EndpointConfigName"]) or {"ProductionVariants": [{}]}
    variant, running = config["ProductionVariants"][0], (found.get("ProductionVariants") or [{}])[0]
    count = running.get("CurrentInstanceCount", variant.get("InitialInstanceCount", 0))
    instance, hourly = _instance(variant, count)
    model = variant.get("ModelName")
    container = _container(session, model)
    return Summary(
        name=found["EndpointName"], status=found["EndpointStatus"], instance=instance,
        since=_utc(found["LastModifiedTime"]), hourly=hourly, config=found["EndpointConfigName"],
        before=_before(session, config), model=model, image=container.get("Image"),
        model_uri=container.get("ModelDataUrl"), asynchronous="AsyncInferenceConfig" in config,
        capture=_capture(found.get("DataCaptureConfig")),
        scaling=_scaling(session, found["EndpointName"], variant.get("VariantName")),
        reason=found.get("FailureReason"),
    )  # fmt: skip


def cost(hosting: Hosting, most: int | None = None) -> Estimate:
    """What an endpoint costs at most an hour and a month; `most` is the largest number of instances with autoscaling."""
    if hosting.serverless_mb is None:
        return estimate(hosting.instance_type, "hosting", most or hosting.instance_count)
    what = f"serverless {hosting.serverless_mb} MB, billed while it computes, {hosting.max_concurrency} at once without a pause"
    return Estimate(what, 3600 * hosting.max_concurrency * serverless_second(hosting.serverless_mb), None)


def _instance(variant: Description, count: int) -> tuple[str | None, float | None]:
    if serverless := variant.get("ServerlessConfig"):
        return f"serverless {serverless['MemorySizeInMB']} MB", 0.0
    kind = variant.get("InstanceType")
    if kind is None:
        return None, None
    estimated = estimate(kind, "hosting", count)
    return estimated.what, estimated.hourly


def _container(session: Session, model: str | None) -> dict[str, Any]:
    if model is None:
        return {}
    try:
        found: dict[str, Any] = session.client("sagemaker").describe_model(ModelName=model)[
            "PrimaryContainer"
        ]
    except CloudError as error:
        if absent(error):
            return {}
        raise
    return found


def _before(session: Session, config: Description) -> str | None:
    arn = config.get("EndpointConfigArn")
    return tags_of(session, arn).get(BEFORE_TAG) if arn else None


def _capture(config: Description | None) -> str | None:
    if not config or not config.get("EnableCapture"):
        return None
    return f"{config['CurrentSamplingPercentage']} % to {config['DestinationS3Uri']}"


def _scaling(session: Session, endpoint: str, variant: str | None) -> str | None:
    found = autoscaling.find(session, endpoint, variant) if variant else None
    return f"{found.target['MinCapacity']} to {found.target['MaxCapacity']} instances" if found else None


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
