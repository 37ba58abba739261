"""The unmodified SDK (version 3) and plain boto3 against the double, with our image in real containers.

Train, fetch, deploy, invoke, update, transform, delete: at the end nothing is there.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from aws import Aws, hosted_aws
from jobs import BUCKET, IMAGE, METRICS, OUT, content, endpoint, keys, training, transform

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]
DATA = f"s3://{BUCKET}/ml-100k"


@dataclass
class Stage:
    """AWS with a real engine, and prepared data in a bucket."""

    aws: Aws
    sm: Any
    hyperparameters: dict[str, str]
    request: dict[str, str]


@pytest.fixture(scope="module")
def stage(image: str, ml_100k: Path, two_epochs: dict[str, str]) -> Iterator[Stage]:
    """One AWS for the whole module, its containers ended with it."""
    from ncf.sagemaker.local.docker import DockerRunner

    with hosted_aws(DockerRunner(images={IMAGE: image})) as aws:
        s3 = aws.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        for file in ml_100k.rglob("*"):
            if file.is_file():
                s3.upload_file(str(file), BUCKET, f"ml-100k/{file.relative_to(ml_100k).as_posix()}")
        asked = {
            "EndpointName": "",
            "ContentType": "application/json",
            "Body": json.dumps({"users": ["42"], "k": 5}),
        }
        yield Stage(aws, aws.client("sagemaker"), two_epochs, asked)


@pytest.fixture(scope="module")
def trained(stage: Stage) -> dict[str, Any]:
    """A job that boto3 started and that has completed."""
    request = training(stage.aws.role, "boto3", DATA, OUT, HyperParameters=stage.hyperparameters)
    request["AlgorithmSpecification"]["MetricDefinitions"] = [
        *METRICS, {"Name": "hr", "Regex": r"test_hr@10=([0-9.]+)"},
    ]  # fmt: skip
    stage.sm.create_training_job(**request)
    job = stage.aws.wait("TrainingJob", "boto3", 300)
    assert job["TrainingJobStatus"] == "Completed", job
    return job


def test_boto3_trains_and_the_metrics_are_read(stage: Stage, trained: dict[str, Any]) -> None:
    figures = {one["MetricName"]: one["Value"] for one in trained["FinalMetricDataList"]}
    assert 0.4 < figures["hr"] < 1
    assert keys(stage.aws, "out/boto3/") == [
        "out/boto3/output/model.tar.gz",
        "out/boto3/output/output.tar.gz",
    ]


def test_a_bad_hyperparameter_fails_in_one_sentence(stage: Stage) -> None:
    request = training(stage.aws.role, "bad", DATA, OUT, HyperParameters={"model.factors": "-1"})
    stage.sm.create_training_job(**request)
    job = stage.aws.wait("TrainingJob", "bad", 300)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ")
    assert "factors" in job["FailureReason"]
    assert job["FailureReason"].endswith(", exit code: 1")


def test_a_spot_interruption_ends_at_the_same_weights(stage: Stage, trained: dict[str, Any]) -> None:
    longer = stage.hyperparameters | {"train.epochs": "6"}
    weights = {}
    for name in ("whole", "broken"):
        spot = {
            "EnableManagedSpotTraining": True, "CheckpointConfig": {"S3Uri": f"s3://{BUCKET}/kept/{name}"},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 900},
        }  # fmt: skip
        stage.sm.create_training_job(
            **(training(stage.aws.role, name, DATA, OUT, HyperParameters=longer) | spot)
        )
        if name == "broken":
            stage.aws.until(lambda: "epoch=2" in " ".join(lines(stage.aws, "broken")), 300)
            stage.aws.interrupt(name)
        job = stage.aws.wait("TrainingJob", name, 300)
        assert job["TrainingJobStatus"] == "Completed", job
        weights[name] = member(content(stage.aws, f"out/{name}/output/model.tar.gz"), "model.safetensors")
    passed = [one["Status"] for one in job["SecondaryStatusTransitions"]]
    assert passed.count("Interrupted") == 1
    assert weights["whole"] == weights["broken"]


def test_boto3_deploys_invokes_updates_transforms_and_deletes(stage: Stage, trained: dict[str, Any]) -> None:
    aws, sm, model = stage.aws, stage.sm, trained["ModelArtifacts"]["S3ModelArtifacts"]
    sm.create_endpoint(EndpointName="b3", EndpointConfigName=endpoint(sm, aws.role, "b3-1", model))
    described = aws.wait("Endpoint", "b3", 300)
    assert described["EndpointStatus"] == "InService", described["FailureReason"]
    runtime = aws.client("sagemaker-runtime")
    before = json.loads(runtime.invoke_endpoint(**stage.request | {"EndpointName": "b3"})["Body"].read())
    assert len(before["recommendations"][0]["items"]) == 5, before
    sm.update_endpoint(EndpointName="b3", EndpointConfigName=endpoint(sm, aws.role, "b3-2", model))
    aws.until(lambda: sm.describe_endpoint(EndpointName="b3")["EndpointStatus"] == "InService", 300)
    assert (
        json.loads(runtime.invoke_endpoint(**stage.request | {"EndpointName": "b3"})["Body"].read()) == before
    )
    lines = b'{"users": ["42"], "k": 5}\n{"users": ["1"], "k": 2}\n'
    aws.client("s3").put_object(Bucket=BUCKET, Key="ask/users.jsonl", Body=lines)
    sm.create_transform_job(**transform("b3", "b3-1", f"s3://{BUCKET}/ask", f"s3://{BUCKET}/answers"))
    job = aws.wait("TransformJob", "b3", 300)
    assert job["TransformJobStatus"] == "Completed", job
    answers = [json.loads(line) for line in content(aws, "answers/users.jsonl.out").splitlines()]
    assert answers[0] == before
    sm.delete_endpoint(EndpointName="b3")
    for name in ("b3-1", "b3-2"):
        sm.delete_endpoint_config(EndpointConfigName=name)
        sm.delete_model(ModelName=name)
    assert [one for one in aws.records() if "Endpoint" in one.kind.name or one.kind.name == "Model"] == []


def test_the_sdk_trains_deploys_invokes_and_deletes(stage: Stage) -> None:
    from sagemaker.core import resources, shapes

    job = resources.TrainingJob.create(
        training_job_name="sdk", role_arn=stage.aws.role, hyper_parameters=stage.hyperparameters,
        algorithm_specification=shapes.AlgorithmSpecification(training_image=IMAGE,
        training_input_mode="File"),
        input_data_config=[
            shapes.Channel(
                channel_name="train",
                data_source=shapes.DataSource(
                    s3_data_source=shapes.S3DataSource(s3_data_type="S3Prefix", s3_uri=DATA)
                ),
            )
        ],
        output_data_config=shapes.OutputDataConfig(s3_output_path=OUT),
        resource_config=shapes.ResourceConfig(instance_type="ml.m5.large", instance_count=1,
        volume_size_in_gb=10),
        stopping_condition=shapes.StoppingCondition(max_runtime_in_seconds=600),
    )  # fmt: skip
    job.wait(poll=1, timeout=300)
    assert job.training_job_status == "Completed"
    container = shapes.ContainerDefinition(image=IMAGE, model_data_url=job.model_artifacts.s3_model_artifacts)
    model = resources.Model.create(
        model_name="sdk", execution_role_arn=stage.aws.role, primary_container=container
    )
    variant = shapes.ProductionVariant(
        variant_name="AllTraffic", model_name="sdk", instance_type="ml.m5.large", initial_instance_count=1
    )
    config = resources.EndpointConfig.create(endpoint_config_name="sdk", production_variants=[variant])
    hosted = resources.Endpoint.create(endpoint_name="sdk", endpoint_config_name="sdk")
    hosted.wait_for_status("InService", poll=1, timeout=300)
    answer = hosted.invoke(body=stage.request["Body"], content_type="application/json")
    assert len(json.loads(answer.body.read())["recommendations"][0]["items"]) == 5
    for one in (hosted, config, model):
        one.delete()
    assert [one.name for one in stage.aws.records("Endpoint")] == []


def test_two_instances_reach_each_other_by_name(stage: Stage) -> None:
    code = (
        "import json, socket, time; "
        "c = json.load(open('/opt/ml/input/config/resourceconfig.json')); "
        "s = socket.create_server(('', 7777)); time.sleep(9); "
        "[socket.create_connection((h, 7777)) for h in c['hosts']]; time.sleep(9); "
        "open('/opt/ml/model/' + c['current_host'], 'w').write('met')"
    )
    request = training(stage.aws.role, "two", DATA, OUT, Environment={"CODE": code})
    request["AlgorithmSpecification"] |= {
        "ContainerEntrypoint": ["python"],
        "ContainerArguments": ["-c", "import os; exec(os.environ['CODE'])"],
    }
    request["ResourceConfig"]["InstanceCount"] = 2
    stage.sm.create_training_job(**request)
    job = stage.aws.wait("TrainingJob", "two", 300)
    assert job["TrainingJobStatus"] == "Completed", job
    archive = content(stage.aws, "out/two/output/model.tar.gz")
    assert [member(archive, name) for name in ("algo-1", "algo-2")] == [b"met", b"met"]


def test_a_container_reaches_the_double(stage: Stage) -> None:
    code = (
        "import os, urllib.request; "
        "urllib.request.urlopen(os.environ['AWS_ENDPOINT_URL'] + '/moto-api/', timeout=10)"
    )
    request = training(stage.aws.role, "reach", DATA, OUT)
    request["AlgorithmSpecification"] |= {
        "ContainerEntrypoint": ["python"],
        "ContainerArguments": ["-c", code],
    }
    stage.sm.create_training_job(**request)
    job = stage.aws.wait("TrainingJob", "reach", 300)
    assert job["TrainingJobStatus"] == "Completed", (job, lines(stage.aws, "reach"))


def test_a_container_that_never_becomes_well_fails_with_its_log(
    stage: Stage, trained: dict[str, Any]
) -> None:
    aws, sm = stage.aws, stage.sm
    aws.client("s3").put_object(Bucket=BUCKET, Key="none/model.tar.gz", Body=packed({"weights": b"1"}))
    name = endpoint(sm, aws.role, "sick", f"s3://{BUCKET}/none/model.tar.gz")
    sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    described = aws.wait("Endpoint", name, 300)
    assert described["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in described["FailureReason"]
    logs, group = aws.client("logs"), "/aws/sagemaker/Endpoints/sick"
    (stream,) = logs.describe_log_streams(logGroupName=group)["logStreams"]
    events = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
    assert "manifest.json" in " ".join(event["message"] for event in events)
    sm.delete_endpoint(EndpointName=name)


def packed(files: dict[str, bytes]) -> bytes:
    """A tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return buffer.getvalue()


def lines(aws: Aws, job: str) -> list[str]:
    """The log of a job so far."""
    logs, group = aws.client("logs"), "/aws/sagemaker/TrainingJobs"
    if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
        return []
    streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/")["logStreams"]
    found = [
        logs.get_log_events(logGroupName=group, logStreamName=one["logStreamName"])["events"]
        for one in streams
    ]
    return [event["message"] for events in found for event in events]


def member(archive: bytes, name: str) -> bytes:
    """A file of a tar.gz."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        file = opened.extractfile(name)
        assert file
        return file.read()
