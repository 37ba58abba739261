"""Requests as the SDK's local mode wants them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncf.errors import CloudError
from ncf.sagemaker.local import sdk

Training = Callable[..., dict[str, Any]]


def channel(name: str, uri: str) -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}


def test_files_become_file_sources_and_results_stay_below_the_root(
    training: Training, tmp_path: Path
) -> None:
    asked = sdk.training_request(training("a", InputDataConfig=[channel("train", f"file://{tmp_path}")]))
    assert asked["InputDataConfig"][0]["DataSource"] == {
        "FileDataSource": {"FileDataDistributionType": "FullyReplicated", "FileUri": f"file://{tmp_path}"}
    }
    assert asked["OutputDataConfig"] == {"S3OutputPath": ""}
    assert asked["ResourceConfig"] == {"InstanceType": "local", "InstanceCount": 1}


def test_s3_stays_as_it_is(training: Training) -> None:
    given = channel("train", "s3://bucket/data")
    assert sdk.training_request(training("a", InputDataConfig=[given]))["InputDataConfig"] == [given]


def test_the_checkpoint_folder_becomes_a_channel_and_is_made(training: Training, tmp_path: Path) -> None:
    request = training("a", CheckpointConfig={"S3Uri": f"file://{tmp_path}/kept"})
    asked = sdk.training_request(request)["InputDataConfig"]
    assert [one["ChannelName"] for one in asked] == ["checkpoints"]
    assert (tmp_path / "kept").is_dir()
    assert sdk.written_by_containers(request) == [tmp_path / "kept"]


def test_a_channel_of_that_name_goes_before_it(training: Training, tmp_path: Path) -> None:
    own = [channel("checkpoints", f"file://{tmp_path}/own")]
    request = training("a", InputDataConfig=own, CheckpointConfig={"S3Uri": f"file://{tmp_path}/kept"})
    assert sdk.written_by_containers(request) == [tmp_path / "own"]


def test_a_channel_that_is_not_there_is_said(training: Training, tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="The channel 'train' is not there"):
        sdk.training_request(training("a", InputDataConfig=[channel("train", f"file://{tmp_path}/none")]))


def test_arguments_go_to_the_program_of_the_image(program: Callable[[str, str], Path]) -> None:
    program("docker", """echo '["ncf"]'""")
    asked = sdk.processing_request(
        {
            "ProcessingJobName": "p",
            "AppSpecification": {"ImageUri": "ncf:local", "ContainerArguments": ["prepare"]},
            "ProcessingResources": {"ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1}},
            "ProcessingOutputConfig": {
                "Outputs": [
                    {"OutputName": "o", "S3Output": {"S3Uri": "file:///o", "S3UploadMode": "Continuous"}}
                ]
            },
        }
    )
    assert asked["AppSpecification"] == {"ImageUri": "ncf:local", "ContainerEntrypoint": ["ncf", "prepare"]}
    assert asked["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3UploadMode"] == "EndOfJob"
