"""Jobs through the client, with workers that pretend."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.local import SageMaker
from processes import wait_until

Training = Callable[..., dict[str, Any]]


def status(client: SageMaker, name: str) -> str:
    return str(client.describe_training_job(TrainingJobName=name)["TrainingJobStatus"])


def test_a_job_goes_on_by_itself_until_it_is_completed(client: SageMaker, training: Training) -> None:
    made = client.create_training_job(**training("a-quick", HyperParameters={"x": "1"}))
    assert made["TrainingJobArn"].endswith(":training-job/a-quick")
    wait_until(lambda: status(client, "a-quick") == "Completed")
    job = client.describe_training_job(TrainingJobName="a-quick")
    assert job["HyperParameters"] == {"x": "1"}
    assert job["ModelArtifacts"] == {"S3ModelArtifacts": "file:///somewhere/model.tar.gz"}
    assert [one["Status"] for one in job["SecondaryStatusTransitions"]] == [
        "Starting",
        "Training",
        "Completed",
    ]
    assert [(one["MetricName"], one["Value"]) for one in job["FinalMetricDataList"]] == [("loss", 0.25)]
    assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"]
    assert "FailureReason" not in job
    assert "Tags" not in job


def test_another_client_sees_and_stops_it(client: SageMaker, training: Training, home: Path) -> None:
    client.create_training_job(**training("a"))
    wait_until(lambda: "TrainingStartTime" in client.describe_training_job(TrainingJobName="a"))
    other = SageMaker(home, "eu-west-1")
    other.stop_training_job(TrainingJobName="a")
    wait_until(lambda: status(client, "a") == "Stopped")
    with pytest.raises(ClientError, match="is in status Stopped"):
        client.stop_training_job(TrainingJobName="a")


def test_a_name_is_used_once(client: SageMaker, training: Training) -> None:
    client.create_training_job(**training("a-quick"))
    with pytest.raises(ClientError) as caught:
        client.create_training_job(**training("a-quick"))
    assert caught.value.response["Error"]["Code"] == "ResourceInUse"


@pytest.mark.parametrize(
    ("call", "key", "said"),
    [
        ("describe_training_job", "TrainingJobName", "Requested resource not found"),
        ("stop_training_job", "TrainingJobName", "Requested resource not found"),
        ("describe_transform_job", "TransformJobName", "Could not find requested job with name: none"),
        ("describe_processing_job", "ProcessingJobName", "Could not find requested job with name: none"),
        ("describe_model", "ModelName", "Could not find model .*:model/none"),
        ("describe_endpoint_config", "EndpointConfigName", "Could not find endpoint configuration"),
        ("delete_model", "ModelName", "Could not find model"),
        ("describe_endpoint", "EndpointName", "Could not find endpoint .*:endpoint/none"),
        ("delete_endpoint", "EndpointName", "Could not find endpoint"),
    ],
)
def test_unknown_names_are_refused_as_by_aws(client: SageMaker, call: str, key: str, said: str) -> None:
    with pytest.raises(ClientError, match=said) as caught:
        getattr(client, call)(**{key: "none"})
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_lists_are_filtered_sorted_and_in_pages(client: SageMaker, training: Training) -> None:
    for name in ("b-quick", "a-quick", "c-slow"):
        client.create_training_job(**training(name))
        wait_until(lambda name=name: status(client, name) == "Completed" or name == "c-slow")  # type: ignore[misc]

    def names(**asked: Any) -> list[str]:
        pages = client.get_paginator("list_training_jobs").paginate(**asked)
        return [one["TrainingJobName"] for page in pages for one in page["TrainingJobSummaries"]]

    assert names() == ["c-slow", "a-quick", "b-quick"]
    assert names(SortBy="Name", SortOrder="Ascending", MaxResults=1) == ["a-quick", "b-quick", "c-slow"]
    assert names(StatusEquals="Completed", NameContains="B-") == ["b-quick"]
    now = client.describe_training_job(TrainingJobName="a-quick")["CreationTime"]
    assert names(CreationTimeAfter=now) == ["c-slow"]
    assert len(client.list_training_jobs(MaxResults=2)["TrainingJobSummaries"]) == 2


def test_tags_are_kept_and_added(client: SageMaker, training: Training) -> None:
    arn = client.create_training_job(**training("a-quick"))["TrainingJobArn"]
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": "search"}])
    tags = {one["Key"]: one["Value"] for one in client.list_tags(ResourceArn=arn)["Tags"]}
    assert tags == {"ncf:project": "ncf", "team": "search"}
    with pytest.raises(ClientError, match="Could not find the resource"):
        client.list_tags(ResourceArn=arn.replace("a-quick", "b"))


def test_a_transform_job_needs_its_model(client: SageMaker, config: Callable[..., str]) -> None:
    request: dict[str, Any] = {
        "TransformJobName": "t",
        "ModelName": "m",
        "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "file:///in"}}},
        "TransformOutput": {"S3OutputPath": "file:///out"},
        "TransformResources": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
    }
    with pytest.raises(ClientError, match="Could not find model"):
        client.create_transform_job(**request)
    config("m")
    with pytest.raises(ClientError, match="neither filters nor joins"):
        client.create_transform_job(**request, DataProcessing={"JoinSource": "Input"})
    client.create_transform_job(**request)
    assert client.describe_transform_job(TransformJobName="t")["TransformJobStatus"] == "InProgress"


def test_a_missing_image_is_said_before_anything_starts(
    client: SageMaker, training: Training, program: Callable[[str, str], Path]
) -> None:
    program("docker", '[ "$1" != image ]')
    with pytest.raises(CloudError, match="There is no image 'ncf:local'"):
        client.create_training_job(**training("a"))
    assert client.list_training_jobs()["TrainingJobSummaries"] == []


def test_a_call_that_local_mode_has_not_says_so(client: SageMaker) -> None:
    with pytest.raises(ConfigError, match="Local mode has no create_domain"):
        client.create_domain(DomainName="x")


def test_creating_returns_before_the_job_ends(client: SageMaker, training: Training) -> None:
    client.create_training_job(**training("slow"))
    time.sleep(0.2)
    assert status(client, "slow") == "InProgress"
