"""The commands of endpoints, as they are typed."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from aws import Aws
from ncf.sagemaker.endpoints.describe import EndpointProgress
from ncf.tracking.console import log
from sagemaker_hosting import IMAGE, left, ncf, sick_from_now_on


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints are looked at every 20 ms."""
    progress = EndpointProgress(log, lambda _: time.sleep(0.02))
    monkeypatch.setattr("ncf.cli.sagemaker.endpoints._progress", lambda: progress)


def deploy(aws: Aws, artifact: Path, *more: Any) -> tuple[int, str, str]:
    return ncf("sagemaker", "deploy", artifact, "--image", IMAGE, "--role", aws.role, "--yes", *more)


def test_from_deployment_to_deletion(aws: Aws, artifact: Path) -> None:
    code, out, said = deploy(aws, artifact)
    assert (code, out.startswith("ncf is new: InService, configuration ncf-")) == (0, True)
    assert "Cost: 1 x ml.c7i.large: $" in said
    assert "an hour" in said
    assert "a month" in said
    code, out, _ = deploy(aws, artifact, "--json")
    second = json.loads(out)
    assert (code, second["created"], second["status"]) == (0, False, "InService")

    code, out, _ = ncf("sagemaker", "endpoints", "--json")
    (listed,) = json.loads(out)["endpoints"]
    assert (listed["name"], listed["config"], listed["instance"]) == (
        "ncf",
        second["config"],
        "1 x ml.c7i.large",
    )
    code, out, _ = ncf("sagemaker", "endpoints")
    assert (code, "InService" in out, "1 x ml.c7i.large" in out) == (0, True, True)
    code, out, _ = ncf("sagemaker", "describe")
    assert (code, second["config"] in out, IMAGE in out) == (0, True, True)

    code, out, _ = ncf("sagemaker", "rollback")
    assert (code, out) == (0, f"ncf serves again with configuration {listed['before']}.\n")
    code, out, _ = ncf("sagemaker", "describe", "--json")
    assert json.loads(out)["config"] == listed["before"]

    code, out, _ = ncf("sagemaker", "delete", "--yes")
    assert (code, out.splitlines()[0]) == (0, "Deleted: endpoint ncf")
    assert left(aws) == []
    code, out, _ = ncf("sagemaker", "delete", "--yes")
    assert (code, out) == (0, "There is no endpoint ncf, and nothing that belongs to it.\n")
    code, out, _ = ncf("sagemaker", "endpoints")
    assert (code, out) == (0, "Project ncf has no endpoint.\n")


def test_deletion_asks(aws: Aws, artifact: Path) -> None:
    deploy(aws, artifact)
    code, _, said = ncf("sagemaker", "delete", typed="n\n")
    assert (code, "Delete ncf with its configurations, models and log?" in said) == (1, True)
    assert len(left(aws)) == 3
    assert ncf("sagemaker", "delete", typed="y\n")[0] == 0
    assert left(aws) == []


def test_a_limit_of_cost_starts_and_makes_nothing(aws: Aws, artifact: Path) -> None:
    code, _, said = deploy(aws, artifact, "--max-cost", 1)
    assert (code, "Nothing was started" in said) == (1, True)
    code, _, said = deploy(aws, artifact, "--autoscale", "1:4", "--max-cost", 100)
    assert (code, "4 x ml.c7i.large" in said) == (1, True)
    assert left(aws) == []
    assert not aws.calls("PutObject")


def test_every_option_arrives(aws: Aws, artifact: Path) -> None:
    code, _, said = deploy(
        aws,
        artifact,
        "--name",
        "films",
        "--instance-type",
        "ml.m7i.large",
        "--instance-count",
        2,
        "--workers",
        3,
        "--capture",
        10,
        "--autoscale",
        "2:5",
        "--invocations-per-instance",
        70,
        "--variant",
        "blue",
        "--kms-key",
        "key",
        "--subnet",
        "subnet-1",
        "--security-group",
        "sg-1",
        "--tag",
        "team=search",
        "--project",
        "movies",
    )
    assert code == 0, said
    config, model = aws.records("EndpointConfig")[0], aws.records("Model")[0]
    (variant,) = config.request["ProductionVariants"]
    assert (variant["InstanceType"], variant["InitialInstanceCount"], variant["VariantName"]) == (
        "ml.m7i.large",
        2,
        "blue",
    )
    assert (config.request["KmsKeyId"], config.request["DataCaptureConfig"]["InitialSamplingPercentage"]) == (
        "key",
        10,
    )
    assert (model.request["VpcConfig"], model.name[:13]) == (
        {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}, "movies-films-",
    )  # fmt: skip
    assert model.tags == {"ncf:project": "movies", "ncf:endpoint": "films", "team": "search"}
    tracking = aws.calls("PutScalingPolicy")[0].parameters["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["TargetValue"] == 70
    assert ncf("sagemaker", "delete", "films", "--project", "movies", "--yes")[0] == 0
    assert left(aws) == []


def test_kinds_of_endpoints(aws: Aws, artifact: Path) -> None:
    assert deploy(aws, artifact, "--name", "less", "--serverless", 2048, "--max-concurrency", 3)[0] == 0
    assert (
        deploy(aws, artifact, "--name", "later", "--async", "--output-prefix", "s3://other/answers")[0] == 0
    )
    one, other = (record.request for record in aws.records("EndpointConfig"))
    assert one["ProductionVariants"][0]["ServerlessConfig"] == {"MemorySizeInMB": 2048, "MaxConcurrency": 3}
    assert other["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"] == "s3://other/answers"
    assert "0 at rest" in ncf("sagemaker", "endpoints")[1]
    assert "asynchronous   yes" in ncf("sagemaker", "describe", "later")[1]


def test_an_endpoint_that_is_not_healthy_is_a_sentence_and_its_log(
    aws: Aws, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws._set(said=["[ncf] It is broken."])
    sick_from_now_on(aws)
    code, out, said = deploy(aws, artifact)
    assert (code, out, left(aws)) == (1, "", [])
    assert "  [ncf] It is broken." in said.splitlines()
    deploy(aws, artifact, "--no-wait")
    code, out, _ = ncf("sagemaker", "describe")
    assert (code, "Failed" in out, "  [ncf] It is broken." in out.splitlines()) == (0, True, True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--invocations-per-instance", "5"], "belongs to --autoscale"),
        (["--autoscale", "4"], "--autoscale takes MIN:MAX"),
        (["--serverless", "1000"], "--serverless takes 1024"),
        (["--subnet", "subnet-1"], "needs both --subnet and --security-group"),
        (["--tag", "team"], "--tag takes key=value"),
        (["--local", "--capture", "5"], "Local mode has no --capture"),
    ],
)
def test_mistakes_are_sentences_before_anything_is_made(
    aws: Aws, artifact: Path, options: list[str], sentence: str
) -> None:
    code, _, said = deploy(aws, artifact, *options)
    assert (code, sentence in said) == (1, True)
    assert left(aws) == []


@pytest.mark.parametrize("command", ["describe", "rollback", "invoke"])
def test_an_endpoint_that_is_not_there(aws: Aws, command: str) -> None:
    more = ["--user", "1"] if command == "invoke" else []
    code, _, said = ncf("sagemaker", command, "none", *more)
    assert (code, "There is no endpoint 'none'" in said) == (1, True)
