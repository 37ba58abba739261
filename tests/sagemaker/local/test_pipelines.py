"""Executions of pipelines and their workers: none is mourned that lives, and one that was killed can be gone on with."""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ncf.sagemaker.local import SageMaker, process
from ncf.sagemaker.local.pipelines import EXECUTION
from processes import wait_until

Training = Callable[..., dict[str, Any]]
ROLE, TOKEN = "arn:aws:iam::000000000000:role/local", "t" * 32


@pytest.fixture
def arn(client: SageMaker, training: Training) -> str:
    """An execution of which the first step is quick and the second is not, until there is a file `quick`."""
    request = {name: value for name, value in training("x").items() if name != "TrainingJobName"}
    steps = [{"Name": name, "Type": "Training", "Arguments": request} for name in ("quick", "Train")]
    text = json.dumps({"Version": "2020-12-01", "Parameters": [], "Steps": steps})
    client.create_pipeline(PipelineName="p", PipelineDefinition=text, RoleArn=ROLE, ClientRequestToken=TOKEN)
    return str(
        client.start_pipeline_execution(PipelineName="p", ClientRequestToken=TOKEN)["PipelineExecutionArn"]
    )


def status(client: SageMaker, arn: str) -> str:
    return str(client.describe_pipeline_execution(PipelineExecutionArn=arn)["PipelineExecutionStatus"])


def steps(client: SageMaker, arn: str) -> dict[str, str]:
    found = client.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    return {one["StepName"]: one["StepStatus"] for one in found}


def job_statuses(client: SageMaker, step: str) -> list[str]:
    """Of the jobs of a step, the oldest first."""
    found = client.list_training_jobs()["TrainingJobSummaries"]
    mine = sorted(
        (one["CreationTime"], one["TrainingJobStatus"]) for one in found if step in one["TrainingJobName"]
    )
    return [one for _, one in mine]


def killed(client: SageMaker, arn: str) -> Path:
    """Kill the worker while its second step runs."""
    wait_until(lambda: job_statuses(client, "Train") == ["InProgress"])
    folder = client.store.folder(EXECUTION, arn.rpartition("/")[2])
    os.kill(process._pid(folder), signal.SIGKILL)
    wait_until(lambda: not process.alive(folder))
    return folder


def test_a_killed_execution_says_so_and_a_retry_repeats_nothing_that_succeeded(
    client: SageMaker, home: Path, arn: str
) -> None:
    killed(client, arn)
    said = client.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert said["PipelineExecutionStatus"] == "Failed"
    assert said["FailureReason"] == process.DIED
    assert steps(client, arn) == {"quick": "Succeeded", "Train": "Failed"}
    wait_until(lambda: job_statuses(client, "Train") == ["Stopped"])
    (home / "quick").touch()
    client.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=TOKEN)
    wait_until(lambda: status(client, arn) == "Succeeded")
    assert steps(client, arn) == {"quick": "Succeeded", "Train": "Succeeded"}
    assert (job_statuses(client, "quick"), job_statuses(client, "Train")) == (
        ["Completed"],
        ["Stopped", "Completed"],
    )


def test_an_execution_is_not_taken_for_dead_while_its_worker_starts_again(
    client: SageMaker, home: Path, arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(client, arn)
    (home / "quick").touch()
    seen: list[str] = []
    looking = threading.Thread(target=lambda: seen.append(status(client_of(home), arn)))
    start = process.start

    def slowly(*given: Any) -> None:
        looking.start()
        looking.join(0.5)
        start(*given)

    monkeypatch.setattr(process, "start", slowly)
    client.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=TOKEN)
    looking.join()
    assert seen[0] in ("Executing", "Succeeded")
    wait_until(lambda: status(client, arn) == "Succeeded")


def test_nobody_changes_a_record_between_an_execution_and_its_worker(
    client: SageMaker, home: Path, arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[bool] = []
    change = threading.Thread(target=lambda: client_of(home).update_pipeline(PipelineName="p"))

    def watched(*_: Any) -> None:
        change.start()
        change.join(0.2)
        started.append(change.is_alive())

    monkeypatch.setattr(process, "start", watched)
    client.start_pipeline_execution(PipelineName="p", ClientRequestToken=TOKEN)
    change.join()
    assert started == [True]


def test_an_execution_that_is_stopped_at_once_stops(client: SageMaker, arn: str) -> None:
    client.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=TOKEN)
    wait_until(lambda: status(client, arn) == "Stopped")
    assert job_statuses(client, "Train") in ([], ["Stopped"])


def test_what_runs_is_not_retried(client: SageMaker, home: Path, arn: str) -> None:
    killed(client, arn)
    (home / "quick").touch()
    client.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=TOKEN)
    with pytest.raises(ClientError, match="Only a failed or stopped execution can be retried"):
        client.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=TOKEN)
    wait_until(lambda: status(client, arn) == "Succeeded")


def client_of(home: Path) -> SageMaker:
    return SageMaker(home, "eu-west-1")
