"""Batch transform: files cut into requests, sent to a model's container, the answers put together as
NAME.out.

A request is as many whole lines as the payload admits (`MultiRecord`), one line (`SingleRecord`), or a whole
file. Order is kept, and any error fails the job. Source: API reference, CreateTransformJob, TransformInput,
TransformOutput.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from ncf.errors import CloudError
from ncf.sagemaker.local import docker, logs
from ncf.sagemaker.local.answers import Answer
from ncf.sagemaker.local.endpoints import STARTUP, Server, start_server
from ncf.sagemaker.local.requests import invalid
from ncf.sagemaker.local.state import StateRecord
from ncf.sagemaker.local.surroundings import Plane

GROUP = "/aws/sagemaker/TransformJobs"
_MEBIBYTE = 1 << 20
_PAYLOAD = 6
_SEE = "See job logs for more information"


class TransformError(CloudError):
    """Why a job failed: the sentence, and the code of FailureReason on AWS."""

    def __init__(self, sentence: str, aws: str = "ClientError") -> None:
        super().__init__(sentence)
        self.aws = aws


class Transforms:
    """CreateTransformJob and StopTransformJob."""

    def __init__(self, plane: Plane) -> None:
        self.plane = plane

    def create_transform_job(self, request: Answer) -> Answer:
        """Check a request as AWS does and start the job."""
        plane = self.plane
        container = plane.endpoints.container(request["ModelName"])
        source = request["TransformInput"]["DataSource"]["S3DataSource"]
        if "DataProcessing" in request:
            raise invalid("SageMaker on this machine neither filters nor joins: leave out DataProcessing.")
        if source["S3DataType"] != "S3Prefix":
            raise invalid("SageMaker on this machine transforms an S3Prefix only.")
        plane.storage.check(source["S3Uri"], "The input")
        if request.get("MaxPayloadInMB", _PAYLOAD) * request.get("MaxConcurrentTransforms", 1) > 100:
            raise invalid("MaxConcurrentTransforms * MaxPayloadInMB must not exceed 100 MB")
        if plane.around.local:
            plane.runner.check(container.get("Image", ""))
        name = request["TransformJobName"]
        record = plane.store.add(
            "TransformJob", name, request, TransformJobStatus="InProgress", container=container
        )
        plane.launch(record)
        return {"TransformJobArn": record.arn}

    def stop_transform_job(self, request: Answer) -> Answer:
        """Ask a job to stop."""
        answer: Answer = self.plane.jobs.stop(
            self.plane.store.get("TransformJob", request["TransformJobName"])
        )
        return answer

    def run(self, record: StateRecord, task: str) -> None:
        """From InProgress to Completed, Failed or Stopped."""
        plane, folder, request = self.plane, record.folder / task, record.request
        stream = f"{record.name}/i-{time.time_ns():x}"
        variables = _variables(request)
        server: Server | None = None
        try:
            port = docker.free_port()
            server = start_server(
                plane, record.state["container"], folder, (GROUP, stream), port, record, variables
            )
            record.set(TransformStartTime=time.time())
            if reason := server.unhealthy(max(STARTUP, 600), lambda: self._stopped(record)):
                raise TransformError(reason, "AlgorithmError")
            self._transform(record, folder, server)
            plane.jobs.end(record, "Stopped" if self._stopped(record) else "Completed")
        except TransformError as error:
            if self._stopped(record):
                plane.jobs.end(record, "Stopped")
                return
            if plane.around.local:
                plane.jobs.end(record, "Failed", reason=str(error))
                return
            # AWS keeps the reason in a stream of its own.
            path = plane.log_file(GROUP, f"{stream}/data-log")
            logs.write(path, str(error))
            plane.around.ship_log(path, GROUP, f"{stream}/data-log")
            plane.jobs.end(record, "Failed", reason=f"{error.aws}: {_SEE}")
        finally:
            if server:
                server.end()
            shutil.rmtree(folder / "ml", ignore_errors=True)

    def _transform(self, record: StateRecord, folder: Path, server: Server) -> None:
        """Send every file; the answers go to their place together, when all are there."""
        request = record.request
        uri = request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
        by_line = request["TransformOutput"].get("AssembleWith") == "Line"
        answers = folder / "answers"
        for name, path in self.plane.storage.files(uri, folder / "input"):
            target = answers / f"{name}.out"
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                for body in pieces(path, request):
                    if self._stopped(record):
                        return
                    answer = _ask(server, body, request, path.name)
                    file.write(answer + b"\n" if by_line and not answer.endswith(b"\n") else answer)
        self.plane.storage.send(answers, request["TransformOutput"]["S3OutputPath"])

    def _stopped(self, record: StateRecord) -> bool:
        return not record.reload() or record.status == "Stopping" or self.plane.around.closing


def pieces(path: Path, request: Answer) -> Iterator[bytes]:
    """The bodies that a file is sent as; raises `TransformError` for what is longer than a payload may be."""
    most = request.get("MaxPayloadInMB", _PAYLOAD) * _MEBIBYTE or 100 * _MEBIBYTE
    if request["TransformInput"].get("SplitType", "None") != "Line":
        content = path.read_bytes()
        if len(content) > most:
            raise TransformError(
                f"Too much data for max payload size: {path.name} is longer: set SplitType to Line."
            )
        yield content
        return
    batch: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if len(line) > most:
                raise TransformError(
                    f"Too much data for max payload size: line {number} of {path.name} is longer: raise "
                    f"MaxPayloadInMB."
                )
            if batch and (request.get("BatchStrategy") == "SingleRecord" or size + len(line) > most):
                yield b"".join(batch)
                batch, size = [], 0
            batch.append(line)
            size += len(line)
    if batch:
        yield b"".join(batch)


def _ask(server: Server, body: bytes, request: Answer, name: str) -> bytes:
    headers = {
        "Content-Type": request["TransformInput"].get("ContentType"),
        "Accept": request["TransformOutput"].get("Accept"),
    }  # fmt: skip
    status, answer = 0, b""
    for _ in range(1 + request.get("ModelClientConfig", {}).get("InvocationsMaxRetries", 0)):
        try:
            status, answer, _kind = docker.ask(
                server.port, "/invocations", body, {key: value for key, value in headers.items() if value}
            )
        except OSError as error:
            status, answer = 503, str(error).encode()
        if status < 500:
            break
    if status >= 300:
        text = answer.decode("utf-8", "replace")[:400]
        raise TransformError(
            f"Bad HTTP status returned from invoke: {status}. The container refused a request for {name}: "
            f"{text}",
            "ClientError" if status < 500 else "AlgorithmError",
        )
    return answer


def _variables(request: Answer) -> dict[str, str]:
    """What SageMaker sets in the containers of transform jobs."""
    strategy = {"SingleRecord": "SINGLE_RECORD", "MultiRecord": "MULTI_RECORD"}
    return {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(request.get("MaxPayloadInMB", _PAYLOAD)),
        "SAGEMAKER_BATCH_STRATEGY": strategy[request.get("BatchStrategy", "MultiRecord")],
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "1",
        **request.get("Environment", {}),
    }
