"""Autoscaling is registered with a policy, kept over updates, and gone with the endpoint."""

from pathlib import Path

import pytest

from aws import Aws
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.endpoints import autoscaling
from ncf.sagemaker.endpoints.autoscaling import Scaling, policy_request, target_request
from ncf.sagemaker.endpoints.outcome import delete
from ncf.sagemaker.endpoints.requests import Hosting
from ncf.sagemaker.local.requests import refusal
from ncf.sagemaker.session import Session, Settings
from sagemaker_hosting import deployed, hurried, sick_from_now_on

SCALING = Scaling(1, 4, 1000.0)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_aws_admits_the_requests(asynchronous: bool) -> None:
    service = "application-autoscaling"
    assert refusal(service, "RegisterScalableTarget", target_request("films", "AllTraffic", SCALING)) is None
    policy = policy_request("films", "AllTraffic", SCALING, asynchronous)
    assert refusal(service, "PutScalingPolicy", policy) is None


@pytest.mark.parametrize("text", ["4", "4:1", "0:2", "a:b", "1:", "1:2:3", "-1:2"])
def test_a_span_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--autoscale takes MIN:MAX"):
        Scaling.parse(text, 1.0)


def test_a_span_and_a_target() -> None:
    assert Scaling.parse("1:4", 1000.0) == SCALING
    with pytest.raises(ConfigError, match="must be more than 0"):
        Scaling.parse("1:4", 0.0)


def test_it_is_registered_when_the_endpoint_is_in_service(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    deployed(session, artifact, scaling=SCALING)
    found = autoscaling.find(session, "ncf", "AllTraffic")
    assert found is not None
    assert (found.target["MinCapacity"], found.target["MaxCapacity"]) == (1, 4)
    (policy,) = found.policies
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    metric = tracking["PredefinedMetricSpecification"]["PredefinedMetricType"]
    assert (tracking["TargetValue"], metric) == (1000.0, "SageMakerVariantInvocationsPerInstance")
    (call,) = aws.calls("RegisterScalableTarget")
    assert call.parameters["Tags"] == {"ncf:project": "ncf"}


def test_an_update_of_the_model_leaves_it_registered_and_keeps_the_capacity(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    deployed(session, artifact, scaling=SCALING)
    before = autoscaling.find(session, "ncf", "AllTraffic")
    deployed(session, artifact)
    assert autoscaling.find(session, "ncf", "AllTraffic") == before
    assert not aws.calls("DeregisterScalableTarget")
    assert aws.calls("UpdateEndpoint")[-1].parameters["RetainAllVariantProperties"] is True


def test_another_instance_type_needs_it_to_rest_meanwhile(aws: Aws, artifact: Path) -> None:
    session, said = aws.session(), []
    deployed(session, artifact, scaling=SCALING)
    before = autoscaling.find(session, "ncf", "AllTraffic")
    deployed(session, artifact, Hosting(instance_type="ml.c7i.xlarge"), progress=hurried(said))
    assert autoscaling.find(session, "ncf", "AllTraffic") == before
    assert "autoscaling is suspended" in " ".join(said)
    order = [call.operation for call in aws.calls()]
    rested, updated = order.index("DeregisterScalableTarget"), order.index("UpdateEndpoint")
    assert rested < updated < len(order) - 1 - order[::-1].index("RegisterScalableTarget")


def test_another_variant_takes_it_over(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    deployed(session, artifact, scaling=SCALING)
    deployed(session, artifact, Hosting(variant="green"))
    assert autoscaling.find(session, "ncf", "AllTraffic") is None
    taken = autoscaling.find(session, "ncf", "green")
    assert taken is not None
    assert (taken.variant, taken.target["MaxCapacity"], len(taken.policies)) == ("green", 4, 1)


@pytest.mark.parametrize("refused", [True, False], ids=["the update is refused", "the update fails"])
def test_it_is_as_before_after_a_failure(aws: Aws, artifact: Path, refused: bool) -> None:
    session = aws.session()
    deployed(session, artifact, scaling=SCALING)
    before = autoscaling.find(session, "ncf", "AllTraffic")
    if refused:
        aws.fail("UpdateEndpoint", "ResourceLimitExceeded")
    else:
        sick_from_now_on(aws)
    with pytest.raises(CloudError):
        deployed(session, artifact, Hosting(instance_type="ml.c7i.xlarge", variant="green"))
    assert autoscaling.find(session, "ncf", "AllTraffic") == before
    assert autoscaling.find(session, "ncf", "green") is None


def test_it_cannot_rest_without_waiting(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    deployed(session, artifact, scaling=SCALING)
    before = autoscaling.find(session, "ncf", "AllTraffic")
    with pytest.raises(ConfigError, match="leave out --no-wait"):
        deployed(session, artifact, Hosting(instance_type="ml.c7i.xlarge"), wait=False)
    assert autoscaling.find(session, "ncf", "AllTraffic") == before
    assert len(aws.records("EndpointConfig")) == len(aws.records("Model")) == 1


def test_it_goes_with_the_endpoint(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    deployed(session, artifact, scaling=SCALING)
    assert "autoscaling of ncf/AllTraffic" in delete(session, "ncf", progress=hurried())
    assert autoscaling.find(session, "ncf", "AllTraffic") is None


def test_the_backlog_is_what_an_asynchronous_endpoint_scales_by(aws: Aws, artifact: Path) -> None:
    session = aws.session()
    deployed(session, artifact, Hosting(asynchronous=True), scaling=Scaling(1, 2, 5.0))
    (policy,) = autoscaling.find(session, "ncf", "AllTraffic").policies  # type: ignore[union-attr]
    metric = policy["TargetTrackingScalingPolicyConfiguration"]["CustomizedMetricSpecification"]
    assert metric["MetricName"] == "ApproximateBacklogSizePerInstance"


def test_local_mode_has_none(tmp_path: Path) -> None:
    session = Session(Settings(local=True, home=tmp_path))
    assert autoscaling.find(session, "ncf", "AllTraffic") is None
    assert autoscaling.unregister(session, "ncf", "AllTraffic") is False
