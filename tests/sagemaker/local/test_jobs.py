"""Jobs of local mode through boto3's client, with workers that pretend; what the double's tests show is not
shown again.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.local import local_client, process
from ncf.sagemaker.local.plane import DIED, ControlPlane
from processes import wait_until

Training = Callable[..., dict[str, Any]]


def status(client: Any, name: str) -> str:
    return str(client.describe_training_job(TrainingJobName=name)["TrainingJobStatus"])


def running(client: Any, plane: ControlPlane, training: Training, name: str = "job") -> Path:
    client.create_training_job(**training(name))
    wait_until(lambda: "TrainingStartTime" in client.describe_training_job(TrainingJobName=name))
    return plane.store.get("TrainingJob", name).folder / "run"


def test_a_job_goes_on_by_itself_until_it_is_completed(
    client: Any, training: Training, tmp_path: Path
) -> None:
    made = client.create_training_job(**training("a-quick", HyperParameters={"x": "1"}))
    assert made["TrainingJobArn"].endswith(":000000000000:training-job/a-quick")
    wait_until(lambda: status(client, "a-quick") == "Completed")
    job = client.describe_training_job(TrainingJobName="a-quick")
    artifact = tmp_path / "output" / "a-quick" / "output" / "model.tar.gz"
    assert (job["HyperParameters"], job["ModelArtifacts"]["S3ModelArtifacts"]) == (
        {"x": "1"},
        f"file://{artifact}",
    )
    assert artifact.is_file()
    assert [(entry["MetricName"], entry["Value"]) for entry in job["FinalMetricDataList"]] == [("loss", 0.25)]
    assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"]
    assert job["BillableTimeInSeconds"] == 0
    assert "FailureReason" not in job


def test_another_client_sees_and_stops_it(client: Any, plane: ControlPlane, training: Training) -> None:
    folder = running(client, plane, training, "a")
    pid = process.pid(folder)
    assert process.alive(folder)
    assert os.getsid(pid) == pid
    assert subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "fake_worker"], check=False).returncode == 1
    other = local_client("sagemaker", plane.store.home, "eu-west-1")
    other.stop_training_job(TrainingJobName="a")
    wait_until(lambda: status(client, "a") == "Stopped")
    with pytest.raises(ClientError, match="is in status Stopped"):
        client.stop_training_job(TrainingJobName="a")


def test_a_job_is_deleted_when_it_has_ended(client: Any, training: Training) -> None:
    client.create_training_job(**training("a"))
    with pytest.raises(ClientError, match="stop it first"):
        client.delete_training_job(TrainingJobName="a")
    client.stop_training_job(TrainingJobName="a")
    wait_until(lambda: status(client, "a") == "Stopped")
    client.delete_training_job(TrainingJobName="a")
    assert client.list_training_jobs()["TrainingJobSummaries"] == []
    with pytest.raises(ClientError, match="Could not find requested job with name: none"):
        client.delete_transform_job(TransformJobName="none")


def test_a_killed_worker_is_noticed_and_its_containers_are_removed(
    client: Any, plane: ControlPlane, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cleaned = running(client, plane, training), []
    monkeypatch.setattr(plane.runner, "clean", cleaned.append)
    os.kill(process.pid(folder), signal.SIGKILL)
    wait_until(lambda: not process.alive(folder))
    job = client.describe_training_job(TrainingJobName="job")
    assert (job["TrainingJobStatus"], job["FailureReason"], cleaned) == ("Failed", DIED, [folder])


def test_two_starts_at_once_are_both_kept(client: Any, plane: ControlPlane, training: Training) -> None:
    code = (
        "import sys, json; from pathlib import Path; sys.path.insert(0, sys.argv[3])\n"
        "from sagemaker.local.fake_worker import COMMAND, fake_plane; from ncf.sagemaker.local import "
        "local_client, process\n"
        "process._COMMAND = COMMAND; home = Path(sys.argv[1])\n"
        "made = local_client('sagemaker', home, 'eu-west-1', fake_plane(home, 'eu-west-1'))\n"
        "made.create_training_job(**json.loads(sys.argv[2]))"
    )
    import json

    tests = str(Path(__file__).parents[2])
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(plane.store.home), json.dumps(training(name)), tests]
        )
        for name in ("one", "two")
    ]
    assert [command.wait() for command in both] == [0, 0]
    summaries = client.list_training_jobs()["TrainingJobSummaries"]
    assert {summary["TrainingJobName"] for summary in summaries} == {"one", "two"}


@pytest.mark.parametrize(
    ("call", "key", "message"),
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
def test_unknown_names_are_refused_as_by_aws(client: Any, call: str, key: str, message: str) -> None:
    with pytest.raises(ClientError, match=message) as caught:
        getattr(client, call)(**{key: "none"})
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_lists_are_filtered_by_the_time_of_creation(client: Any, training: Training) -> None:
    client.create_training_job(**training("a-quick"))
    minute, now = timedelta(minutes=1), datetime.now(UTC)
    for times, count in (({"CreationTimeAfter": now - minute}, 1), ({"CreationTimeBefore": now - minute}, 0)):
        assert len(client.list_training_jobs(**times)["TrainingJobSummaries"]) == count


def test_a_tag_of_nothing_is_refused(client: Any, training: Training) -> None:
    arn = client.create_training_job(**training("a-quick"))["TrainingJobArn"]
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "ncf:project", "Value": "ncf"}]
    with pytest.raises(ClientError, match="Could not find the resource"):
        client.list_tags(ResourceArn=arn.replace("a-quick", "b"))


def test_a_transform_job_needs_its_model_and_its_input(client: Any, config: Callable[..., str]) -> None:
    source = {"S3DataType": "S3Prefix", "S3Uri": "file:///nowhere/at/all"}
    request: dict[str, Any] = {
        "TransformJobName": "t",
        "ModelName": "m",
        "TransformInput": {"DataSource": {"S3DataSource": source}},
        "TransformOutput": {"S3OutputPath": "file:///out"},
        "TransformResources": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1},
    }
    with pytest.raises(ClientError, match="Could not find model"):
        client.create_transform_job(**request)
    config("m")
    with pytest.raises(ClientError, match="neither filters nor joins"):
        client.create_transform_job(**request, DataProcessing={"JoinSource": "Input"})
    with pytest.raises(ClientError, match="The input is not there: /nowhere"):
        client.create_transform_job(**request)


def test_what_is_missing_is_said_before_anything_starts(
    client: Any, training: Training, program: Callable[[str, str], Path], tmp_path: Path
) -> None:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"file://{tmp_path}/none"}}
    with pytest.raises(ClientError, match=f"The channel 'train' is not there: {tmp_path}/none"):
        client.create_training_job(
            **training("a", InputDataConfig=[{"ChannelName": "train", "DataSource": source}])
        )
    program("docker", '[ "$1" != image ]')
    with pytest.raises(CloudError, match="There is no image 'ncf:local'"):
        client.create_training_job(**training("a"))
    assert client.list_training_jobs()["TrainingJobSummaries"] == []


def test_calls_that_local_mode_does_not_have_say_so(client: Any, plane: ControlPlane) -> None:
    with pytest.raises(ConfigError, match="Local mode has no list_domains: leave out --local"):
        client.list_domains()
    with pytest.raises(ConfigError, match="Local mode has no create_log_group"):
        local_client("logs", plane.store.home, "eu-west-1").create_log_group(logGroupName="x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Nonsense": 1}, "Unknown parameter in input"),
        ({"RoleArn": None}, "Invalid type for parameter RoleArn"),
        ({"HyperParameters": {"train.epochs": 3}}, "Invalid type for parameter HyperParameters"),
    ],
)
def test_what_botocore_refuses(client: Any, training: Training, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamValidationError, match=message):
        client.create_training_job(**training("job", **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"TrainingJobName": "x" * 64}, "length less than or equal to 63"),
        ({"HyperParameters": {str(n): "" for n in range(101)}}, "length less than or equal to 100"),
        ({"OutputDataConfig": {"S3OutputPath": "gs://elsewhere"}}, "'outputDataConfig.s3OutputPath'"),
        (
            {"ResourceConfig": {"InstanceType": "ml.c5.xlarg", "InstanceCount": 1, "VolumeSizeInGB": 1}},
            r"enum value set: \[ml.c5.xlarge, .*…\]",
        ),
    ],
    ids=["long name", "many", "address", "instance type"],
)
def test_what_the_service_refuses(
    client: Any, training: Training, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClientError, match=message) as caught:
        client.create_training_job(**training("job", **change))
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert caught.value.operation_name == "CreateTrainingJob"


def test_instances_of_this_machine_pass(client: Any, training: Training) -> None:
    resources = {"InstanceType": "local_gpu", "InstanceCount": 1, "VolumeSizeInGB": 1}
    client.create_training_job(**training("a-quick", ResourceConfig=resources))


@pytest.mark.parametrize(("uri", "given"), [("file:///data", False), ("s3://bucket/data", True)])
def test_credentials_go_only_where_they_are_needed(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch, uri: str, given: bool
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    variables = plane.around.environment("eu-west-1", {"InputDataConfig": uri})
    assert (variables["AWS_REGION"], "AWS_ACCESS_KEY_ID" in variables) == ("eu-west-1", given)
