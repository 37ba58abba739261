"""Pipelines of local mode: definitions, and executions, each in a worker of its own (`pipeline_run.py`)."""

from __future__ import annotations

import json
import secrets
import string
import time
from typing import Any

from ncf.sagemaker.local import endpoints, jobs, process, requests
from ncf.sagemaker.local.listing import listed
from ncf.sagemaker.local.state import Record, Store, moment

PIPELINE, EXECUTION = "pipeline", "pipeline-execution"
ENDED = ("Succeeded", "Failed", "Stopped")
Answer = dict[str, Any]


class Pipelines:
    """The calls of boto3's `sagemaker` client for pipelines and their executions."""

    store: Store

    def create_pipeline(self, **request: Any) -> Answer:
        """A new pipeline; raises `ClientError` where there is one of that name."""
        requests.check("sagemaker", "create_pipeline", request)
        name = request["PipelineName"]
        with self.store.locked():
            if self.store.read(PIPELINE, name):
                raise requests.refusal(
                    "create_pipeline",
                    f"Pipeline names must be unique within an AWS account and region. Pipeline with name ({name}) already exists.",
                )
            record = self.store.create(PIPELINE, name, request, status="Active")
        return {"PipelineArn": record["arn"]}

    def update_pipeline(self, **request: Any) -> Answer:
        """Another definition."""
        record = self._found("update_pipeline", request)
        with self.store.editing(PIPELINE, record["name"]) as edited:
            edited["request"] |= request
        return {"PipelineArn": record["arn"]}

    def describe_pipeline(self, **request: Any) -> Answer:
        """What is known of a pipeline, its definition among it."""
        record = self._found("describe_pipeline", request)
        return {**record["request"], **_pipeline(record)}

    def list_pipelines(self, **request: Any) -> Answer:
        """Every pipeline."""
        requests.check("sagemaker", "list_pipelines", request)
        return listed(self.store.all(PIPELINE), request, "PipelineSummaries", _pipeline)

    def delete_pipeline(self, **request: Any) -> Answer:
        """Delete a pipeline and the records of its executions; refused while one runs."""
        record = self._found("delete_pipeline", request)
        mine = self._executions(record["name"])
        if any(one["status"] not in ENDED for one in mine):
            raise requests.refusal(
                "delete_pipeline",
                f"Pipeline {record['name']} has executions that run: stop them first.",
                "ConflictException",
            )
        for one in mine:
            self.store.delete(EXECUTION, one["name"])
        self.store.delete(PIPELINE, record["name"])
        return {"PipelineArn": record["arn"]}

    def start_pipeline_execution(self, **request: Any) -> Answer:
        """Start an execution; returns at once."""
        method = "start_pipeline_execution"
        pipeline = self._found(method, request)
        definition = json.loads(pipeline["request"]["PipelineDefinition"])
        values = _parameters(definition, request.get("PipelineParameters", []))
        number = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(12))
        arn = f"{pipeline['arn']}/execution/{number}"
        with self.store.locked():
            record = self.store.create(
                EXECUTION, number, request, status="Executing", definition=definition, parameters=values, steps={},
                pipeline=pipeline["name"], pipeline_arn=pipeline["arn"], execution_arn=arn,
            )  # fmt: skip
            self._launch(record)
        return {"PipelineExecutionArn": arn}

    def retry_pipeline_execution(self, **request: Any) -> Answer:
        """Go on with an execution that failed or was stopped; steps that succeeded are not repeated."""
        method = "retry_pipeline_execution"
        with self.store.locked():
            found = self._execution(method, request)
            if found["status"] not in ("Failed", "Stopped"):
                raise requests.refusal(method, f"Only a failed or stopped execution can be retried, and this is {found['status']}.")  # fmt: skip
            with self.store.editing(EXECUTION, found["name"]) as record:
                record |= {"status": "Executing", "reason": ""}
                record["steps"] = {name: one for name, one in record["steps"].items() if one["StepStatus"] == "Succeeded"}  # fmt: skip
            self._launch(record)
        return {"PipelineExecutionArn": found["execution_arn"]}

    def stop_pipeline_execution(self, **request: Any) -> Answer:
        """Ask an execution to stop its job and end."""
        found = self._execution("stop_pipeline_execution", request)
        with self.store.editing(EXECUTION, found["name"]) as record:
            if record["status"] == "Executing":
                record["status"] = "Stopping"
        process.terminate(self.store.folder(EXECUTION, found["name"]))
        return {"PipelineExecutionArn": found["execution_arn"]}

    def describe_pipeline_execution(self, **request: Any) -> Answer:
        """The state of an execution."""
        record = self._execution("describe_pipeline_execution", request)
        return {"PipelineArn": record["pipeline_arn"], **_execution(record), "CreationTime": moment(record["created"]),
                "LastModifiedTime": moment(record["modified"])}  # fmt: skip

    def list_pipeline_executions(self, **request: Any) -> Answer:
        """The executions of a pipeline, the newest first."""
        record = self._found("list_pipeline_executions", request)
        return listed(self._executions(record["name"]), request, "PipelineExecutionSummaries", _execution)

    def list_pipeline_execution_steps(self, **request: Any) -> Answer:
        """The steps that have started."""
        record = self._execution("list_pipeline_execution_steps", request)
        steps = [
            {name: moment(value) if name.endswith("Time") else value for name, value in step.items()}
            for step in record["steps"].values()
        ]
        down = request.get("SortOrder") == "Descending"
        return {
            "PipelineExecutionSteps": sorted(steps, key=lambda step: step["StartTime"], reverse=bool(down))
        }

    def describe_pipeline_definition_for_execution(self, **request: Any) -> Answer:
        """The definition that an execution runs."""
        record = self._execution("describe_pipeline_definition_for_execution", request)
        return {
            "PipelineDefinition": json.dumps(record["definition"]),
            "CreationTime": moment(record["created"]),
        }

    def list_pipeline_parameters_for_execution(self, **request: Any) -> Answer:
        """The parameters that an execution was started with."""
        record = self._execution("list_pipeline_parameters_for_execution", request)
        return {"PipelineParameters": record["request"].get("PipelineParameters", [])}

    def _launch(self, record: Record) -> None:
        process.start(self.store, record)

    def _found(self, method: str, request: dict[str, Any]) -> Record:
        requests.check("sagemaker", method, request)
        name = request["PipelineName"].rpartition("/")[2]
        record = self.store.read(PIPELINE, name)
        if record is None:
            raise requests.refusal(
                method, f"Pipeline '{self.store.arn(PIPELINE, name)}' does not exist.", "ResourceNotFound"
            )
        return record

    def _execution(self, method: str, request: dict[str, Any]) -> Record:
        requests.check("sagemaker", method, request)
        process.sweep(self.store, mourned)
        arn = request["PipelineExecutionArn"]
        record = self.store.read(EXECUTION, arn.rpartition("/")[2])
        if record is None:
            raise requests.refusal(method, f"Pipeline execution '{arn}' does not exist.", "ResourceNotFound")
        return record

    def _executions(self, pipeline: str) -> list[Record]:
        process.sweep(self.store, mourned)
        return [one for one in self.store.all(EXECUTION) if one["pipeline"] == pipeline]


