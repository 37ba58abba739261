"""Pipelines: definitions kept, executions run step by step through the calls that anybody would make.

Types of steps: Processing, Training, Transform, Tuning, Model, RegisterModel, Condition, Fail. Steps run one
after the other, each after those that it needs. Steps that have succeeded are passed over, so a retry goes on
where an execution failed. Source: "Pipeline definition JSON schema", version 2020-12-01; Developer Guide,
"Pipelines steps".
"""

from __future__ import annotations

import json
import operator
import random
import secrets
import string
import time
from collections.abc import Callable, Iterator
from typing import Any

from ncf.errors import NcfError
from ncf.sagemaker.local.answers import Answer, description, listing
from ncf.sagemaker.local.requests import Refusal, invalid
from ncf.sagemaker.local.state import ENDED, StateRecord
from ncf.sagemaker.local.surroundings import Plane
from ncf.sagemaker.pipelines.values import at_path, references, resolve

Step = dict[str, Any]
_CASTS: dict[str, Callable[[Any], Any]] = {
    "String": str, "Integer": int, "Float": float, "Boolean": lambda text: str(text).lower() == "true",
}  # fmt: skip
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq, "NotEquals": operator.ne, "GreaterThan": operator.gt, "LessThan": operator.lt,
    "GreaterThanOrEqualTo": operator.ge, "LessThanOrEqualTo": operator.le,
}  # fmt: skip
_KINDS = {
    "Processing": "ProcessingJob", "Training": "TrainingJob", "Transform": "TransformJob",
    "Tuning": "HyperParameterTuningJob", "Model": "Model", "RegisterModel": "ModelPackage",
}  # fmt: skip
"""Type of a step -> what it creates."""
_METADATA = {"HyperParameterTuningJob": "TuningJob", "ModelPackage": "RegisterModel"}
_BRANCHES = ("IfSteps", "ElseSteps")


class StepFailed(Exception):
    """The execution ends here, with this reason."""


class StopRequested(Exception):
    """The execution was asked to stop."""


