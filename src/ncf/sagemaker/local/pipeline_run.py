"""One execution of a pipeline in local mode: the steps of the definition, in its order, over the local client.

In: the record of the execution. Out: the same, with what became of each step. Types that it knows: Processing, Training,
Condition, RegisterModel, Fail. Steps that have succeeded are passed over, so a second run of a failed execution goes on
where it stopped.
"""

from __future__ import annotations

import json
import operator
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ncf.errors import CloudError, NcfError
from ncf.sagemaker.local.pipelines import EXECUTION, ended
from ncf.sagemaker.local.state import Record, Store, moment
from ncf.sagemaker.pipelines.values import at_path, resolve

SECONDS_BETWEEN_LOOKS = 0.5
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq, "NotEquals": operator.ne, "GreaterThan": operator.gt, "LessThan": operator.lt,
    "GreaterThanOrEqualTo": operator.ge, "LessThanOrEqualTo": operator.le,
}  # fmt: skip


class StoppedHere(Exception):
    """The execution was asked to stop."""


def run_execution(store: Store, record: Record) -> None:
    """What a worker does, until the end or the wish to stop that may have come before."""
    from ncf.sagemaker.aws_errors import Guarded
    from ncf.sagemaker.local.client import SageMaker
    from ncf.sagemaker.local.watch import STOPPING

    client = Guarded(SageMaker(store.home, store.region), "sagemaker")
    Interpreter(client, store, record, STOPPING.is_set).run()


