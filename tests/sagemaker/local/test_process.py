"""Workers: they outlive the command that starts them, and their death is noticed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncf.sagemaker.local import SageMaker, process
from ncf.sagemaker.local.state import Store
from processes import wait_until

Training = Callable[..., dict[str, Any]]


def running(client: SageMaker, training: Training, name: str = "job") -> Path:
    client.create_training_job(**training(name))
    wait_until(lambda: "TrainingStartTime" in client.describe_training_job(TrainingJobName=name))
    return client.store.folder("training-job", name)


def test_a_worker_is_its_own_session_and_no_child_of_ours(client: SageMaker, training: Training) -> None:
    folder = running(client, training)
    pid = process._pid(folder)
    assert process.alive(folder)
    assert os.getsid(pid) == pid
    assert subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "fake_worker"], check=False).returncode == 1


def test_a_killed_worker_is_noticed_and_its_containers_are_removed(
    client: SageMaker, training: Training, program: Callable[[str, str], Path], tmp_path: Path
) -> None:
    folder = running(client, training)
    said = tmp_path / "said"
    program("docker", f'echo "$@" >> {said}; if [ "$1" = ps ]; then echo abc x-algo-1-abcde running; fi')
    os.kill(process._pid(folder), signal.SIGKILL)
    wait_until(lambda: not process.alive(folder))
    job = client.describe_training_job(TrainingJobName="job")
    assert job["TrainingJobStatus"] == "Failed"
    assert "died" in job["FailureReason"]
    assert f"label=ncf.folder={folder}" in said.read_text()
    assert "rm --force --volumes abc" in said.read_text()


def test_a_dead_endpoint_is_failed(client: SageMaker, config: Callable[..., str]) -> None:
    client.create_endpoint(EndpointName="e", EndpointConfigName=config("c"))
    wait_until(lambda: client.describe_endpoint(EndpointName="e")["EndpointStatus"] == "InService")
    folder = client.store.folder("deployment", "e.1")
    os.kill(process._pid(folder), signal.SIGKILL)
    wait_until(lambda: not process.alive(folder))
    endpoint = client.describe_endpoint(EndpointName="e")
    assert (endpoint["EndpointStatus"], "died" in endpoint["FailureReason"]) == ("Failed", True)
    client.delete_endpoint(EndpointName="e")
    assert client.list_endpoints()["Endpoints"] == []


def test_two_starts_at_once_are_both_kept(home: Path, training: Training) -> None:
    code = (
        "import sys, json; from pathlib import Path; from ncf.sagemaker.local import SageMaker, process\n"
        "process._COMMAND = tuple(json.loads(sys.argv[3]))\n"
        "SageMaker(Path(sys.argv[1]), 'eu-west-1').create_training_job(**json.loads(sys.argv[2]))"
    )
    import json

    command = json.dumps(process._COMMAND)
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(home), json.dumps(training(name)), command])
        for name in ("one", "two")
    ]
    assert [one.wait() for one in both] == [0, 0]
    found = SageMaker(home, "eu-west-1").list_training_jobs()["TrainingJobSummaries"]
    assert {one["TrainingJobName"] for one in found} == {"one", "two"}


def test_where_nobody_runs_nobody_is_told(store: Store, tmp_path: Path) -> None:
    assert not process.alive(tmp_path)
    assert not process.terminate(tmp_path)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("file:///data", False),
        ("s3://bucket/data", True),
        ("1.dkr.ecr.eu-west-1.amazonaws.com/x", True),
        ("arn:aws:sagemaker:eu-west-1:123456789012:mlflow-app/x", True),
    ],
)
def test_credentials_go_only_where_they_are_needed(
    store: Store, monkeypatch: pytest.MonkeyPatch, said: str, kept: bool
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    record = store.create("training-job", "a", {"InputDataConfig": said})
    variables = process.environment(store, record)
    assert ("AWS_ACCESS_KEY_ID" in variables, variables.get("AWS_CONFIG_FILE") == os.devnull) == (
        kept,
        not kept,
    )
    assert variables["AWS_EC2_METADATA_DISABLED"] == "true"
    assert "TelemetryOptOut: true" in Path(variables["SAGEMAKER_USER_CONFIG_OVERRIDE"]).read_text()
