"""Training jobs: the double answers as AWS's documents say."""

import json
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from aws import Aws
from hosted.inline import Spec
from jobs import channel, training

BUCKET = "made-for-tests"
OUT = f"s3://{BUCKET}/out"
DATA = f"s3://{BUCKET}/data"


@pytest.fixture
def sm(aws: Aws) -> Any:
    """A client of SageMaker; there is a bucket with two files of data."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for key in ("data/a.txt", "data/deep/b.txt"):
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    return aws.client("sagemaker")


def keys(aws: Aws, prefix: str) -> list[str]:
    found = aws.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return [one["Key"] for one in found]


def refused(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_canned_job_is_over_at_once(aws: Aws, sm: Any) -> None:
    sm.create_training_job(**training(aws.role, "one", DATA, OUT))
    job = sm.describe_training_job(TrainingJobName="one")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Completed", "Completed")
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"{OUT}/one/output/model.tar.gz"
    assert keys(aws, "out/") == ["out/one/output/model.tar.gz"]
    assert {one["MetricName"]: one["Value"] for one in job["FinalMetricDataList"]} == {
        "ndcg": 0.5,
        "loss": 0.25,
    }


def test_the_container_finds_what_aws_lays_out(aws: Aws, sm: Any) -> None:
    found = {}

    def run(spec: Spec) -> int:
        config = spec.root / "input" / "config"
        found.update({file.stem: json.loads(file.read_text()) for file in config.iterdir()})
        found["data"] = sorted(
            p.relative_to(spec.root).as_posix() for p in (spec.root / "input/data").rglob("*.txt")
        )
        found["environment"] = spec.environment
        (spec.root / "model" / "m").write_text("m")
        (spec.root / "output" / "data" / "o").write_text("o")
        return 0

    aws.run(run)
    more = {"HyperParameters": {"a": "1"}, "Environment": {"B": "2"}}
    sm.create_training_job(**training(aws.role, "one", DATA, OUT, **more))
    assert aws.wait("TrainingJob", "one")["TrainingJobStatus"] == "Completed"
    assert found["hyperparameters"] == {"a": "1"}
    assert (found["resourceconfig"]["current_host"], found["resourceconfig"]["hosts"]) == (
        "algo-1",
        ["algo-1"],
    )
    assert found["inputdataconfig"]["train"]["TrainingInputMode"] == "File"
    assert found["data"] == ["input/data/train/a.txt", "input/data/train/deep/b.txt"]
    assert (found["environment"]["TRAINING_JOB_NAME"], found["environment"]["B"]) == ("one", "2")
    assert keys(aws, "out/") == ["out/one/output/model.tar.gz", "out/one/output/output.tar.gz"]


def test_statuses_come_in_aws_order_and_the_log_is_in_cloudwatch(aws: Aws, sm: Any) -> None:
    sm.create_training_job(**training(aws.role, "one", DATA, OUT))
    job = sm.describe_training_job(TrainingJobName="one")
    passed = [one["Status"] for one in job["SecondaryStatusTransitions"]]
    assert passed == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    logs, group = aws.client("logs"), "/aws/sagemaker/TrainingJobs"
    (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix="one/")["logStreams"]
    assert stream["logStreamName"].startswith("one/algo-1-")
    events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
    assert "ndcg@10=0.5" in events[0]["message"]


def test_the_failure_file_becomes_the_reason(aws: Aws, sm: Any) -> None:
    def run(spec: Spec) -> int:
        (spec.root / "output" / "failure").write_text("It broke.")
        return 3

    aws.run(run)
    sm.create_training_job(**training(aws.role, "one", DATA, OUT))
    job = aws.wait("TrainingJob", "one")
    assert (job["TrainingJobStatus"], job["FailureReason"]) == (
        "Failed",
        "AlgorithmError: It broke., exit code: 3",
    )
    assert keys(aws, "out/") == []


def test_a_stop_is_sigterm_and_keeps_the_model(aws: Aws, sm: Any) -> None:
    started = threading.Event()

    def run(spec: Spec) -> int:
        started.set()
        assert spec.stop.wait(20)
        (spec.root / "model" / "m").write_text("m")
        return 0

    aws.run(run)
    sm.create_training_job(**training(aws.role, "one", DATA, OUT))
    assert started.wait(20)
    sm.stop_training_job(TrainingJobName="one")
    assert aws.wait("TrainingJob", "one")["TrainingJobStatus"] == "Stopped"
    assert keys(aws, "out/") == ["out/one/output/model.tar.gz"]
    assert refused(sm.stop_training_job, TrainingJobName="one")[0] == "ValidationException"


def test_a_job_that_takes_too_long_is_stopped(aws: Aws, sm: Any) -> None:
    aws.run(lambda spec: 0 if spec.stop.wait(20) else 1)
    request = training(aws.role, "one", DATA, OUT) | {"StoppingCondition": {"MaxRuntimeInSeconds": 1}}
    sm.create_training_job(**request)
    job = aws.wait("TrainingJob", "one")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_a_spot_job_that_is_interrupted_starts_again_with_its_checkpoints(aws: Aws, sm: Any) -> None:
    seen = []

    def run(spec: Spec) -> int:
        kept = spec.root / "checkpoints" / "epoch"
        seen.append(kept.read_text() if kept.exists() else None)
        kept.write_text("1")
        return 0 if len(seen) > 1 or spec.stop.wait(20) else 1

    aws.run(run)
    spot = {
        "EnableManagedSpotTraining": True,
        "CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/kept"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600},
    }
    sm.create_training_job(**(training(aws.role, "one", DATA, OUT) | spot))
    aws.until(lambda: bool(seen))
    aws.interrupt("one")
    job = aws.wait("TrainingJob", "one")
    assert job["TrainingJobStatus"] == "Completed"
    assert seen == [None, "1"]
    assert [one["Status"] for one in job["SecondaryStatusTransitions"]].count("Interrupted") == 1
    assert job["BillableTimeInSeconds"] <= job["TrainingTimeInSeconds"]
    assert keys(aws, "kept/") == ["kept/epoch"]


def test_two_instances_know_each_other_and_share_the_keys(aws: Aws, sm: Any) -> None:
    found = {}

    def run(spec: Spec) -> int:
        config = json.loads((spec.root / "input/config/resourceconfig.json").read_text())
        files = sorted(p.name for p in (spec.root / "input/data/train").rglob("*.txt"))
        found[config["current_host"]] = (config["hosts"], files)
        return 0

    aws.run(run)
    request = training(aws.role, "one", DATA, OUT)
    request["ResourceConfig"]["InstanceCount"] = 2
    request["InputDataConfig"] = [channel(DATA, S3DataDistributionType="ShardedByS3Key")]
    sm.create_training_job(**request)
    aws.wait("TrainingJob", "one")
    assert found == {"algo-1": (["algo-1", "algo-2"], ["a.txt"]), "algo-2": (["algo-1", "algo-2"], ["b.txt"])}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"TrainingJobName": "a_b"}, "failed to satisfy constraint: Member must satisfy regular expression"),
        ({"RoleArn": "arn:aws:iam::123456789012:role/none"}, "Could not assume role"),
        ({"InputDataConfig": [channel("s3://made-for-tests/none")]}, "No S3 objects found under S3 URL"),
        ({"InputDataConfig": [channel("s3://no-such-bucket/x")]}, "The specified bucket does not exist"),
        ({"EnableManagedSpotTraining": True}, "Invalid MaxWaitTimeInSeconds"),
        ({"ResourceConfig": {"InstanceType": "ml.none", "InstanceCount": 1, "VolumeSizeInGB": 1}},
        "enum value set"),
        ({"HyperParameters": {"a": "x" * 2501}}, "length less than or equal to 2500"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused(aws: Aws, sm: Any, change: dict[str, Any], said: str) -> None:
    code, message = refused(sm.create_training_job, **(training(aws.role, "one", DATA, OUT) | change))
    assert code == "ValidationException"
    assert said in message
    assert aws.records("TrainingJob") == []


def test_a_name_is_taken_once(aws: Aws, sm: Any) -> None:
    sm.create_training_job(**training(aws.role, "one", DATA, OUT))
    code, message = refused(sm.create_training_job, **training(aws.role, "one", DATA, OUT))
    assert code == "ResourceInUse"
    assert "job with this name already exists" in message


def test_lists_are_filtered_sorted_and_in_pages(aws: Aws, sm: Any) -> None:
    for name in ("a-1", "a-2", "b-1"):
        sm.create_training_job(**training(aws.role, name, DATA, OUT))
    page = sm.list_training_jobs(NameContains="a-", SortBy="Name", SortOrder="Ascending", MaxResults=1)
    assert [one["TrainingJobName"] for one in page["TrainingJobSummaries"]] == ["a-1"]
    pages = sm.get_paginator("list_training_jobs").paginate(StatusEquals="Completed", MaxResults=2)
    assert [one["TrainingJobName"] for page in pages for one in page["TrainingJobSummaries"]] == [
        "b-1",
        "a-2",
        "a-1",
    ]


def test_tags_are_listed_added_removed_and_found(aws: Aws, sm: Any) -> None:
    tag = {"Key": "ncf:project", "Value": "x"}
    arn = sm.create_training_job(**training(aws.role, "one", DATA, OUT, Tags=[tag]))["TrainingJobArn"]
    aws.client("ecr").create_repository(repositoryName="xy", tags=[tag])
    tagging = aws.client("resourcegroupstaggingapi")
    found = tagging.get_resources(TagFilters=[{"Key": "ncf:project", "Values": ["x"]}])[
        "ResourceTagMappingList"
    ]
    assert {one["ResourceARN"] for one in found} == {arn, "arn:aws:ecr:us-east-1:123456789012:repository/xy"}
    sm.add_tags(ResourceArn=arn, Tags=[{"Key": "more", "Value": "1"}])
    sm.delete_tags(ResourceArn=arn, TagKeys=["ncf:project"])
    assert sm.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "more", "Value": "1"}]


def test_faults_come_as_often_as_asked(aws: Aws, sm: Any) -> None:
    aws.fail("ListTrainingJobs", "AccessDeniedException", times=2, after=1)
    sm.list_training_jobs()
    for _ in range(2):
        assert refused(sm.list_training_jobs)[0] == "AccessDeniedException"
    assert sm.list_training_jobs()["TrainingJobSummaries"] == []
    assert len(aws.calls("ListTrainingJobs")) == 4


def test_a_region_that_is_not_enabled_knows_nobody(aws: Aws) -> None:
    assert refused(aws.client("sagemaker", "me-south-1").list_models)[0] == "UnrecognizedClientException"


def test_regions_do_not_see_each_other(aws: Aws, sm: Any) -> None:
    sm.create_training_job(**training(aws.role, "one", DATA, OUT))
    assert aws.client("sagemaker", "eu-west-1").list_training_jobs()["TrainingJobSummaries"] == []


def test_kinds_that_nothing_here_has_heard_of_are_kept(aws: Aws, sm: Any) -> None:
    arn = sm.create_mlflow_tracking_server(
        TrackingServerName="tracks", ArtifactStoreUri=f"s3://{BUCKET}/ml", RoleArn=aws.role
    )["TrackingServerArn"]
    assert arn == "arn:aws:sagemaker:us-east-1:123456789012:mlflow-tracking-server/tracks"
    assert (
        sm.describe_mlflow_tracking_server(TrackingServerName="tracks")["TrackingServerStatus"] == "Created"
    )
    sm.delete_mlflow_tracking_server(TrackingServerName="tracks")
    assert aws.records() == []
