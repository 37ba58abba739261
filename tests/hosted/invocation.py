"""InvokeEndpoint and InvokeEndpointAsync: to the containers of an endpoint, with ModelError, capture and limits as AWS has them.

Sources: Runtime API reference; Developer Guide, "Capture data" and "Asynchronous inference"; Service quotas (payloads).
"""

from __future__ import annotations

import base64
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from hosted.context import Context
from hosted.endpoints import GROUP, Endpoints, Fleet
from hosted.store import ACCOUNT, Record, Refusal
from hosted.wire import Call

HttpReply = tuple[int, dict[str, str], bytes]
MEGABYTE = 1024 * 1024
_MOST, _MOST_SERVERLESS = 25 * MEGABYTE, 4 * MEGABYTE
_AMZN = "X-Amzn-Sagemaker-"


class Invocations:
    """The runtime."""

    def __init__(self, context: Context, endpoints: Endpoints) -> None:
        self.context, self.endpoints = context, endpoints

    def __call__(self, call: Call) -> HttpReply:
        """One invocation."""
        name = call.path.split("/")[2]
        record, fleet = self._find(call, name)
        asynchronous = fleet.config.get("AsyncInferenceConfig")
        if call.operation == "InvokeEndpointAsync":
            if not asynchronous:
                raise _wrong(f"Endpoint {name} is not an asynchronous endpoint.")
            return self._later(call, record, fleet, asynchronous["OutputConfig"])
        if asynchronous:
            raise _wrong(f"Endpoint {name} is an asynchronous endpoint: use InvokeEndpointAsync.")
        return self._now(call, record, fleet)

    def _find(self, call: Call, name: str) -> tuple[Record, Fleet]:
        found = [one for one in self.context.store.all(call.region, "Endpoint") if one.name == name]
        if not found or found[0].arn not in self.endpoints.fleets:
            raise _wrong(f"Endpoint {name} of account {ACCOUNT} not found.")
        return found[0], self.endpoints.fleets[found[0].arn]

    def _now(self, call: Call, record: Record, fleet: Fleet) -> HttpReply:
        variant = call.headers.get(f"{_AMZN}Target-Variant") or next(iter(fleet.servers))
        serverless = any("ServerlessConfig" in one for one in fleet.config["ProductionVariants"])
        most = _MOST_SERVERLESS if serverless else _MOST
        if len(call.body) > most:
            raise _wrong(f"Request body of {len(call.body)} bytes is more than {most} bytes.", 413)
        status, body, kind = self._ask(fleet, variant, call.body, _headers(call))
        self._log(record, fleet, variant)
        if status >= 300:
            raise model_error(record, status, body.decode("utf-8", "replace"))
        self._capture(record, fleet, variant, (call.body, call.headers.get("Content-Type", "")), (body, kind))
        headers = {"Content-Type": kind, "x-Amzn-Invoked-Production-Variant": variant}
        if custom := call.headers.get(f"{_AMZN}Custom-Attributes"):
            headers[f"{_AMZN}Custom-Attributes"] = custom
        return 200, headers, body

    def _ask(
        self, fleet: Fleet, variant: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes, str]:
        if variant not in fleet.servers:
            raise _wrong(f"Variant {variant} not found.")
        try:
            return fleet.servers[variant].running.ask("/invocations", body, headers)
        except OSError as error:
            return 503, str(error).encode(), "text/plain"

    def _later(self, call: Call, record: Record, fleet: Fleet, output: dict[str, str]) -> HttpReply:
        source = call.headers.get(f"{_AMZN}Inputlocation", "")
        answer, identity = str(uuid.uuid4()), call.headers.get(f"{_AMZN}Inference-Id") or str(uuid.uuid4())
        good = f"{output['S3OutputPath'].rstrip('/')}/{answer}.out"
        bad = f"{output['S3FailurePath'].rstrip('/')}/{answer}-error.out" if "S3FailurePath" in output else ""
        kind = call.headers.get(f"{_AMZN}Content-Type", "application/octet-stream")
        headers = {"Content-Type": kind, "Accept": call.headers.get(f"{_AMZN}Accept", "")}
        variant = next(iter(fleet.servers))

        def work() -> None:
            try:
                status, body, _ = self._ask(fleet, variant, self.context.cloud.read(source), headers)
            except Exception as error:
                status, body = 400, f"The input {source} cannot be read: {error}".encode()
            if status < 300:
                self.context.cloud.write(good, body)
            elif bad:
                said = model_error(record, status, body.decode("utf-8", "replace")).message
                self.context.cloud.write(bad, said.encode())
            self._log(record, fleet, variant)

        self.context.spawn(work, "async")
        places = {f"{_AMZN}OutputLocation": good, **({f"{_AMZN}FailureLocation": bad} if bad else {})}
        return (
            202,
            {"Content-Type": "application/json", **places},
            json.dumps({"InferenceId": identity}).encode(),
        )

    def _log(self, record: Record, fleet: Fleet, variant: str) -> None:
        """What functions of this process said; containers' logs are followed."""
        if self.context.runner.at_once:
            fleet.servers[variant].log(record.region, GROUP + record.name, f"{variant}/{fleet.stream}")

    def _capture(
        self,
        record: Record,
        fleet: Fleet,
        variant: str,
        asked: tuple[bytes, str],
        answered: tuple[bytes, str],
    ) -> None:
        config = fleet.config.get("DataCaptureConfig")
        if not config or not config.get("EnableCapture"):
            return
        modes = {one["CaptureMode"] for one in config["CaptureOptions"]}
        sides = {"Input": ("endpointInput", asked), "Output": ("endpointOutput", answered)}
        data = {sides[mode][0]: _side(mode, *sides[mode][1], config) for mode in sorted(modes & set(sides))}
        now = datetime.now(UTC)
        event = {"eventId": str(uuid.uuid4()), "inferenceTime": now.strftime("%Y-%m-%dT%H:%M:%SZ")}
        line = json.dumps({"captureData": data, "eventMetadata": event, "eventVersion": "0"})
        place = f"{record.name}/{variant}/{now:%Y/%m/%d/%H}/{now:%M-%S}-{now.microsecond // 1000:03}-{uuid.uuid4()}.jsonl"
        self.context.cloud.write(f"{config['DestinationS3Uri'].rstrip('/')}/{place}", f"{line}\n".encode())