def died(store: Store, record: Record, reason: str) -> None:
    """The worker of an execution is no more: the job that it waited for is stopped, since a retry starts another."""
    for step in record["steps"].values():
        for made in step.get("Metadata", {}).values() if step["StepStatus"] == "Executing" else ():
            kind, name = store.named(made.get("Arn", ""))
            if store.read(kind, name):
                jobs.move(store, kind, name, "Stopping", "Stopping")
                process.terminate(store.folder(kind, name))
    ended(store, record["name"], "Failed", reason)


def ended(store: Store, name: str, status: str, reason: str = "") -> None:
    """The last word on an execution; a step that was under way ends with it."""
    with store.editing(EXECUTION, name) as record:
        if record.get("status") in ENDED:
            return
        for step in record["steps"].values():
            if step["StepStatus"] in ("Executing", "Stopping"):
                step |= {"StepStatus": "Stopped" if status == "Stopped" else "Failed", "EndTime": time.time()}
                step |= {"FailureReason": reason} if reason else {}
        record |= {"status": status, "reason": reason}


def _parameters(definition: dict[str, Any], given: list[dict[str, str]]) -> dict[str, Any]:
    method, known = "start_pipeline_execution", {one["Name"]: one for one in definition["Parameters"]}
    values = {name: one["DefaultValue"] for name, one in known.items() if "DefaultValue" in one}
    for one in given:
        if one["Name"] not in known:
            raise requests.refusal(method, f"Pipeline has no parameter {one['Name']}: {', '.join(known)}.")
        values[one["Name"]] = _typed(one["Name"], one["Value"], known[one["Name"]]["Type"])
    missing = sorted(set(known) - set(values))
    if missing:
        raise requests.refusal(method, f"Parameters without a default must be given: {', '.join(missing)}.")
    return values


def _typed(name: str, text: str, kind: str) -> Any:
    try:
        return {"Integer": int, "Float": float}.get(kind, str)(text)
    except ValueError:
        raise requests.refusal(
            "start_pipeline_execution", f"Parameter {name} must be of type {kind}."
        ) from None


def _pipeline(record: Record) -> Answer:
    return {
        "PipelineArn": record["arn"], "PipelineName": record["name"], "PipelineStatus": record["status"],
        "CreationTime": moment(record["created"]), "LastModifiedTime": moment(record["modified"]),
    }  # fmt: skip


def _execution(record: Record) -> Answer:
    return {
        "PipelineExecutionArn": record["execution_arn"], "PipelineExecutionStatus": record["status"],
        "StartTime": moment(record["created"]),
    } | ({"FailureReason": record["reason"]} if record.get("reason") else {})  # fmt: skip


def mourned(store: Store, record: Record) -> None:
    if record["kind"] == endpoints.DEPLOYMENT:
        endpoints.failed(store, record, process.DIED)
    elif record["kind"] == EXECUTION:
        died(store, record, process.DIED)
    else:
        jobs.move(store, record["kind"], record["name"], "Failed", "Failed", reason=process.DIED)
