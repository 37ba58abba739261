"""Executions of pipelines in workers: none that lives is taken for dead, and one that was killed can be
retried.
"""

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ncf.sagemaker.local import local_client, process
from ncf.sagemaker.local.plane import DIED, ControlPlane
from processes import wait_until
from sagemaker.local.conftest import ROLE
from sagemaker.local.fake_worker import fake_plane

Training = Callable[..., dict[str, Any]]
TOKEN = "t" * 32


@pytest.fixture
def arn(client: Any, training: Training) -> str:
    """An execution of which the first step is quick and the second is not, until there is a file `quick`."""
    request = {name: value for name, value in training("x").items() if name != "TrainingJobName"}
    steps = [{"Name": name, "Type": "Training", "Arguments": request} for name in ("quick", "Train")]
    text = json.dumps({"Version": "2020-12-01", "Parameters": [], "Steps": steps})
    client.create_pipeline(PipelineName="p", PipelineDefinition=text, RoleArn=ROLE, ClientRequestToken=TOKEN)
    answer = client.start_pipeline_execution(PipelineName="p", ClientRequestToken=TOKEN)
    return str(answer["PipelineExecutionArn"])


def status(client: Any, arn: str) -> str:
    return str(client.describe_pipeline_execution(PipelineExecutionArn=arn)["PipelineExecutionStatus"])


def steps(client: Any, arn: str) -> dict[str, str]:
    entries = client.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    return {entry["StepName"]: entry["StepStatus"] for entry in entries}


def job_statuses(plane: ControlPlane, step: str) -> list[str]:
    """Of the jobs of a step, the oldest first."""
    return [job.status for job in plane.store.all("TrainingJob") if step in job.name]


def killed(client: Any, plane: ControlPlane, arn: str) -> None:
    """Kill the worker while its second step runs."""
    wait_until(
        lambda: any(
            "-Train-" in job.name and "FinalMetricDataList" in job.state
            for job in plane.store.all("TrainingJob")
        )
    )
    folder = plane.store.get("PipelineExecution", arn).folder / "run"
    os.kill(process.pid(folder), signal.SIGKILL)
    wait_until(lambda: not process.alive(folder))


def test_a_killed_execution_says_so_and_a_retry_repeats_nothing_that_succeeded(
    client: Any, plane: ControlPlane, arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the worker of the retry starts, another command must not take the execution for dead."""
    killed(client, plane, arn)
    described = client.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert (described["PipelineExecutionStatus"], described["FailureReason"]) == ("Failed", DIED)
    assert steps(client, arn) == {"quick": "Succeeded", "Train": "Failed"}
    wait_until(lambda: job_statuses(plane, "Train") == ["Stopped"])
    (plane.store.home / "quick").touch()
    seen: list[str] = []
    home = plane.store.home
    looking = threading.Thread(target=lambda: seen.append(status(other(home), arn)))
    start = process.start

    def slowly(*given: Any) -> None:
        looking.start()
        looking.join(0.5)
        start(*given)

    with monkeypatch.context() as patch:
        patch.setattr(process, "start", slowly)
        client.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=TOKEN)
    with pytest.raises(ClientError, match="Failed or Stopped status can be retried"):
        client.retry_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=TOKEN)
    looking.join()
    assert seen[0] in ("Executing", "Succeeded")
    wait_until(lambda: status(client, arn) == "Succeeded")
    assert steps(client, arn) == {"quick": "Succeeded", "Train": "Succeeded"}
    assert job_statuses(plane, "quick") == ["Completed"]
    assert job_statuses(plane, "Train") == ["Stopped", "Completed"]


def test_an_execution_that_is_stopped_at_once_stops(client: Any, plane: ControlPlane, arn: str) -> None:
    client.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=TOKEN)
    wait_until(lambda: status(client, arn) == "Stopped")
    assert job_statuses(plane, "Train") in ([], ["Stopped"])


def other(home: Path) -> Any:
    """A client as another command has it."""
    return local_client("sagemaker", home, "eu-west-1", fake_plane(home, "eu-west-1"))
