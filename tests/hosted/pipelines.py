"""Pipelines: definitions kept, executions run step by step through the same calls that anybody would make.

Steps: Processing, Training, Transform, Tuning, Model, RegisterModel, Condition, Fail. Independent steps run one after the
other here. The group of a RegisterModel step is made where it is not there.
"""

from __future__ import annotations

import json
import random
import string
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hosted import definitions
from hosted.context import Context
from hosted.definitions import Step
from hosted.service import Answer, description, name_in_arn, record_of
from hosted.store import Record, Refusal, invalid, kind_of

_OVER = ("Completed", "Failed", "Stopped")
_CALLS = {
    "Processing": ("ProcessingJob", "ProcessingJobName"), "Training": ("TrainingJob", "TrainingJobName"),
    "Transform": ("TransformJob", "TransformJobName"), "Tuning": ("HyperParameterTuningJob", "HyperParameterTuningJobName"),
    "Model": ("Model", "ModelName"), "RegisterModel": ("ModelPackage", None),
}  # fmt: skip
_METADATA = {"HyperParameterTuningJob": "TuningJob", "ModelPackage": "RegisterModel"}


class Stop(Exception):
    """The execution ends here: why, and as what."""


@dataclass
class Execution:
    """One run of a definition."""

    record: Record
    definition: dict[str, Any]
    values: dict[str, Any]
    steps: list[dict[str, Any]] = field(default_factory=list)
    """As ListPipelineExecutionSteps has them, the oldest first."""
    made: dict[str, Record] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)


