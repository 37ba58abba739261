"""What an endpoint with data capture was asked and what it answered, read from the JSON lines that SageMaker wrote.

In: objects `DESTINATION/ENDPOINT/VARIANT/yyyy/mm/dd/hh/….jsonl`. Out: a `CapturedRequest` a request, the oldest first.
SageMaker writes them some minutes late. Source: "Capture data from real-time endpoint", SageMaker Developer Guide.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.endpoints.state import find
from ncf.sagemaker.session import Session
from ncf.sagemaker.storage import keys, split


@dataclass(frozen=True)
class CapturedRequest:
    """A request and its answer: what their JSON holds, or their text where they are not JSON."""

    time: str
    id: str
    request: Any
    answer: Any

    def document(self) -> dict[str, Any]:
        """For a line of JSON."""
        return asdict(self)


def captured(session: Session, endpoint: str) -> Iterator[CapturedRequest]:
    """Every pair that was recorded; raises `CloudError` where capture was never on."""
    found = find(session, endpoint)
    config = (found or {}).get("DataCaptureConfig") or {}
    uri = config.get("DestinationS3Uri") or session.uri("capture", endpoint)
    bucket, prefix = split(uri)
    s3, any_there = session.client("s3"), False
    for key in sorted(keys(s3, bucket, f"{prefix}/")):
        any_there = True
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        yield from (_pair(json.loads(line)) for line in body.splitlines() if line.strip())
    if not any_there:
        raise CloudError(
            f"Nothing was recorded at {uri}: deploy {endpoint} with --capture, invoke it, and wait some minutes."
        )


def _pair(line: Mapping[str, Any]) -> CapturedRequest:
    data, event = line["captureData"], line.get("eventMetadata", {})
    return CapturedRequest(
        event.get("inferenceTime", ""), event.get("eventId", ""),
        _content(data.get("endpointInput")), _content(data.get("endpointOutput")),
    )  # fmt: skip


def _content(side: Mapping[str, Any] | None) -> Any:
    if side is None:
        return None
    text = side["data"]
    if side.get("encoding") == "BASE64":
        text = base64.b64decode(text).decode("utf-8", "replace")
    try:
        return json.loads(text)
    except ValueError:
        return text
