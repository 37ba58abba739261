"""Why an endpoint did not become healthy: SageMaker's reason, and the last lines that its containers wrote.

The log group of an endpoint has a stream for each container that ever was; those that wrote last come first.
"""

from collections.abc import Sequence
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.aws_errors import redacted
from ncf.sagemaker.jobs.logs import ENDPOINTS
from ncf.sagemaker.session import Session

LINES = 20


def unhealthy(endpoint: str, reason: str | None, then: str, lines: Sequence[str]) -> CloudError:
    """The error for a change that failed: what happened, what was done about it, and the log's last lines."""
    said = redacted(reason or "SageMaker gives no reason").strip().rstrip(".")
    sentence = f"The endpoint {endpoint} did not become healthy ({said}). {then}"
    group = f"{ENDPOINTS}/{endpoint}"
    if not lines:
        return CloudError(
            f"{sentence} Its log {group} has no line of it: the container did not start, or its role may not write logs.",
            "Unhealthy",
        )
    log = "\n".join(f"  {line}" for line in lines)
    return CloudError(f"{sentence}\nThe log {group} ends with:\n{log}", "Unhealthy")


def tail(session: Session, endpoint: str, since: float = 0.0, most: int = LINES) -> list[str]:
    """The last lines since a time (seconds), without secrets; none where there is no log."""
    client, group = session.client("logs"), f"{ENDPOINTS}/{endpoint}"
    try:
        streams = client.describe_log_streams(logGroupName=group)["logStreams"]
        events: list[dict[str, Any]] = []
        for stream in sorted(streams, key=lambda one: -one.get("lastEventTimestamp", 0))[:3]:
            page = client.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=False
            )
            events += page["events"]
    except CloudError as error:
        if error.code in ("ResourceNotFoundException", "AccessDeniedException"):
            return []
        raise
    new = sorted(
        (one for one in events if one["timestamp"] >= since * 1000), key=lambda one: one["timestamp"]
    )
    return [redacted(str(one["message"]).rstrip()) for one in new[-most:]]