class Pipelines:
    """The calls of pipelines and their executions, and what the worker of an execution does."""

    def __init__(self, plane: Plane) -> None:
        self.plane, self.store = plane, plane.store

    def create_pipeline(self, request: Answer) -> Answer:
        """Keep a new definition, checked."""
        self.plane.around.check_role(request["RoleArn"])
        request = self._with_definition(request)
        return {
            "PipelineArn": self.store.add(
                "Pipeline", request["PipelineName"], request, PipelineStatus="Active"
            ).arn
        }

    def update_pipeline(self, request: Answer) -> Answer:
        """Keep another definition."""
        request = self._with_definition(request)
        with self.store.locked():
            record = self.store.get("Pipeline", request["PipelineName"])
            record.set(**{name: value for name, value in request.items() if name != "PipelineName"})
        return {"PipelineArn": record.arn}

    def delete_pipeline(self, request: Answer) -> Answer:
        """Delete a pipeline and the records of its executions; refused while one runs."""
        record = self.store.get("Pipeline", request["PipelineName"])
        executions = self._executions(record.name)
        if any(execution.status not in ENDED for execution in executions):
            raise Refusal(
                "ConflictException", f"Pipeline {record.arn} has running executions: stop them first."
            )
        for one in (record, *executions):
            self.store.remove(one)
        return {"PipelineArn": record.arn}

    def start_pipeline_execution(self, request: Answer) -> Answer:
        """Start an execution; returns at once."""
        pipeline = self.store.get("Pipeline", request["PipelineName"])
        definition = parsed(pipeline.everything["PipelineDefinition"])
        given = {entry["Name"]: entry["Value"] for entry in request.get("PipelineParameters", ())}
        identity = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))
        tags = [{"Key": key, "Value": value} for key, value in pipeline.tags.items()]
        state = {
            "PipelineExecutionStatus": "Executing", "StartTime": time.time(), "definition": definition,
            "steps": [],
            "values": parameter_values(definition, given),
            "PipelineExecutionDisplayName": request.get("PipelineExecutionDisplayName",
            f"execution-{time.time_ns()}"),
        }  # fmt: skip
        kept = request | {"PipelineName": pipeline.name, "PipelineArn": pipeline.arn, "Tags": tags}
        with self.store.locked():
            record = self.store.add(
                "PipelineExecution", f"{pipeline.name}/execution/{identity}", kept, **state
            )
            self.plane.around.launch(self.plane, record, "run")
        return self._started(record)

    def stop_pipeline_execution(self, request: Answer) -> Answer:
        """Ask an execution to stop its job and end."""
        with self.store.locked():
            record = self._execution(request)
            if record.status != "Executing":
                raise invalid("Only pipeline executions with Executing status can be stopped.")
            record.set(PipelineExecutionStatus="Stopping")
        return {"PipelineExecutionArn": record.arn}

    def retry_pipeline_execution(self, request: Answer) -> Answer:
        """Go on with an execution that failed or was stopped; steps that succeeded are not repeated."""
        with self.store.locked():
            record = self._execution(request)
            if record.status not in ("Failed", "Stopped"):
                raise invalid("Only pipeline executions with Failed or Stopped status can be retried.")
            steps = [step for step in record.state["steps"] if step["StepStatus"] == "Succeeded"]
            record.set(PipelineExecutionStatus="Executing", FailureReason=None, steps=steps)
            self.plane.around.launch(self.plane, record, "run")
        return self._started(record)

    def list_pipeline_executions(self, request: Answer) -> Answer:
        """The executions of a pipeline."""
        name = self.store.get("Pipeline", request["PipelineName"]).name
        return listing("ListPipelineExecutions", self._executions(name), request)

    def list_pipeline_execution_steps(self, request: Answer) -> Answer:
        """The steps that have started, the newest first unless the request says otherwise."""
        steps = self._execution(request).state["steps"]
        ordered = steps if request.get("SortOrder") == "Ascending" else steps[::-1]
        begin, size = int(request.get("NextToken", 0)), request.get("MaxResults", 10)
        more = {"NextToken": str(begin + size)} if begin + size < len(ordered) else {}
        return {"PipelineExecutionSteps": ordered[begin : begin + size], **more}

    def list_pipeline_parameters_for_execution(self, request: Answer) -> Answer:
        """The values of all parameters of an execution."""
        values = self._execution(request).state["values"]
        return {"PipelineParameters": [{"Name": name, "Value": str(value)} for name, value in values.items()]}

    def describe_pipeline_definition_for_execution(self, request: Answer) -> Answer:
        """The definition that an execution runs."""
        record = self._execution(request)
        return {"PipelineDefinition": json.dumps(record.state["definition"]), "CreationTime": record.created}

    def run(self, record: StateRecord, _task: str) -> None:
        """What the worker of an execution does."""
        try:
            Interpreter(self.plane, record).run(record.state["definition"]["Steps"])
        except StopRequested:
            self.ended(record, "Stopped")
        except StepFailed as error:
            self.ended(record, "Failed", str(error))
        else:
            self.ended(record, "Succeeded")

    def ended(self, record: StateRecord, status: str, reason: str = "") -> None:
        """Write down how an execution ended; a step that was under way ends with it."""
        with self.store.locked():
            if not record.reload() or record.status in ENDED:
                return
            steps = record.state["steps"]
            for step in steps:
                if step["StepStatus"] in ("Executing", "Stopping"):
                    step |= {
                        "StepStatus": "Stopped" if status == "Stopped" else "Failed",
                        "EndTime": time.time(),
                    }
                    step |= {"FailureReason": reason} if reason else {}
            more = {"FailureReason": reason} if reason else {}
            record.set(PipelineExecutionStatus=status, steps=steps, tasks=[], **more)

    def stop_jobs(self, record: StateRecord) -> None:
        """Stop the job that an execution waited for whose worker died, since a retry starts another."""
        arns = [
            metadata.get("Arn", "")
            for step in record.state["steps"] if step["StepStatus"] == "Executing"
            for metadata in step.get("Metadata", {}).values()
        ]  # fmt: skip
        for job in self.store.all():
            if job.arn in arns and job.status == "InProgress":
                self.plane.jobs.stop(job)

    def _started(self, record: StateRecord) -> Answer:
        if self.plane.runner.at_once:
            self.plane.settle(record)
        return {"PipelineExecutionArn": record.arn}

    def _executions(self, pipeline: str) -> list[StateRecord]:
        return [one for one in self.store.all("PipelineExecution") if one.request["PipelineName"] == pipeline]

    def _execution(self, request: Answer) -> StateRecord:
        return self.store.get("PipelineExecution", request["PipelineExecutionArn"])

    def _with_definition(self, request: Answer) -> Answer:
        """A request with its definition, which may lie in S3, checked."""
        if location := request.get("PipelineDefinitionS3Location"):
            text = self.plane.storage.read(f"s3://{location['Bucket']}/{location['ObjectKey']}").decode()
            request = request | {"PipelineDefinition": text}
        if "PipelineDefinition" in request:
            parsed(request["PipelineDefinition"])
        return request