def model_error(record: Record, status: int, said: str) -> Refusal:
    """The container's refusal as ModelError."""
    who = "client" if status < 500 else "server"
    console = f"https://{record.region}.console.aws.amazon.com/cloudwatch/home?region={record.region}"
    message = (
        f'Received {who} error ({status}) from primary with message "{said}". See {console}#logEventViewer:group='
        f"{GROUP}{record.name} in account {ACCOUNT} for more information."
    )
    more = {"OriginalStatusCode": status, "OriginalMessage": said, "LogStreamArn": ""}
    return Refusal("ModelError", message, 424, more)


def _side(mode: str, body: bytes, kind: str, config: dict[str, Any]) -> dict[str, str]:
    types, plain = config.get("CaptureContentTypeHeader", {}), kind.partition(";")[0]
    encoding = "JSON" if plain in types.get("JsonContentTypes", ("application/json",)) else "BASE64"
    encoding = "CSV" if plain in types.get("CsvContentTypes", ("text/csv",)) else encoding
    data = base64.b64encode(body).decode() if encoding == "BASE64" else body.decode()
    return {"observedContentType": kind, "mode": mode.upper(), "data": data, "encoding": encoding}


def _headers(call: Call) -> dict[str, str]:
    passed = {name: call.headers[name] for name in ("Content-Type", "Accept") if name in call.headers}
    custom = call.headers.get(f"{_AMZN}Custom-Attributes")
    return passed | ({"X-Amzn-SageMaker-Custom-Attributes": custom} if custom else {})


def _wrong(message: str, status: int = 400) -> Refusal:
    return Refusal("ValidationError", message, status)
