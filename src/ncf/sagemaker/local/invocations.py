"""InvokeEndpoint and InvokeEndpointAsync: to the containers of an endpoint, with ModelError, data capture and
limits.

Sources: Runtime API reference; Developer Guide, "Capture data" and "Asynchronous inference"; Service quotas
(payloads).
"""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ncf.sagemaker.local import docker
from ncf.sagemaker.local.endpoints import GROUP
from ncf.sagemaker.local.plane import ControlPlane
from ncf.sagemaker.local.requests import Refusal
from ncf.sagemaker.local.state import StateRecord

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""
_MEBIBYTE = 1 << 20
_MOST, _MOST_SERVERLESS = 25 * _MEBIBYTE, 4 * _MEBIBYTE
_TRIES = 3
_HEADER = "X-Amzn-Sagemaker-"


def invoke(plane: ControlPlane, operation: str, name: str, headers: Mapping[str, str], body: bytes) -> Reply:
    """Answer one invocation; raises `Refusal` as AWS refuses and for what the container refuses.

    `operation` is `InvokeEndpoint` or `InvokeEndpointAsync`, `name` the endpoint's; names of headers are in
    title case.
    """
    record, fleet = _find(plane, name)
    asynchronous = fleet["AsyncInferenceConfig"]
    if operation == "InvokeEndpointAsync":
        if not asynchronous:
            raise _wrong(f"Endpoint {name} is not an asynchronous endpoint.")
        return _later(plane, record, headers, asynchronous["OutputConfig"])
    if asynchronous:
        raise _wrong(f"Endpoint {name} is an asynchronous endpoint: use InvokeEndpointAsync.")
    serverless = any("ServerlessConfig" in variant for variant in fleet["variants"])
    most = _MOST_SERVERLESS if serverless else _MOST
    if len(body) > most:
        raise _wrong(f"Request body of {len(body)} bytes is more than {most} bytes.", 413)
    passed = {key: headers[key] for key in ("Content-Type", "Accept") if key in headers}
    attributes = headers.get(f"{_HEADER}Custom-Attributes")
    if attributes:
        passed["X-Amzn-SageMaker-Custom-Attributes"] = attributes
    variant = headers.get(f"{_HEADER}Target-Variant") or next(iter(fleet["ports"]))
    status, answer, kind = _ask(plane, record, variant, body, passed)
    if status >= 300:
        raise model_error(record, status, answer.decode("utf-8", "replace"))
    _capture(plane, record, fleet, variant, (body, headers.get("Content-Type", "")), (answer, kind))
    reply = {"Content-Type": kind, "x-Amzn-Invoked-Production-Variant": variant}
    return 200, reply | ({f"{_HEADER}Custom-Attributes": attributes} if attributes else {}), answer


def _find(plane: ControlPlane, name: str) -> tuple[StateRecord, dict[str, Any]]:
    found = plane.endpoints.port(name) if ".." not in name else None
    if found is None:
        plane.around.before_call(plane)
        record = plane.store.find("Endpoint", name) if ".." not in name else None
        what = f"not in service, it is {record.status}" if record and plane.around.local else "not found"
        raise _wrong(f"Endpoint {name} of account {plane.store.account} {what}.")
    return found


def _ask(
    plane: ControlPlane, record: StateRecord, variant: str, body: bytes, headers: dict[str, str]
) -> docker.HttpReply:
    """The container's answer; where nobody listens the port is looked up again, as an update may have moved
    it.
    """
    for left in reversed(range(_TRIES)):
        _, fleet = _find(plane, record.name)
        if variant not in fleet["ports"]:
            raise _wrong(f"Variant {variant} not found.")
        try:
            return docker.ask(fleet["ports"][variant], "/invocations", body, headers)
        except OSError as error:
            if not left:
                return 503, str(error).encode(), "text/plain"
            time.sleep(plane.around.pause)
    raise AssertionError