class Interpreter:
    """Runs the steps of one execution."""

    def __init__(self, plane: Plane, record: StateRecord) -> None:
        self.plane, self.store, self.record = plane, plane.store, record
        self._steps = {step["Name"]: step for step in every(record.state["definition"]["Steps"])}

    def run(self, steps: list[Step]) -> None:
        """Run steps in the order of need; raises where one fails or a stop was asked for."""
        waiting, names = list(steps), {step["Name"] for step in steps}
        done: set[str] = set()
        while waiting:
            ready = next((step for step in waiting if not (needs(step) & names) - done), None)
            if ready is None:
                raise StepFailed("The steps of the pipeline wait for one another.")
            waiting.remove(ready)
            self._run_step(ready)
            done.add(ready["Name"])

    def _run_step(self, step: Step) -> None:
        """Run a step, and the branch that a condition chooses."""
        name = step["Name"]
        if self._noted(name).get("StepStatus") != "Succeeded":
            if self._asked_to_stop():
                raise StopRequested
            self._note(name, StepStatus="Executing", StartTime=time.time(), AttemptCount=1)
            try:
                self._do(step)
            except (Refusal, NcfError, LookupError, TypeError, StopIteration, ValueError) as error:
                reason = str(error)
                self._note(name, StepStatus="Failed", EndTime=time.time(), FailureReason=reason)
                raise StepFailed(f"Step {name} failed: {reason}") from None
            except StepFailed as error:
                self._note(name, StepStatus="Failed", EndTime=time.time(), FailureReason=str(error))
                raise
            self._note(name, StepStatus="Succeeded", EndTime=time.time())
        if step["Type"] == "Condition":
            outcome = self._noted(name)["Metadata"]["Condition"]["Outcome"]
            self.run(step["Arguments"].get("IfSteps" if outcome == "True" else "ElseSteps", []))

    def _do(self, step: Step) -> None:
        arguments = {name: value for name, value in step["Arguments"].items() if name not in _BRANCHES}
        if step["Type"] == "Condition":
            outcome = all(holds(condition, self._get) for condition in arguments["Conditions"])
            self._note(step["Name"], Metadata={"Condition": {"Outcome": str(outcome)}})
            return
        request = resolve(arguments, self._get)
        if step["Type"] == "Fail":
            self._note(step["Name"], Metadata={"Fail": request})
            raise StepFailed(request["ErrorMessage"])
        self._make(step, request)

    def _make(self, step: Step, request: Answer) -> None:
        """Make the call of a step and wait until its job has ended."""
        kind = _KINDS[step["Type"]]
        if kind == "ModelPackage":
            if (group := request.get("ModelPackageGroupName")) and not self.store.find(
                "ModelPackageGroup", group
            ):
                self.plane.call("CreateModelPackageGroup", {"ModelPackageGroupName": group})
        else:
            # As SageMaker names the jobs of a pipeline.
            identity = self.record.name.rpartition("/")[2]
            name = f"pipelines-{identity}-{step['Name']}"[:52] + f"-{random.randrange(10**10):010}"
            request.setdefault(f"{kind}Name", name)
        arn = next(iter(self.plane.call(f"Create{kind}", request).values()))
        self._note(step["Name"], Metadata={_METADATA.get(kind, kind): {"Arn": arn}})
        record = self._made(step["Name"])
        if not kind.endswith("Job"):
            return
        while record.reload() and record.status not in ENDED:
            if self._asked_to_stop() and record.status == "InProgress":
                self.plane.jobs.stop(record)
            time.sleep(self.plane.around.pause)
        if record.status == "Stopped" or self._asked_to_stop():
            raise StopRequested
        if record.status != "Completed":
            reason = (
                record.state.get("ExitMessage") or record.state.get("FailureReason") or "no reason is known"
            )
            raise StepFailed(f"The step {step['Name']} failed: {reason.strip()}")

    def _get(self, name: str) -> Any:
        """What a `Get` stands for."""
        root, _, path = name.partition(".")
        if root == "Parameters":
            return self.record.state["values"][path]
        if root == "Execution":
            return self._fact(path)
        step, _, path = path.partition(".")
        if path.startswith("PropertyFiles."):
            return self._property_file(step, path.partition(".")[2])
        return at_path(description(self._made(step)), path)

    def _fact(self, name: str) -> str:
        record = self.record
        facts: dict[str, str] = {
            "PipelineExecutionId": record.name.rpartition("/")[2], "PipelineExecutionArn": record.arn,
            "PipelineName": record.request["PipelineName"], "PipelineArn": record.request["PipelineArn"],
            "StartDateTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
        }  # fmt: skip
        return facts[name]

    def _property_file(self, step: str, name: str) -> Any:
        files = self._steps[step].get("PropertyFiles", ())
        file = next(entry for entry in files if entry["PropertyFileName"] == name)
        outputs = self._made(step).request["ProcessingOutputConfig"]["Outputs"]
        uri = at_path(outputs, f"['{file['OutputName']}'].S3Output.S3Uri")
        try:
            return json.loads(self.plane.storage.read(f"{uri.rstrip('/')}/{file['FilePath']}"))
        except (OSError, ValueError) as error:
            raise StepFailed(
                f"The step {step} left no {file['FilePath']} that can be read ({error})."
            ) from None

    def _made(self, step: str) -> StateRecord:
        """What a step has created."""
        (metadata,) = self._noted(step)["Metadata"].values()
        kind = _KINDS[self._steps[step]["Type"]]
        return self.store.get(kind, metadata["Arn"])

    def _noted(self, name: str) -> Step:
        """What is known of a step; empty where it has not started."""
        return next((step for step in self.record.state["steps"] if step["StepName"] == name), {})

    def _note(self, name: str, **facts: Any) -> None:
        with self.store.locked():
            self.record.reload()
            steps = self.record.state["steps"]
            if not self._noted(name):
                steps.append({"StepName": name})
            self._noted(name).update(facts)
            self.record.set(steps=steps)

    def _asked_to_stop(self) -> bool:
        return not self.record.reload() or self.record.status == "Stopping" or self.plane.around.closing


