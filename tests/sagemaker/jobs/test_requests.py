"""Training requests, judged by AWS's own model of the service."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ncf.errors import ConfigError
from ncf.sagemaker.container.environment import read_job
from ncf.sagemaker.container.hyperparameters import from_hyperparameters
from ncf.sagemaker.jobs.requests import TrainingOptions, training_request
from ncf.sagemaker.session import Session, Settings
from programs import judged, session_of
from support import experiment

OPTIONS = TrainingOptions(
    "ncf-job", data="s3://mine/ncf/data/d1", image="012345678901.dkr.ecr.us-east-1.amazonaws.com/ncf:1"
)


def request_of(options: TrainingOptions = OPTIONS, **settings: Any) -> dict[str, Any]:
    """The request, which AWS's model of the service must take."""
    return judged("CreateTrainingJob", training_request(session_of(**settings), experiment(), options))


def test_the_usual_job() -> None:
    request = request_of()
    assert request["TrainingJobName"] == "ncf-job"
    assert request["OutputDataConfig"] == {"S3OutputPath": "s3://mine/ncf/jobs"}
    assert request["CheckpointConfig"]["S3Uri"] == "s3://mine/ncf/jobs/ncf-job/checkpoints"
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}
    assert [one["ChannelName"] for one in request["InputDataConfig"]] == ["train"]
    assert request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] == "s3://mine/ncf/data/d1/"
    assert {"Key": "ncf:project", "Value": "ncf"} in request["Tags"]
    assert "EnableManagedSpotTraining" not in request
    assert "VpcConfig" not in request


def test_the_hyperparameters_are_the_experiment() -> None:
    assert from_hyperparameters(request_of()["HyperParameters"]) == experiment()


def test_the_console_sees_hr_and_ndcg() -> None:
    names = [one["Name"] for one in request_of()["AlgorithmSpecification"]["MetricDefinitions"]]
    assert {"validation_hr@10", "validation_ndcg@10", "test_hr@10", "test_ndcg@10", "loss"} <= set(names)


def test_spot() -> None:
    request = request_of(replace(OPTIONS, spot=True, max_run=100))
    assert request["EnableManagedSpotTraining"] is True
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 3700}
    request = request_of(
        replace(OPTIONS, spot=True, max_run=100, max_wait=100, checkpoints="s3://other/place")
    )
    assert request["StoppingCondition"]["MaxWaitTimeInSeconds"] == 100
    assert request["CheckpointConfig"]["S3Uri"] == "s3://other/place"


def test_a_warm_pool_several_instances_and_a_larger_volume() -> None:
    request = request_of(replace(OPTIONS, keep_alive=600, instance_count=2, volume_gb=100))
    assert request["ResourceConfig"] == {
        "InstanceType": "ml.c7i.xlarge",
        "InstanceCount": 2,
        "VolumeSizeInGB": 100,
        "KeepAlivePeriodInSeconds": 600,
    }


def test_halves_to_fuse_are_a_channel() -> None:
    request = request_of(replace(OPTIONS, pretrained="s3://mine/ncf/pretrained/x"))
    assert [one["ChannelName"] for one in request["InputDataConfig"]] == ["train", "pretrained"]


def test_script_mode_tells_the_toolkit_where_the_source_is() -> None:
    request = request_of(replace(OPTIONS, code="s3://mine/ncf/code/c/sourcedir.tar.gz"))
    assert request["HyperParameters"]["sagemaker_program"] == '"train.py"'
    assert (
        request["HyperParameters"]["sagemaker_submit_directory"] == '"s3://mine/ncf/code/c/sourcedir.tar.gz"'
    )
    assert from_hyperparameters(request["HyperParameters"]) == experiment()


def test_vpc_and_key() -> None:
    key = "arn:aws:kms:us-east-1:012345678901:key/k"
    request = request_of(kms_key=key, subnets=("subnet-1",), security_groups=("sg-1", "sg-2"))
    assert request["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1", "sg-2"]}
    assert request["OutputDataConfig"]["KmsKeyId"] == request["ResourceConfig"]["VolumeKmsKeyId"] == key


def test_an_instance_with_disks_of_its_own_takes_no_volume_key() -> None:
    request = request_of(replace(OPTIONS, instance_type="ml.g5.xlarge"), kms_key="k")
    assert request["OutputDataConfig"]["KmsKeyId"] == "k"
    assert "VolumeKmsKeyId" not in request["ResourceConfig"]


def test_half_a_vpc_is_refused() -> None:
    with pytest.raises(ConfigError, match="both --subnet and --security-group"):
        request_of(subnets=("subnet-1",))


def test_tags_and_variables() -> None:
    request = request_of(
        replace(OPTIONS, environment={"MLFLOW_TRACKING_URI": "https://m"}), tags={"team": "search"}
    )
    assert {"Key": "team", "Value": "search"} in request["Tags"]
    assert request["Environment"] == {"MLFLOW_TRACKING_URI": "https://m"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"instance_count": 0}, "1 or more"),
        ({"max_run": 0}, "1 or more"),
        ({"max_wait": 100}, "only applies to --spot"),
        ({"spot": True, "max_run": 100, "max_wait": 99}, "at least --max-run"),
        ({"spot": True, "keep_alive": 60}, "cannot be kept warm"),
        ({"keep_alive": 100_000}, "--keep-alive takes"),
    ],
)
def test_what_sagemaker_would_refuse_is_refused_here(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        replace(OPTIONS, **change)


def test_local_mode_gets_the_same_request_with_folders(tmp_path: Path) -> None:
    session = Session(Settings(local=True, home=tmp_path / "home"))
    request = training_request(session, experiment(), replace(OPTIONS, data=session.uri("data", "d1")))
    assert request.keys() == request_of().keys()
    assert request["OutputDataConfig"]["S3OutputPath"] == f"file://{tmp_path}/home/storage/jobs"
    assert request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"].startswith("file:///")


def test_the_container_reads_what_the_request_says(tmp_path: Path) -> None:
    import json

    request = request_of(replace(OPTIONS, code="s3://mine/code.tar.gz"))
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(request["HyperParameters"]))
    (tmp_path / "input" / "data" / "train").mkdir(parents=True)
    (tmp_path / "input" / "data" / "train" / "dataset.json").write_text("{}")
    assert read_job(tmp_path).experiment == experiment()
