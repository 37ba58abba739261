"""As many instances as the requests need: a scalable target for a variant and one target-tracking policy on it.

In: an endpoint, a variant, `Scaling`. Out: calls to Application Auto Scaling. Real-time variants track
SageMakerVariantInvocationsPerInstance (requests a minute); asynchronous ones the backlog of each instance.

The one decision worth knowing: an update keeps the scaling as it is, with as many instances as there are, where the
variant keeps its name and instance type. Only where one of these changes does SageMaker refuse the update while the
target is registered; then it is taken away, and registered again with its policies after the update, or after its
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
    "PolicyName",
    "PolicyType",
    "TargetTrackingScalingPolicyConfiguration",
    "StepScalingPolicyConfiguration",
)


@dataclass(frozen=True)
class Scaling:
    """Between how many instances, and at how many requests a minute (or waiting requests) each."""

    least: int
    most: int
    target: float

    @classmethod
    def parse(cls, text: str, target: float) -> "Scaling":
        """From `MIN:MAX`; raises `ConfigError`."""
        least, _, most = text.partition(":")
        if not (least.isdigit() and most.isdigit()) or not 1 <= int(least) <= int(most):
            raise ConfigError(f"--autoscale takes MIN:MAX, such as 1:4, and not {text!r}.")
        if target <= 0:
            raise ConfigError("--invocations-per-instance must be more than 0.")
        return cls(int(least), int(most), target)


@dataclass(frozen=True)
class Registered:
    """A scalable target with its policies, as they can be registered again."""

    target: dict[str, Any]
    policies: tuple[dict[str, Any], ...]

    @property
    def variant(self) -> str:
        """The variant that it scales."""
        return str(self.target["ResourceId"].rsplit("/", 1)[1])


def target_request(endpoint: str, variant: str, scaling: Scaling) -> dict[str, Any]:
    """The request of register_scalable_target."""
    return _resource(endpoint, variant) | {"MinCapacity": scaling.least, "MaxCapacity": scaling.most}


def policy_request(
    endpoint: str, variant: str, scaling: Scaling, asynchronous: bool = False
) -> dict[str, Any]:
    """The request of put_scaling_policy."""
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
    """What is registered for a variant; None where nothing is, as in local mode, which has no autoscaling."""
    try:
        client = session.client("application-autoscaling")
    except ConfigError:
        return None
    resource = _resource(endpoint, variant)
    found = client.describe_scalable_targets(
        ServiceNamespace=NAMESPACE, ScalableDimension=DIMENSION, ResourceIds=[resource["ResourceId"]]
    )["ScalableTargets"]
    if not found:
        return None
    policies = client.describe_scaling_policies(**resource)["ScalingPolicies"]
    target = resource | {name: found[0][name] for name in ("MinCapacity", "MaxCapacity")}
    return Registered(target, tuple(resource | _kept(policy) for policy in policies))


def register_again(session: Session, registered: Registered, variant: str) -> None:
    """Register what was taken away, for a variant that may have another name."""
    client = session.client("application-autoscaling")
    endpoint = registered.target["ResourceId"].split("/")[1]
    now = _resource(endpoint, variant)
    tags = {tag["Key"]: tag["Value"] for tag in session.tags()}
    client.register_scalable_target(**registered.target | now, Tags=tags)
    for policy in registered.policies:
        client.put_scaling_policy(**policy | now)


def unregister(session: Session, endpoint: str, variant: str) -> bool:
    """Take the target away, and its policies with it; whether there was one."""
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


def _kept(policy: dict[str, Any]) -> dict[str, Any]:
    return {name: policy[name] for name in _POLICY_FIELDS if policy.get(name)}
