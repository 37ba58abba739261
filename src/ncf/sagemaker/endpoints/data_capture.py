"""The requests and answers that an endpoint with data capture recorded, read from SageMaker's JSON lines.

In: objects `DESTINATION/ENDPOINT/VARIANT/yyyy/mm/dd/hh/….jsonl`. Out: a `CapturedRequest` for each, the
oldest first. SageMaker writes them some minutes late. Source: "Capture data from real-time endpoint",
SageMaker Developer Guide.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.endpoints.describe import find
from ncf.sagemaker.session import Session
from ncf.sagemaker.storage import keys, split


@dataclass(frozen=True)
class CapturedRequest:
    """A request and its answer, as JSON values, or as text where they are not JSON."""

    time: str
    id: str
    request: Any
    answer: Any

    def document(self) -> dict[str, Any]:
        """The fields, for a line of JSON."""
        return asdict(self)


def captured(session: Session, endpoint: str) -> Iterator[CapturedRequest]:
    """Yield all recorded requests of an endpoint; raises `CloudError` where nothing was recorded."""
    config = (find(session, endpoint) or {}).get("DataCaptureConfig") or {}
    uri = config.get("DestinationS3Uri") or session.uri("capture", endpoint)
    bucket, prefix = split(uri)
    s3 = session.client("s3")
    names = sorted(keys(s3, bucket, f"{prefix}/"))
    if not names:
        raise CloudError(
            f"Nothing was recorded at {uri}: deploy {endpoint} with --capture, invoke it, and wait some "
            "minutes."
        )
    for key in names:
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        yield from (_pair(json.loads(line)) for line in body.splitlines() if line.strip())


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