def parsed(text: str) -> dict[str, Any]:
    """A definition; raises what CreatePipeline answers for a wrong one."""
    try:
        definition = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise invalid(f"Unable to parse pipeline definition: {error}") from None
    if definition.get("Version") != "2020-12-01":
        raise invalid(f"Invalid pipeline definition: Version {definition.get('Version')} is not supported.")
    steps = list(every(definition["Steps"]))
    names = {step["Name"] for step in steps}
    if len(names) != len(steps):
        raise invalid("Invalid pipeline definition: step names must be unique.")
    parameters = {entry["Name"] for entry in definition.get("Parameters", ())}
    for step in steps:
        if step["Type"] not in (*_KINDS, "Condition", "Fail"):
            raise invalid(f"SageMaker on this machine has no steps of the type {step['Type']}.")
        for reference in references(step):
            root, _, rest = reference.partition(".")
            known = {"Parameters": parameters, "Steps": names, "Execution": {rest}}.get(root, set())
            if rest.split(".")[0] not in known:
                where = f"unable to resolve {reference} in step {step['Name']}"
                raise invalid(f"Invalid pipeline definition: {where}.")
    return definition


def every(steps: list[Step]) -> Iterator[Step]:
    """All steps, those in the branches of conditions too."""
    for step in steps:
        yield step
        if step["Type"] == "Condition":
            for branch in _BRANCHES:
                yield from every(step["Arguments"].get(branch, []))


def parameter_values(definition: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
    """The value of each parameter in its type; raises AWS's error for a missing, unknown or wrong one."""
    known = {entry["Name"]: entry for entry in definition.get("Parameters", ())}
    if unknown := sorted(set(given) - set(known)):
        raise invalid(
            f"Parameters {unknown} are not defined in the pipeline definition: it has {', '.join(known)}."
        )
    values = {}
    for name, entry in known.items():
        if name not in given and "DefaultValue" not in entry:
            raise invalid(f"Parameters without a default value must be given: {name}.")
        value = given.get(name, entry.get("DefaultValue"))
        if entry.get("EnumValues") and value not in entry["EnumValues"]:
            raise invalid(f"Parameter {name} must be one of {entry['EnumValues']}.")
        try:
            values[name] = _CASTS[entry["Type"]](value)
        except ValueError:
            raise invalid(f"Parameter {name} must be of type {entry['Type']}.") from None
    return values


def needs(step: Step) -> set[str]:
    """Names of the steps that must have ended before this one."""
    inner = {entry["Name"] for entry in every([step])}
    direct = {name for entry in every([step]) for name in entry.get("DependsOn", ())}
    return (direct | {get.split(".")[1] for get in references(step) if get.startswith("Steps.")}) - inner


def holds(condition: dict[str, Any], get: Callable[[str], Any]) -> bool:
    """Whether a condition is true; `get` answers what stands behind a `Get`."""
    kind = condition["Type"]
    if kind == "Not":
        return not holds(condition["Expression"], get)
    if kind in ("Or", "And"):
        return (any if kind == "Or" else all)(holds(inner, get) for inner in condition["Conditions"])
    if kind == "In":
        return resolve(condition["QueryValue"], get) in resolve(condition["Values"], get)
    return bool(
        _COMPARISONS[kind](resolve(condition["LeftValue"], get), resolve(condition["RightValue"], get))
    )