def _later(
    plane: ControlPlane, record: StateRecord, headers: Mapping[str, str], output: dict[str, str]
) -> Reply:
    """Answer at once where the result of an asynchronous invocation is going to lie."""
    source, answer = headers.get(f"{_HEADER}Inputlocation", ""), str(uuid.uuid4())
    identity = headers.get(f"{_HEADER}Inference-Id") or str(uuid.uuid4())
    good = f"{output['S3OutputPath'].rstrip('/')}/{answer}.out"
    bad = f"{output['S3FailurePath'].rstrip('/')}/{answer}-error.out" if "S3FailurePath" in output else ""
    kind = headers.get(f"{_HEADER}Content-Type", "application/octet-stream")
    passed = {"Content-Type": kind, "Accept": headers.get(f"{_HEADER}Accept", "")}

    def work() -> None:
        try:
            body = plane.storage.read(source)
            variant = next(iter(_find(plane, record.name)[1]["ports"]))
            status, content, _ = _ask(plane, record, variant, body, passed)
        except Exception as error:
            status, content = 400, f"The input {source} cannot be read: {error}".encode()
        if status < 300:
            plane.storage.write(good, content)
        elif bad:
            message = model_error(record, status, content.decode("utf-8", "replace")).message
            plane.storage.write(bad, message.encode())

    thread = threading.Thread(target=work)
    thread.start()
    if plane.runner.at_once:
        thread.join()
    locations = {f"{_HEADER}OutputLocation": good, **({f"{_HEADER}FailureLocation": bad} if bad else {})}
    content = json.dumps({"InferenceId": identity}).encode()
    return 202, {"Content-Type": "application/json", **locations}, content


def model_error(record: StateRecord, status: int, message: str) -> Refusal:
    """What the container refused, as ModelError."""
    side = "client" if status < 500 else "server"
    text = (
        f'Received {side} error ({status}) from primary with message "{message}". See the log group '
        f"{GROUP}{record.name} "
        f"in account {record.store.account} for more information."
    )
    more = {"OriginalStatusCode": status, "OriginalMessage": message, "LogStreamArn": GROUP + record.name}
    return Refusal("ModelError", text, 424, more)


def _capture(
    plane: ControlPlane, record: StateRecord, fleet: dict[str, Any], variant: str, request: tuple[bytes, str],
    answer: tuple[bytes, str],
) -> None:  # fmt: skip
    """Write what was asked and answered as data capture does, where the configuration asks for it."""
    config = fleet["DataCaptureConfig"]
    if not config or not config.get("EnableCapture"):
        return
    modes = {entry["CaptureMode"] for entry in config["CaptureOptions"]}
    sides = {"Input": ("endpointInput", request), "Output": ("endpointOutput", answer)}
    data = {sides[mode][0]: _side(mode, *sides[mode][1], config) for mode in sorted(modes & set(sides))}
    now = datetime.now(UTC)
    event = {"eventId": str(uuid.uuid4()), "inferenceTime": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
    line = json.dumps({"captureData": data, "eventMetadata": event, "eventVersion": "0"})
    name = f"{now:%M-%S}-{now.microsecond // 1000:03}-{uuid.uuid4()}.jsonl"
    target = f"{config['DestinationS3Uri'].rstrip('/')}/{record.name}/{variant}/{now:%Y/%m/%d/%H}/{name}"
    plane.storage.write(target, f"{line}\n".encode())


def _side(mode: str, body: bytes, kind: str, config: dict[str, Any]) -> dict[str, str]:
    types, plain = config.get("CaptureContentTypeHeader", {}), kind.partition(";")[0]
    encoding = "JSON" if plain in types.get("JsonContentTypes", ("application/json",)) else "BASE64"
    encoding = "CSV" if plain in types.get("CsvContentTypes", ("text/csv",)) else encoding
    data = base64.b64encode(body).decode() if encoding == "BASE64" else body.decode()
    return {"observedContentType": kind, "mode": mode.upper(), "data": data, "encoding": encoding}


def _wrong(message: str, status: int = 400) -> Refusal:
    return Refusal("ValidationError", message, status)
