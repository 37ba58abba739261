"""Autoscaling: a scalable target for a variant of an endpoint, with one target-tracking policy.

In: an endpoint, a variant, `Scaling`. Out: calls to Application Auto Scaling. Real-time variants track
SageMakerVariantInvocationsPerInstance (requests a minute); asynchronous ones the backlog of each instance.

The one decision worth knowing: an update keeps the scaling and the current number of instances where the
variant keeps its name and instance type. Where one of these changes, SageMaker refuses the update while the
target is registered. So it is deregistered, and registered again with its policies after the update or its
failure. Source: "Update endpoints that use auto scaling", SageMaker Developer Guide.
"""

from dataclasses import dataclass
from typing import Any

from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.session import Session

NAMESPACE = "sagemaker"
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_COOL_OUT, _COOL_IN = 60, 300
_POLICY_FIELDS = (
    "PolicyName", "PolicyType", "TargetTrackingScalingPolicyConfiguration", "StepScalingPolicyConfiguration",
)  # fmt: skip


@dataclass(frozen=True)
class Scaling:
    """The limits and the target of autoscaling."""

    least: int
    most: int
    target: float
    """Requests a minute for each instance; of an asynchronous endpoint waiting requests."""

    @classmethod
    def parse(cls, text: str, target: float) -> "Scaling":
        """The limits in `text`, `MIN:MAX`, with that target; raises `ConfigError` for other texts."""
        least, _, most = text.partition(":")
        if not (least.isdigit() and most.isdigit()) or not 1 <= int(least) <= int(most):
            raise ConfigError(f"--autoscale takes MIN:MAX, such as 1:4, and not {text!r}.")
        if target <= 0:
            raise ConfigError("--invocations-per-instance must be more than 0.")
        return cls(int(least), int(most), target)


@dataclass(frozen=True)
class Registered:
    """A scalable target and its policies as requests, by which they can be registered again."""

    target: dict[str, Any]
    policies: tuple[dict[str, Any], ...]

    @property
    def variant(self) -> str:
        """The name of the variant that it scales."""
        return str(self.target["ResourceId"].rsplit("/", 1)[1])


def target_request(endpoint: str, variant: str, scaling: Scaling) -> dict[str, Any]:
    """The request of RegisterScalableTarget."""
    return _resource(endpoint, variant) | {"MinCapacity": scaling.least, "MaxCapacity": scaling.most}


def policy_request(
    endpoint: str, variant: str, scaling: Scaling, asynchronous: bool = False
) -> dict[str, Any]:
    """The request of PutScalingPolicy."""
    metric: dict[str, Any] = {
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    }
    if asynchronous:
        metric = {
            "CustomizedMetricSpecification": {
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Namespace": "AWS/SageMaker",
                "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
                "Statistic": "Average",
            }
        }
    tracking = {"TargetValue": scaling.target, "ScaleOutCooldown": _COOL_OUT, "ScaleInCooldown": _COOL_IN}
    return _resource(endpoint, variant) | {
        "PolicyName": f"{endpoint}-{variant}",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": tracking | metric,
    }


def scale(
    session: Session, endpoint: str, variant: str, scaling: Scaling, asynchronous: bool = False
) -> None:
    """Register the target with this project's tags, and its policy; the endpoint must be in service."""
    client = session.client("application-autoscaling")
    request = target_request(endpoint, variant, scaling)
    if find(session, endpoint, variant) is None:
        request["Tags"] = {tag["Key"]: tag["Value"] for tag in session.tags()}
    client.register_scalable_target(**request)
    client.put_scaling_policy(**policy_request(endpoint, variant, scaling, asynchronous))


def find(session: Session, endpoint: str, variant: str) -> Registered | None:
    """What is registered for a variant, or None; local mode has no autoscaling."""
    try:
        client = session.client("application-autoscaling")
    except ConfigError:
        return None
    resource = _resource(endpoint, variant)
    targets = client.describe_scalable_targets(
        ServiceNamespace=NAMESPACE, ScalableDimension=DIMENSION, ResourceIds=[resource["ResourceId"]]
    )["ScalableTargets"]
    if not targets:
        return None
    target = resource | {name: targets[0][name] for name in ("MinCapacity", "MaxCapacity")}
    policies = client.describe_scaling_policies(**resource)["ScalingPolicies"]
    kept = ({name: policy[name] for name in _POLICY_FIELDS if policy.get(name)} for policy in policies)
    return Registered(target, tuple(resource | policy for policy in kept))


def register_again(session: Session, registered: Registered, variant: str) -> None:
    """Register again what was deregistered, for a variant that may have another name now."""
    client = session.client("application-autoscaling")
    endpoint = registered.target["ResourceId"].split("/")[1]
    now = _resource(endpoint, variant)
    tags = {tag["Key"]: tag["Value"] for tag in session.tags()}
    client.register_scalable_target(**registered.target | now, Tags=tags)
    for policy in registered.policies:
        client.put_scaling_policy(**policy | now)


def unregister(session: Session, endpoint: str, variant: str) -> bool:
    """Deregister the target and its policies; returns whether there was one."""
    if find(session, endpoint, variant) is None:
        return False
    try:
        session.client("application-autoscaling").deregister_scalable_target(**_resource(endpoint, variant))
    except CloudError as error:
        if error.code != "ObjectNotFoundException":
            raise
        return False
    return True


def _resource(endpoint: str, variant: str) -> dict[str, Any]:
    return {
        "ServiceNamespace": NAMESPACE,
        "ResourceId": f"endpoint/{endpoint}/variant/{variant}",
        "ScalableDimension": DIMENSION,
    }
