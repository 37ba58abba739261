"""Training and processing jobs of local mode, in real containers through the SDK."""

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_mode import (
    PATIENCE,
    channel,
    containers,
    ended,
    local_session,
    log,
    processes,
    training_request,
    workers,
)
from ncf import experiment
from ncf.data import Dataset
from ncf.errors import CloudError
from ncf.sagemaker.container.hyperparameters import from_hyperparameters
from ncf.sagemaker.local import docker, process
from ncf.sagemaker.local.plane import DIED
from ncf.sagemaker.session import Session
from ncf.serving.artifact import open_artifact
from processes import wait_until

pytestmark = pytest.mark.container

GROUP = "/aws/sagemaker/TrainingJobs"
LONG = {"train.epochs": "2000", "train.batch_size": "192"}


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with local_session(tmp_path / "home") as made:
        yield made


@pytest.fixture
def settings(two_epochs: dict[str, str]) -> dict[str, str]:
    return two_epochs | {"train.epochs": "1"}


def wait_for_epoch(folder: Path, epoch: int) -> None:
    wait_until(lambda: any(folder.glob(f"run/checkpoints/epoch-{epoch:05d}-*")), PATIENCE)


def model_of(job: dict[str, dict[str, str]]) -> Path:
    return Path(job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("file://"))


def test_the_artifact_is_the_one_that_the_host_makes(
    session: Session, image: str, ml_100k: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    request = training_request(session, "train", image, settings, channel("train", ml_100k))
    session.client("sagemaker").create_training_job(**request)
    job = ended(session, "train")
    assert job["TrainingJobStatus"] == "Completed", job
    archive = model_of(job)
    assert archive == session.home / "storage" / "jobs" / "train" / "output" / "model.tar.gz"
    given = from_hyperparameters(settings)
    here = experiment.train(Dataset.open(ml_100k), given, tmp_path / "host", data_path=ml_100k)
    theirs, ours = open_artifact(archive).manifest["files"], open_artifact(here.artifact).manifest["files"]
    assert theirs["model.safetensors"] == ours["model.safetensors"]
    figures = {one["MetricName"]: one["Value"] for one in job["FinalMetricDataList"]}
    judged = open_artifact(here.artifact).metrics["test"]["metrics"]
    assert figures["test_hr@10"] == pytest.approx(judged["hr@10"], abs=1e-5)
    assert any("[ncf] epoch=1 " in line for line in log(session, GROUP, "train/"))
    with tarfile.open(archive.with_name("output.tar.gz")) as output:
        assert "run.json" in output.getnames()


def test_a_job_that_fails_says_the_sentence_of_the_run(
    session: Session, image: str, ml_100k: Path, settings: dict[str, str]
) -> None:
    wrong = settings | {"train.nonsense": "3"}
    session.client("sagemaker").create_training_job(
        **training_request(session, "wrong", image, wrong, channel("train", ml_100k))
    )
    job = ended(session, "wrong")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("train.nonsense is not a setting of ncf; did you mean train.seed?")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo almost done; exit 3", "The container ended with exit code 3: almost done"),
        ("true", "left no model in /opt/ml/model"),
    ],
    ids=["exit code", "no model"],
)
def test_a_container_without_a_word_is_explained(
    session: Session, image: str, script: str, said: str
) -> None:
    program = {
        "TrainingImage": image,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["sh", "-c", script],
    }
    session.client("sagemaker").create_training_job(
        **training_request(session, "mute", image, {}, AlgorithmSpecification=program)
    )
    job = ended(session, "mute")
    assert job["TrainingJobStatus"] == "Failed"
    assert said in job["FailureReason"]


def test_a_channel_that_is_not_there_is_said(session: Session, image: str, tmp_path: Path) -> None:
    request = training_request(session, "none", image, {}, channel("train", tmp_path / "none"))
    with pytest.raises(CloudError, match=f"The channel 'train' is not there: {tmp_path / 'none'}."):
        session.client("sagemaker").create_training_job(**request)


