"""New lines of a job or endpoint as they come, from CloudWatch or from local mode, which answers the same two
calls.

In: a log group and a prefix of stream names, one stream a container. Out: a generator of lines. The one
decision worth knowing: `follow` waits longer each time nothing came, up to ten seconds, and reads once more
after the end, since CloudWatch delivers late.

Source: DescribeLogStreams and GetLogEvents, Amazon CloudWatch Logs API Reference.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.calls import entries
from ncf.sagemaker.session import Session

TRAINING = "/aws/sagemaker/TrainingJobs"
PROCESSING = "/aws/sagemaker/ProcessingJobs"
TRANSFORM = "/aws/sagemaker/TransformJobs"
ENDPOINTS = "/aws/sagemaker/Endpoints"
_SHORTEST, _LONGEST = 1.0, 10.0


@dataclass(frozen=True)
class Line:
    """One line of a container's log."""

    container: str
    """The stream after the prefix: `algo-1-1732460000`."""
    time: datetime
    text: str


class Reader:
    """Reads the streams of a log group whose names begin with `prefix`, and remembers how far."""

    def __init__(self, session: Session, group: str, prefix: str) -> None:
        self._logs = session.client("logs")
        self._group, self._prefix = group, prefix
        self._tokens: dict[str, str] = {}

    def new(self) -> Iterator[Line]:
        """Yield what has come since the last call; nothing where there are no logs yet."""
        for stream in stream_names(self._logs, self._group, self._prefix):
            yield from self._events(stream)

    def _events(self, stream: str) -> Iterator[Line]:
        while True:
            token = self._tokens.get(stream)
            page: dict[str, Any] = self._logs.get_log_events(
                logGroupName=self._group, logStreamName=stream, startFromHead=True,
                **({"nextToken": token} if token else {}),
            )  # fmt: skip
            for event in page["events"]:
                yield _line(event, stream.removeprefix(self._prefix).lstrip("/"))
            following = page.get("nextForwardToken")
            if following:
                self._tokens[stream] = following
            # CloudWatch returns the same token at the end of a stream.
            if not page["events"] or following in (None, token):
                return


def stream_names(client: Any, group: str, prefix: str) -> list[str]:
    """The streams of a log group whose names begin with `prefix`, sorted; none without such a group."""
    streams = entries(
        client, "describe_log_streams", "logStreams", logGroupName=group, logStreamNamePrefix=prefix
    )
    try:
        return sorted(stream["logStreamName"] for stream in streams)
    except CloudError as error:
        if error.code != "ResourceNotFoundException":
            raise
        return []


def read(session: Session, group: str, prefix: str) -> list[Line]:
    """Every line that is there now."""
    return list(Reader(session, group, prefix).new())


def follow(
    session: Session,
    group: str,
    prefix: str,
    ended: Callable[[], bool],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Line]:
    """Yield lines as they come until `ended()`, which is asked between two readings; then the rest."""
    reader, wait, over = Reader(session, group, prefix), _SHORTEST, False
    while True:
        came = False
        for line in reader.new():
            came = True
            yield line
        if over:
            return
        over = ended()
        if not over:
            wait = _SHORTEST if came else min(_LONGEST, wait * 1.5)
            sleep(wait)


def _line(event: dict[str, Any], container: str) -> Line:
    when = datetime.fromtimestamp(event.get("timestamp", 0) / 1000, UTC)
    return Line(container, when, str(event.get("message", "")).rstrip("\n"))
