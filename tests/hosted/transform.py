"""Batch transform: objects cut into requests, sent to a model's container, the answers put together as NAME.out.

Source: API reference, CreateTransformJob (BatchStrategy, MaxPayloadInMB) and TransformInput, TransformOutput.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from hosted.context import Context
from hosted.folders import Log, relative, split
from hosted.service import Answer, record_of
from hosted.serving import Models, Server
from hosted.store import Record, invalid, kind_of

GROUP = "/aws/sagemaker/TransformJobs"
_MEGABYTE = 1024 * 1024
_SEE = "See job logs for more information"


class Failed(Exception):
    """Why a job failed, and the line of its data log."""

    def __init__(self, reason: str, line: str = "") -> None:
        super().__init__(reason)
        self.line = line or reason


class Transform:
    """CreateTransformJob and StopTransformJob."""

    def __init__(self, context: Context, models: Models) -> None:
        self.context, self.models = context, models
        self.stops: dict[str, threading.Event] = {}

    def CreateTransformJob(self, region: str, parameters: dict[str, Any]) -> Answer:
        model = self.context.store.get(region, "Model", parameters["ModelName"])
        where = parameters["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
        self.context.data(where, region, model.request.get("ExecutionRoleArn", ""))
        if parameters.get("MaxPayloadInMB", 6) * parameters.get("MaxConcurrentTransforms", 1) > 100:
            raise invalid("MaxConcurrentTransforms * MaxPayloadInMB must not exceed 100 MB")
        if "DataProcessing" in parameters:
            raise invalid("The double has no DataProcessing.")
        record = self.context.store.add(record_of(kind_of("TransformJob"), region, parameters))
        record.set(TransformJobStatus="InProgress")
        self.stops[record.arn] = threading.Event()
        self.context.spawn(lambda: self._run(record, model), record.name)
        return {"TransformJobArn": record.arn}

    def StopTransformJob(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.context.store.get(region, "TransformJob", parameters["TransformJobName"])
        if record.status != "InProgress":
            raise invalid(f"The request was rejected because the transform job is in status {record.status}.")
        record.set(TransformJobStatus="Stopping")
        self.stops[record.arn].set()
        return {}

    def _run(self, record: Record, model: Record) -> None:
        server, stream = None, f"{record.name}/i-{time.time_ns():x}"
        try:
            server = self.models.start(model, record.request.get("Environment"))
            record.set(TransformStartTime=time.time())
            if not server.well(600):
                raise Failed(
                    f"AlgorithmError: {_SEE}", "Model container failed to start: it does not answer /ping."
                )
            self._all(record, server)
            status, reason = "Stopped" if self.stops[record.arn].is_set() else "Completed", None
        except Failed as failed:
            status, reason = "Failed", str(failed)
            Log(self.context.cloud, record.region, GROUP, f"{stream}/data-log").write([failed.line])
        except Exception as error:
            status, reason = "Failed", f"ClientError: {type(error).__name__}: {error}"
        if server:
            server.log(record.region, GROUP, stream)
            server.end()
        more = {"FailureReason": reason} if reason else {}
        record.set(TransformEndTime=time.time(), TransformJobStatus=status, **more)

    def _all(self, record: Record, server: Server) -> None:
        uri = record.request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
        bucket, prefix = split(uri)
        output = record.request["TransformOutput"]["S3OutputPath"].rstrip("/")
        for key in self.context.cloud.keys(uri):
            answers = []
            for body in requests_of(self.context.cloud.read(f"s3://{bucket}/{key}"), record.request):
                if self.stops[record.arn].is_set():
                    return
                answers.append(self._ask(server, body, record.request))
            line = record.request["TransformOutput"].get("AssembleWith") == "Line"
            joined = b"".join(one + b"\n" * (line and not one.endswith(b"\n")) for one in answers)
            self.context.cloud.write(f"{output}/{relative(key, prefix)}.out", joined)

    def _ask(self, server: Server, body: bytes, request: dict[str, Any]) -> bytes:
        asked = {"Content-Type": request["TransformInput"].get("ContentType", "")}
        headers = asked | {"Accept": request["TransformOutput"].get("Accept", "")}
        tries = 1 + request.get("ModelClientConfig", {}).get("InvocationsMaxRetries", 0)
        status, answer = 0, b""
        for _ in range(tries):
            try:
                status, answer, _kind = server.running.ask(
                    "/invocations", body, {k: v for k, v in headers.items() if v}
                )
            except OSError as error:
                status, answer = 503, str(error).encode()
            if status < 500:
                break
        if status >= 300:
            who = "ClientError" if status < 500 else "AlgorithmError"
            raise Failed(
                f"{who}: {_SEE}",
                f"Bad HTTP status returned from invoke: {status} {answer.decode(errors='replace')}",
            )
        return answer


def requests_of(content: bytes, request: dict[str, Any]) -> Iterator[bytes]:
    """The bodies that an object is sent as."""
    most = request.get("MaxPayloadInMB", 6) * _MEGABYTE or 100 * _MEGABYTE
    if request["TransformInput"].get("SplitType", "None") != "Line":
        yield _within(content, most)
        return
    batch: list[bytes] = []
    size = 0
    for line in content.splitlines(keepends=True):
        _within(line, most)
        if batch and (size + len(line) > most or request.get("BatchStrategy") == "SingleRecord"):
            yield b"".join(batch)
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    if batch:
        yield b"".join(batch)


def _within(body: bytes, most: int) -> bytes:
    if len(body) > most:
        raise Failed(f"ClientError: {_SEE}", f"Too much data for max payload size: {len(body)} > {most}")
    return body
