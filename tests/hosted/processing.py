"""Processing jobs: inputs from S3 to their local paths, one container, outputs back.

Source: Developer Guide, "Build Your Own Processing Container"; API reference, DescribeProcessingJob (ExitMessage).
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from hosted.context import Context
from hosted.folders import Log
from hosted.runners import Spec
from hosted.service import Answer, record_of
from hosted.store import Record, invalid, kind_of

GROUP = "/aws/sagemaker/ProcessingJobs"
_ML = "/opt/ml/"


class Processing:
    """CreateProcessingJob and StopProcessingJob."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.stops: dict[str, threading.Event] = {}

    def CreateProcessingJob(self, region: str, parameters: dict[str, Any]) -> Answer:
        self.context.role(parameters["RoleArn"])
        for one in parameters.get("ProcessingInputs", ()):
            self.context.data(one["S3Input"]["S3Uri"], region, parameters["RoleArn"])
        record = self.context.store.add(record_of(kind_of("ProcessingJob"), region, parameters))
        record.set(ProcessingJobStatus="InProgress")
        self.stops[record.arn] = threading.Event()
        self.context.spawn(lambda: self._run(record), record.name)
        return {"ProcessingJobArn": record.arn}

    def StopProcessingJob(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.context.store.get(region, "ProcessingJob", parameters["ProcessingJobName"])
        if record.status != "InProgress":
            raise invalid(
                f"The request was rejected because the processing job is in status {record.status}."
            )
        record.set(ProcessingJobStatus="Stopping")
        self.stops[record.arn].set()
        return {}

    def _run(self, record: Record) -> None:
        try:
            self._work(record)
        except LookupError as image:
            _end(record, "Failed", FailureReason=f"ClientError: Cannot find the requested image {image}.")
        except Exception as error:
            _end(record, "Failed", FailureReason=f"InternalServerError: the double: {error}")

    def _work(self, record: Record) -> None:
        root, mounts = self.context.folder(record.name), {}
        for one in record.request.get("ProcessingInputs", ()):
            place = _place(root, mounts, one["S3Input"]["LocalPath"])
            self.context.cloud.fetch(one["S3Input"]["S3Uri"], place)
        outputs = list(record.request.get("ProcessingOutputConfig", {}).get("Outputs", ()))
        for one in outputs:
            _place(root, mounts, one["S3Output"]["LocalPath"])
        for folder, name, value in (
            ("config", "processingjobconfig", record.request),
            ("config", "resourceconfig", _HOSTS),
        ):
            (root / folder).mkdir(exist_ok=True)
            (root / folder / f"{name}.json").write_text(json.dumps(value), "utf-8")
        (root / "output").mkdir(exist_ok=True)
        record.set(ProcessingStartTime=time.time())
        code = self._contain(record, root, mounts)
        message = root / "output" / "message"
        said = {"ExitMessage": message.read_text("utf-8")[:1024]} if message.is_file() else {}
        if self.stops[record.arn].is_set():
            return _end(record, "Stopped", **said)
        for one in outputs:
            self.context.cloud.send(
                _place(root, mounts, one["S3Output"]["LocalPath"]), one["S3Output"]["S3Uri"]
            )
        if code:
            reason = f"AlgorithmError: See job logs for more information, exit code: {code}"
            return _end(record, "Failed", FailureReason=reason, **said)
        return _end(record, "Completed", **said)

    def _contain(self, record: Record, root: Path, mounts: dict[str, Path]) -> int:
        application = record.request["AppSpecification"]
        own = {"PROCESSING_JOB_NAME": record.name, "PROCESSING_JOB_ARN": record.arn}
        environment = self.context.environment(record.region) | own | record.request.get("Environment", {})
        spec = Spec(
            name=f"double-{record.name[:40]}-{uuid.uuid4().hex[:6]}", image=application["ImageUri"], root=root, kind="process",
            entrypoint=application.get("ContainerEntrypoint", []), command=application.get("ContainerArguments", []),
            environment=environment, mounts=mounts,
        )  # fmt: skip
        log = Log(self.context.cloud, record.region, GROUP, f"{record.name}/algo-1-{int(time.time())}")
        running = self.context.runner.start(spec)
        end = time.time() + record.request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 86400)
        stop = self.stops[record.arn]
        while (code := running.poll()) is None:
            log.write(running.log())
            if stop.is_set() or time.time() > end:
                running.stop(120)
            time.sleep(self.context.pause)
        log.write(running.log())
        running.end()
        return code


_HOSTS = {"current_host": "algo-1", "hosts": ["algo-1"]}


def _place(root: Path, mounts: dict[str, Path], inside: str) -> Path:
    """The folder here of a folder in the container."""
    if inside.startswith(_ML):
        place = root / inside.removeprefix(_ML)
    else:
        place = mounts.setdefault(inside, root / "mounts" / inside.strip("/").replace("/", "-"))
    place.mkdir(parents=True, exist_ok=True)
    return place


def _end(record: Record, status: str, **more: Any) -> None:
    record.set(ProcessingEndTime=time.time(), ProcessingJobStatus=status, **more)