def test_a_stopped_job_goes_on_from_its_checkpoint(
    session: Session, image: str, ml_100k: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    client, channels = session.client("sagemaker"), (channel("train", ml_100k), channel("checkpoints", kept))
    client.create_training_job(**training_request(session, "first", image, settings | LONG, *channels))
    wait_for_epoch(kept, 2)
    client.stop_training_job(TrainingJobName="first")
    assert client.describe_training_job(TrainingJobName="first")["TrainingJobStatus"] in (
        "Stopping",
        "Stopped",
    )
    assert ended(session, "first")["SecondaryStatus"] == "Stopped"
    assert containers(session.home) == []
    client.create_training_job(**training_request(session, "second", image, settings | LONG, *channels))
    wait_until(lambda: any("Resum" in line or "resum" in line for line in lines(session, "second")), PATIENCE)
    client.stop_training_job(TrainingJobName="second")
    assert ended(session, "second")["TrainingJobStatus"] == "Stopped"
    assert not any("epoch=1 " in line for line in log(session, GROUP, "second/"))


def lines(session: Session, job: str) -> list[str]:
    folder = session.home / "logs" / "TrainingJobs" / job
    return log(session, GROUP, f"{job}/") if folder.is_dir() else []


def test_a_killed_worker_leaves_no_container_after_the_next_call(
    session: Session, image: str, ml_100k: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    client = session.client("sagemaker")
    channels = (channel("train", ml_100k), channel("checkpoints", tmp_path / "kept"))
    client.create_training_job(**training_request(session, "killed", image, settings | LONG, *channels))
    wait_for_epoch(tmp_path / "kept", 1)
    os.kill(process.pid(session.home / "TrainingJob" / "killed" / "run"), signal.SIGKILL)
    wait_until(lambda: workers(session.home) == [])
    assert containers(session.home) != []
    job = client.describe_training_job(TrainingJobName="killed")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == DIED
    assert containers(session.home) == []
    wait_until(lambda: processes(session.home) == [])


def test_an_interrupted_command_does_not_end_the_job(session: Session, image: str, tmp_path: Path) -> None:
    script = "sleep 3; echo there > /opt/ml/model/model.txt"
    program = {
        "TrainingImage": image,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["sh", "-c", script],
    }
    request = training_request(session, "alone", image, {}, AlgorithmSpecification=program)
    code = (
        "import sys, time; from pathlib import Path; from ncf.sagemaker.session import Session, Settings\n"
        "session = Session(Settings(local=True, home=Path(sys.argv[1])))\n"
        f"session.client('sagemaker').create_training_job(**{request!r})\n"
        "print('started', flush=True); time.sleep(60)"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", code, str(session.home)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with command:
        assert command.stdout is not None
        assert command.stdout.readline() == "started\n"
        os.killpg(command.pid, signal.SIGINT)
    assert command.returncode != 0
    assert ended(session, "alone")["TrainingJobStatus"] == "Completed"


def test_two_instances_are_two_containers_that_know_of_each_other(session: Session, image: str) -> None:
    script = "cat /opt/ml/input/config/resourceconfig.json; echo; "
    script += "echo there > /opt/ml/model/$(cat /etc/hostname); sleep 5"
    program = {
        "TrainingImage": image,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["sh", "-c", script],
    }
    resources = {"InstanceType": "ml.c5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 30}
    session.client("sagemaker").create_training_job(
        **training_request(
            session, "two", image, {}, AlgorithmSpecification=program, ResourceConfig=resources
        )
    )
    job = ended(session, "two")
    assert job["TrainingJobStatus"] == "Completed", job
    said = log(session, GROUP, "two/")
    assert len(said) == 2
    assert all('"algo-1"' in line and '"algo-2"' in line for line in said)
    with tarfile.open(model_of(job)) as archive:
        assert len(archive.getnames()) == 2


def test_what_takes_too_long_is_stopped(session: Session, image: str) -> None:
    script = "trap 'exit 0' TERM; while true; do sleep .2; done"
    program = {
        "TrainingImage": image,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["sh", "-c", script],
    }
    request = training_request(session, "slow", image, {}, AlgorithmSpecification=program)
    session.client("sagemaker").create_training_job(
        **request | {"StoppingCondition": {"MaxRuntimeInSeconds": 1}}
    )
    job = ended(session, "slow")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


@pytest.mark.parametrize(("code", "status"), [(0, "Completed"), (4, "Failed")])
def test_a_processing_job_brings_its_output_and_its_message(
    session: Session, image: str, tmp_path: Path, code: int, status: str
) -> None:
    script = f"cp /in/given /out/taken; echo it is $1 > /opt/ml/output/message; exit {code}"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "given").write_text("content")
    client = session.client("sagemaker")
    client.create_processing_job(
        ProcessingJobName="process",
        RoleArn=session.role,
        AppSpecification={
            "ImageUri": image,
            "ContainerEntrypoint": ["sh", "-c", script, "name"],
            "ContainerArguments": ["so"],
        },
        ProcessingResources={
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
        },
        ProcessingInputs=[
            {
                "InputName": "in",
                "S3Input": {
                    "S3Uri": f"file://{tmp_path / 'in'}",
                    "LocalPath": "/in",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                },
            }
        ],
        ProcessingOutputConfig={
            "Outputs": [
                {
                    "OutputName": "out",
                    "S3Output": {
                        "S3Uri": session.uri("out"),
                        "LocalPath": "/out",
                        "S3UploadMode": "EndOfJob",
                    },
                }
            ]
        },
    )

    def look() -> dict[str, str]:
        answer: dict[str, str] = client.describe_processing_job(ProcessingJobName="process")
        return answer

    wait_until(lambda: look()["ProcessingJobStatus"] != "InProgress", PATIENCE)
    assert (look()["ProcessingJobStatus"], look()["ExitMessage"]) == (status, "it is so")
    assert (session.home / "storage" / "out" / "taken").read_text() == "content"


def test_what_containers_wrote_as_root_becomes_the_users(image: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    mount = ("--volume", f"{tmp_path / 'folder'}:/folder")
    docker.docker(
        "run", "--rm", "--user", "0", *mount, image, "sh", "-c", "mkdir /folder/a; touch /folder/a/b"
    )
    docker.take_over([tmp_path / "folder"], image, owner=12345)
    assert [(tmp_path / "folder" / name).stat().st_uid for name in ("a", "a/b")] == [12345, 12345]