class Pipelines:
    """All calls about pipelines."""

    def __init__(self, context: Context, call: Callable[[str, str, dict[str, Any]], Answer]) -> None:
        self.context, self.call = context, call
        self.executions: dict[str, Execution] = {}

    def CreatePipeline(self, region: str, parameters: dict[str, Any]) -> Answer:
        self.context.role(parameters["RoleArn"])
        parameters = self._with_definition(parameters)
        record = self.context.store.add(record_of(kind_of("Pipeline"), region, parameters))
        record.set(PipelineStatus="Active")
        return {"PipelineArn": record.arn}

    def UpdatePipeline(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.context.store.get(region, "Pipeline", parameters["PipelineName"])
        record.request |= self._with_definition(parameters)
        record.set()
        return {"PipelineArn": record.arn}

    def DeletePipeline(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.context.store.get(region, "Pipeline", parameters["PipelineName"])
        mine = [one for one in self.executions.values() if one.record.request["PipelineName"] == record.name]
        if any(one.record.status == "Executing" for one in mine):
            raise Refusal("ConflictException", f"Pipeline {record.arn} has running executions.")
        for one in (record, *(execution.record for execution in mine)):
            self.context.store.remove(one)
        return {"PipelineArn": record.arn}

    def StartPipelineExecution(self, region: str, parameters: dict[str, Any]) -> Answer:
        pipeline = self.context.store.get(region, "Pipeline", parameters["PipelineName"])
        definition = definitions.parsed(pipeline.request["PipelineDefinition"])
        given = {one["Name"]: one["Value"] for one in parameters.get("PipelineParameters", ())}
        values = definitions.arguments(definition, given)
        identity = "".join(random.choices(string.ascii_lowercase + string.digits, k=12))
        request = parameters | {"PipelineName": pipeline.name, "PipelineArn": pipeline.arn}
        record = Record(
            kind_of("PipelineExecution"),
            f"{pipeline.name}/execution/{identity}",
            region,
            request,
            dict(pipeline.tags),
        )
        self.context.store.add(record)
        record.set(PipelineExecutionStatus="Executing", StartTime=time.time(), PipelineExecutionDisplayName=parameters.get("PipelineExecutionDisplayName", f"execution-{time.time_ns()}"))  # fmt: skip
        execution = self.executions[record.arn] = Execution(record, definition, values)
        self.context.spawn(lambda: self._run(execution), identity)
        return {"PipelineExecutionArn": record.arn}

    def StopPipelineExecution(self, region: str, parameters: dict[str, Any]) -> Answer:
        execution = self._execution(region, parameters)
        if execution.record.status != "Executing":
            raise invalid("Only pipeline executions with Executing status can be stopped.")
        execution.record.set(PipelineExecutionStatus="Stopping")
        execution.stop.set()
        return {"PipelineExecutionArn": execution.record.arn}

    def RetryPipelineExecution(self, region: str, parameters: dict[str, Any]) -> Answer:
        execution = self._execution(region, parameters)
        if execution.record.status not in ("Failed", "Stopped"):
            raise invalid("Only pipeline executions with Failed or Stopped status can be retried.")
        execution.steps = [one for one in execution.steps if one["StepStatus"] == "Succeeded"]
        execution.stop.clear()
        execution.record.state.pop("FailureReason", None)
        execution.record.set(PipelineExecutionStatus="Executing")
        self.context.spawn(lambda: self._run(execution), name_in_arn(execution.record.arn))
        return {"PipelineExecutionArn": execution.record.arn}

    def ListPipelineExecutions(self, region: str, parameters: dict[str, Any]) -> Answer:
        from hosted.service import listing

        name = self.context.store.get(region, "Pipeline", parameters["PipelineName"]).name
        mine = [
            one
            for one in self.context.store.all(region, "PipelineExecution")
            if one.request["PipelineName"] == name
        ]
        return listing("ListPipelineExecutions", mine, parameters)

    def ListPipelineExecutionSteps(self, region: str, parameters: dict[str, Any]) -> Answer:
        steps = self._execution(region, parameters).steps
        ordered = steps if parameters.get("SortOrder") == "Ascending" else steps[::-1]
        first, size = int(parameters.get("NextToken", 0)), parameters.get("MaxResults", 10)
        more = {"NextToken": str(first + size)} if first + size < len(ordered) else {}
        return {"PipelineExecutionSteps": ordered[first : first + size], **more}

    def ListPipelineParametersForExecution(self, region: str, parameters: dict[str, Any]) -> Answer:
        values = self._execution(region, parameters).values
        return {"PipelineParameters": [{"Name": name, "Value": str(value)} for name, value in values.items()]}

    def DescribePipelineDefinitionForExecution(self, region: str, parameters: dict[str, Any]) -> Answer:
        execution = self._execution(region, parameters)
        return {
            "PipelineDefinition": json.dumps(execution.definition),
            "CreationTime": execution.record.created,
        }

    def _execution(self, region: str, parameters: dict[str, Any]) -> Execution:
        return self.executions[
            self.context.store.get(region, "PipelineExecution", parameters["PipelineExecutionArn"]).arn
        ]

    def _with_definition(self, parameters: dict[str, Any]) -> dict[str, Any]:
        if place := parameters.get("PipelineDefinitionS3Location"):
            text = self.context.cloud.read(f"s3://{place['Bucket']}/{place['ObjectKey']}").decode()
            parameters = parameters | {"PipelineDefinition": text}
        if "PipelineDefinition" in parameters:
            definitions.parsed(parameters["PipelineDefinition"])
        return parameters

    def _run(self, execution: Execution) -> None:
        waiting = list(execution.definition["Steps"])
        try:
            self._steps(execution, waiting)
            execution.record.set(PipelineExecutionStatus="Succeeded")
        except Stop as stop:
            status = "Stopped" if execution.stop.is_set() else "Failed"
            execution.record.set(
                PipelineExecutionStatus=status, **({"FailureReason": str(stop)} if status == "Failed" else {})
            )

    def _steps(self, execution: Execution, steps: list[Step]) -> None:
        waiting, names = list(steps), {step["Name"] for step in steps}
        done: set[str] = set()
        while waiting:
            ready = next((one for one in waiting if not (definitions.needs(one) & names) - done), None)
            if ready is None:
                raise Stop("The steps of the pipeline wait for one another.")
            waiting.remove(ready)
            self._step(execution, ready)
            done.add(ready["Name"])

    def _step(self, execution: Execution, step: Step) -> None:
        """Run a step and what a condition chooses; one that has succeeded before a retry is passed over."""
        earlier = next((one for one in execution.steps if one["StepName"] == step["Name"]), None)
        if earlier is not None:
            self._steps(execution, _chosen(step, earlier.get("Metadata", {})))
            return
        entry: dict[str, Any] = {
            "StepName": step["Name"],
            "StartTime": time.time(),
            "StepStatus": "Executing",
            "AttemptCount": 1,
        }
        execution.steps.append(entry)
        chosen: list[Step] = []
        try:
            if execution.stop.is_set() or self.context.closing.is_set():
                raise Stop("stopped")
            if step["Type"] == "Condition":
                chosen = self._decide(execution, step, entry)
            elif step["Type"] == "Fail":
                said = definitions.resolved(step["Arguments"]["ErrorMessage"], self._get(execution))
                entry["Metadata"] = {"Fail": {"ErrorMessage": said}}
                raise Stop(said)
            else:
                self._make(execution, step, entry)
        except Stop as stop:
            entry |= {
                "StepStatus": "Stopped" if execution.stop.is_set() else "Failed",
                "EndTime": time.time(),
                "FailureReason": str(stop),
            }
            raise
        except (Refusal, LookupError, TypeError, StopIteration) as error:
            reason = f"ClientError: {error}"
            entry |= {"StepStatus": "Failed", "EndTime": time.time(), "FailureReason": reason}
            raise Stop(f"Step {step['Name']} failed: {reason}") from None
        entry |= {"StepStatus": "Succeeded", "EndTime": time.time()}
        self._steps(execution, chosen)

    def _decide(self, execution: Execution, step: Step, entry: dict[str, Any]) -> list[Step]:
        asked = step["Arguments"]
        true = all(definitions.holds(one, self._get(execution)) for one in asked["Conditions"])
        entry["Metadata"] = {"Condition": {"Outcome": str(true)}}
        return _chosen(step, entry["Metadata"])

    def _make(self, execution: Execution, step: Step, entry: dict[str, Any]) -> None:
        """Make the call of the step and wait until its job is over."""
        kind, key = _CALLS[step["Type"]]
        request = definitions.resolved(step["Arguments"], self._get(execution))
        region, identity = execution.record.region, name_in_arn(execution.record.arn)
        if key:
            request.setdefault(
                key, f"pipelines-{identity}-{step['Name']}"[:52] + f"-{random.randrange(10**10):010}"
            )
        elif group := request.get("ModelPackageGroupName"):
            self._group(region, group)
        arn = next(iter(self.call(region, f"Create{kind}", request).values()))
        record = execution.made[step["Name"]] = self.context.store.by_arn(arn)
        entry["Metadata"] = {_METADATA.get(kind, kind): {"Arn": arn}}
        while key and step["Type"] != "Model" and record.status not in _OVER:
            if execution.stop.is_set():
                self.call(region, f"Stop{kind}", {key: record.name})
                execution.stop.wait(1)
            time.sleep(self.context.pause)
        if record.status in ("Failed", "Stopped"):
            raise Stop(record.state.get("FailureReason", f"The job of step {step['Name']} was stopped."))

    def _group(self, region: str, name: str) -> None:
        try:
            self.context.store.get(region, "ModelPackageGroup", name)
        except Refusal:
            self.call(region, "CreateModelPackageGroup", {"ModelPackageGroupName": name})

    def _get(self, execution: Execution) -> Callable[[str], Any]:
        facts = {
            "PipelineExecutionId": name_in_arn(execution.record.arn), "PipelineName": execution.record.request["PipelineName"],
            "PipelineExecutionArn": execution.record.arn, "PipelineArn": execution.record.request["PipelineArn"],
            "StartDateTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(execution.record.created)),
        }  # fmt: skip

        def get(path: str) -> Any:
            root, _, rest = path.partition(".")
            if root == "Parameters":
                return execution.values[rest]
            if root == "Execution":
                return facts[rest]
            name, _, inner = rest.partition(".")
            if inner.startswith("PropertyFiles."):
                return self._file(execution, name, inner.removeprefix("PropertyFiles."))
            return definitions.at(description(execution.made[name]), inner)

        return get

    def _file(self, execution: Execution, step_name: str, name: str) -> Any:
        steps = definitions.every(execution.definition["Steps"])
        step = next(one for one in steps if one["Name"] == step_name)
        file = next(one for one in step.get("PropertyFiles", ()) if one["PropertyFileName"] == name)
        outputs = execution.made[step_name].request["ProcessingOutputConfig"]["Outputs"]
        uri = definitions.at(outputs, f"['{file['OutputName']}'].S3Output.S3Uri")
        return json.loads(self.context.cloud.read(f"{uri.rstrip('/')}/{file['FilePath']}"))


def _chosen(step: Step, metadata: dict[str, Any]) -> list[Step]:
    """The steps that the outcome of a condition leads to; none for other steps."""
    outcome = metadata.get("Condition", {}).get("Outcome")
    found: list[Step] = step["Arguments"].get("IfSteps" if outcome == "True" else "ElseSteps", [])
    return found