class Interpreter:
    """Runs an execution through a client that is shaped as boto3's."""

    def __init__(self, client: Any, store: Store, record: Record, stop: Callable[[], bool]) -> None:
        self._client, self._store, self._record, self._stop = client, store, record, stop
        self._steps = {step["Name"]: step for step in _all_steps(record["definition"]["Steps"])}
        self._types: dict[str, Callable[[dict[str, Any], dict[str, Any]], None]] = {
            "Processing": self._processing, "Training": self._training, "Condition": self._condition,
            "RegisterModel": self._register, "Fail": self._fail,
        }  # fmt: skip

    def run(self) -> None:
        """Every step, until one fails or all are done."""
        name = self._record["name"]
        try:
            self._run(self._record["definition"]["Steps"])
        except StoppedHere:
            ended(self._store, name, "Stopped")
        except NcfError as error:
            ended(self._store, name, "Failed", str(error))
        else:
            ended(self._store, name, "Succeeded")

    def _run(self, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            if self._state().get(step["Name"], {}).get("StepStatus") != "Succeeded":
                self._run_step(step)
            if step["Type"] == "Condition":
                outcome = self._state()[step["Name"]]["Metadata"]["Condition"]["Outcome"]
                self._run(step["Arguments"].get("IfSteps" if outcome == "True" else "ElseSteps", []))

    def _run_step(self, step: dict[str, Any]) -> None:
        if self._stop():
            raise StoppedHere
        if step["Type"] not in self._types:
            raise CloudError(f"Local mode has no steps of the type {step['Type']}.")
        self._note(step["Name"], StepStatus="Executing", StartTime=time.time(), AttemptCount=1)
        branches = ("IfSteps", "ElseSteps")
        plain = {name: value for name, value in step["Arguments"].items() if name not in branches}
        try:
            self._types[step["Type"]](step, resolve(plain, self._get))
        except NcfError as error:
            self._note(step["Name"], StepStatus="Failed", FailureReason=str(error), EndTime=time.time())
            raise CloudError(f"The step {step['Name']} failed: {error}") from error
        self._note(step["Name"], StepStatus="Succeeded", EndTime=time.time())

    def _processing(self, step: dict[str, Any], arguments: dict[str, Any]) -> None:
        name = self._job_name(step)
        self._note(step["Name"], Metadata={"ProcessingJob": {"Arn": self._store.arn("processing-job", name)}})
        self._client.create_processing_job(ProcessingJobName=name, **arguments)
        self._wait(
            lambda: self._client.describe_processing_job(ProcessingJobName=name),
            lambda: self._client.stop_processing_job(ProcessingJobName=name),
            "ProcessingJobStatus",
        )

    def _training(self, step: dict[str, Any], arguments: dict[str, Any]) -> None:
        name = self._job_name(step)
        self._note(step["Name"], Metadata={"TrainingJob": {"Arn": self._store.arn("training-job", name)}})
        self._client.create_training_job(TrainingJobName=name, **arguments)
        self._wait(
            lambda: self._client.describe_training_job(TrainingJobName=name),
            lambda: self._client.stop_training_job(TrainingJobName=name),
            "TrainingJobStatus",
        )

    def _register(self, step: dict[str, Any], arguments: dict[str, Any]) -> None:
        arn = self._client.create_model_package(**arguments)["ModelPackageArn"]
        self._note(step["Name"], Metadata={"RegisterModel": {"Arn": arn}})

    def _condition(self, step: dict[str, Any], arguments: dict[str, Any]) -> None:
        outcome = all(
            _COMPARISONS[one["Type"]](one["LeftValue"], one["RightValue"]) for one in arguments["Conditions"]
        )
        self._note(step["Name"], Metadata={"Condition": {"Outcome": str(outcome)}})

    def _fail(self, step: dict[str, Any], arguments: dict[str, Any]) -> None:
        self._note(step["Name"], Metadata={"Fail": {"ErrorMessage": arguments["ErrorMessage"]}})
        raise CloudError(arguments["ErrorMessage"])

    def _wait(self, look: Callable[[], dict[str, Any]], stop: Callable[[], Any], status: str) -> None:
        """Until the job has ended; raises `CloudError` with its reason where it has failed."""
        stopping = False
        while (answer := look())[status] in ("InProgress", "Stopping"):
            if self._stop() and not stopping:
                stop()
                stopping = True
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if answer[status] == "Stopped" or stopping:
            raise StoppedHere
        if answer[status] == "Failed":
            reason = answer.get("ExitMessage") or answer.get("FailureReason") or "no reason is known"
            raise CloudError(reason.strip())

    def _get(self, name: str) -> Any:
        root, _, path = name.partition(".")
        if root == "Parameters":
            return at_path(self._record["parameters"], path)
        if root == "Execution":
            return self._fact(path)
        step, _, path = path.partition(".")
        if path.startswith("PropertyFiles."):
            return self._property_file(step, path.partition(".")[2])
        return at_path(self._properties(step), path)

    def _fact(self, name: str) -> str:
        facts = {
            "PipelineExecutionId": self._record["name"], "PipelineExecutionArn": self._record["execution_arn"],
            "PipelineName": self._record["pipeline"], "PipelineArn": self._record["pipeline_arn"],
            "StartDateTime": moment(self._record["created"]).isoformat(),
        }  # fmt: skip
        return str(at_path(facts, name))

    def _properties(self, step: str) -> dict[str, Any]:
        """What the step's job or package answers to Describe…"""
        metadata = self._state()[step]["Metadata"]
        calls: dict[str, tuple[Callable[..., dict[str, Any]], str]] = {
            "ProcessingJob": (self._client.describe_processing_job, "ProcessingJobName"),
            "TrainingJob": (self._client.describe_training_job, "TrainingJobName"),
            "RegisterModel": (self._client.describe_model_package, "ModelPackageName"),
        }
        (kind, where), *_ = metadata.items()
        call, key = calls[kind]
        arn = where["Arn"]
        return call(**{key: arn if kind == "RegisterModel" else arn.rpartition("/")[2]})

    def _property_file(self, step: str, name: str) -> Any:
        file = next(
            one for one in self._steps[step].get("PropertyFiles", ()) if one["PropertyFileName"] == name
        )
        uri = at_path(
            self._properties(step), f"ProcessingOutputConfig.Outputs['{file['OutputName']}'].S3Output.S3Uri"
        )
        path = Path(urlparse(uri).path) / file["FilePath"]
        try:
            return json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise CloudError(f"The step {step} left no {file['FilePath']} that can be read ({error}).") from None  # fmt: skip

    def _state(self) -> dict[str, Any]:
        record = self._store.read(EXECUTION, self._record["name"])
        return {} if record is None else dict(record["steps"])

    def _note(self, step: str, **facts: Any) -> None:
        with self._store.editing(EXECUTION, self._record["name"]) as record:
            record.setdefault("steps", {}).setdefault(step, {"StepName": step}).update(facts)

    def _job_name(self, step: dict[str, Any]) -> str:
        """As SageMaker names the jobs of a pipeline."""
        return f"pipelines-{self._record['name']}-{step['Name']}-{secrets.token_hex(5)}"


def _all_steps(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    inner = [one for step in steps for branch in ("IfSteps", "ElseSteps")
             for one in step.get("Arguments", {}).get(branch, ())]  # fmt: skip
    return [*steps, *inner]
