"""Requests for hosting are such as AWS's own model of its service admits."""

from typing import Any

import pytest

from ncf.errors import ConfigError
from ncf.sagemaker.endpoints.requests import (
    Hosting,
    config_request,
    environment,
    model_request,
    update_request,
)
from ncf.sagemaker.local.requests import refusal
from ncf.sagemaker.session import Session, Settings

ROLE = "arn:aws:iam::123456789012:role/ncf"
KINDS = {
    "real-time": Hosting(instance_count=3, workers=2, variant="blue"),
    "serverless": Hosting(serverless_mb=2048, max_concurrency=5),
    "asynchronous": Hosting(asynchronous=True, output_prefix="s3://other/answers/"),
    "asynchronous, below the project": Hosting(asynchronous=True),
    "captured": Hosting(capture=20),
    "canary": Hosting(traffic="canary", step=20, pause=300, alarms=("errors", "latency")),
    "linear": Hosting(traffic="linear"),
    "AWS's image": Hosting(aws_image=True, workers=2),
}
every_kind = pytest.mark.parametrize("hosting", KINDS.values(), ids=KINDS.keys())


def session(**more: Any) -> Session:
    one = Session(Settings(**{"project": "films", "role": ROLE, "region": "eu-west-1", "bucket": "b"} | more))
    one.__dict__["bucket"] = "b"
    return one


def config(hosting: Hosting, before: str | None = None, **more: Any) -> dict[str, Any]:
    return config_request(session(**more), "films-1", "films", "films-1", hosting, before)


@every_kind
@pytest.mark.parametrize("kms_key", [None, "arn:aws:kms:eu-west-1:123456789012:key/1"], ids=["plain", "KMS"])
def test_aws_admits_every_request(hosting: Hosting, kms_key: str | None) -> None:
    hosting.check()
    own = session(kms_key=kms_key, tags={"team": "search"})
    requests = {
        "CreateModel": model_request(own, "films-1", "films", "1.dkr/ncf:1", "s3://b/m.tar.gz", hosting),
        "CreateEndpointConfig": config_request(own, "films-1", "films", "films-1", hosting, "films-0"),
        "UpdateEndpoint": update_request("films", "films-1", hosting, keep_capacity=True),
    }
    assert {name: refusal("sagemaker", name, request) for name, request in requests.items()} == dict.fromkeys(
        requests
    )


@every_kind
def test_everything_that_is_made_is_tagged(hosting: Hosting) -> None:
    made = [config(hosting), model_request(session(), "films-1", "films", "i", "s3://b/m", hosting)]
    for request in made:
        tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        assert tags == {"ncf:project": "films", "ncf:endpoint": "films"}


def test_a_configuration_names_its_predecessor() -> None:
    assert {"Key": "ncf:before", "Value": "films-0"} in config(Hosting(), "films-0")["Tags"]


def test_instances_are_given_time_to_start_and_serverless_ones_have_no_such_setting() -> None:
    (real,), (serverless,) = (
        config(KINDS[kind])["ProductionVariants"] for kind in ("real-time", "serverless")
    )
    assert (real["InitialInstanceCount"], real["ContainerStartupHealthCheckTimeoutInSeconds"]) == (3, 300)
    assert serverless["ServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 5}
    assert not {"InstanceType", "InitialInstanceCount", "ContainerStartupHealthCheckTimeoutInSeconds"} & set(
        serverless
    )


def test_capture_goes_below_the_project() -> None:
    capture = config(Hosting(capture=20))["DataCaptureConfig"]
    assert (capture["DestinationS3Uri"], capture["InitialSamplingPercentage"]) == (
        "s3://b/films/capture/films",
        20,
    )


def test_answers_of_an_asynchronous_endpoint_go_where_it_was_said() -> None:
    assert (
        config(KINDS["asynchronous"])["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"]
        == "s3://other/answers"
    )


def test_a_key_encrypts_the_volume_the_capture_and_the_answers() -> None:
    assert config(Hosting(capture=1), kms_key="k")["KmsKeyId"] == "k"
    assert config(Hosting(capture=1), kms_key="k")["DataCaptureConfig"]["KmsKeyId"] == "k"
    assert (
        config(Hosting(asynchronous=True), kms_key="k")["AsyncInferenceConfig"]["OutputConfig"]["KmsKeyId"]
        == "k"
    )
    assert "KmsKeyId" not in config(KINDS["serverless"], kms_key="k")


def test_a_vpc_is_passed_on_whole_or_not_at_all() -> None:
    both = session(subnets=("subnet-1",), security_groups=("sg-1",))
    made = model_request(both, "films-1", "films", "i", "s3://b/m", Hosting())
    assert made["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    with pytest.raises(ConfigError, match="needs both --subnet and --security-group"):
        model_request(session(subnets=("subnet-1",)), "films-1", "films", "i", "s3://b/m", Hosting())
    with pytest.raises(ConfigError, match="Serverless endpoints have no VPC"):
        model_request(both, "films-1", "films", "i", "s3://b/m", KINDS["serverless"])


def test_the_toolkit_of_aws_is_told_where_the_code_is() -> None:
    told = environment(Hosting(aws_image=True, workers=3), "eu-west-1")
    assert told == {
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        "SAGEMAKER_CONTAINER_LOG_LEVEL": "20",
        "SAGEMAKER_REGION": "eu-west-1",
        "SAGEMAKER_MODEL_SERVER_WORKERS": "3",
    }
    assert environment(Hosting(workers=3), "eu-west-1") == {"NCF_WORKERS": "3"}
    assert environment(Hosting(), "eu-west-1") == {}


def test_an_update_moves_traffic_as_asked_and_keeps_what_autoscaling_made() -> None:
    plain = update_request("films", "films-1", Hosting(), keep_capacity=False)
    routing = plain["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing["Type"] == "ALL_AT_ONCE"
    assert "RetainAllVariantProperties" not in plain
    canary = update_request("films", "films-1", KINDS["canary"], keep_capacity=True)
    routing = canary["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing["CanarySize"] == {"Type": "CAPACITY_PERCENT", "Value": 20}
    assert canary["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"] == [
        {"AlarmName": "errors"}, {"AlarmName": "latency"},
    ]  # fmt: skip
    assert canary["RetainAllVariantProperties"] is True


@pytest.mark.parametrize(
    ("hosting", "sentence"),
    [
        (Hosting(serverless_mb=1000), "1024, 2048"),
        (Hosting(serverless_mb=2048, asynchronous=True), "either serverless or asynchronous"),
        (Hosting(serverless_mb=2048, capture=5), "cannot record requests"),
        (Hosting(serverless_mb=2048, traffic="canary"), "replaced at once"),
        (Hosting(asynchronous=True, capture=5), "leave out --capture"),
        (Hosting(output_prefix="s3://b/x"), "add --async"),
        (Hosting(asynchronous=True, output_prefix="answers"), "an address in S3"),
        (Hosting(capture=0), "--capture must be between 1 and 100, and not 0"),
        (Hosting(instance_count=0), "--instance-count must be at least 1"),
        (Hosting(workers=0), "--workers must be at least 1"),
        (Hosting(traffic="linear", step=51), "--step must be between 1 and 50"),
        (Hosting(pause=3601), "--pause must be between 0 and 3600"),
    ],
)
def test_what_sagemaker_has_not_is_refused(hosting: Hosting, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        hosting.check()
