"""New lines of a job or endpoint as they come, from CloudWatch or from local mode, which answers the same two calls.

In: a log group and the beginning of the names of its streams, one stream a container. Out: a generator of lines. The
one decision worth knowing: `follow` waits longer each time nothing came, up to ten seconds, and after the end it reads
once more, since CloudWatch delivers late.

Source: DescribeLogStreams and GetLogEvents, Amazon CloudWatch Logs API Reference.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.session import Session

TRAINING = "/aws/sagemaker/TrainingJobs"
TRANSFORM = "/aws/sagemaker/TransformJobs"
ENDPOINTS = "/aws/sagemaker/Endpoints"
_SHORTEST, _LONGEST = 1.0, 10.0
_NOT_YET = ("ResourceNotFoundException",)


@dataclass(frozen=True)
class Line:
    """One line of a container."""

    container: str
    """The stream after the prefix: `algo-1-1732460000`."""
    time: datetime
    text: str


class Reader:
    """Remembers how far each stream was read."""

    def __init__(self, session: Session, group: str, prefix: str) -> None:
        self._logs = session.client("logs")
        self._group, self._prefix = group, prefix
        self._tokens: dict[str, str] = {}

    def new(self) -> Iterator[Line]:
        """What has come since the last call; nothing where there are no logs yet."""
        for stream in self._streams():
            yield from self._events(stream)

    def _streams(self) -> list[str]:
        names: list[str] = []
        more: dict[str, str] = {}
        while True:
            try:
                page = self._logs.describe_log_streams(
                    logGroupName=self._group, logStreamNamePrefix=self._prefix, **more
                )
            except CloudError as error:
                if error.code in _NOT_YET:
                    return names
                raise
            names += [one["logStreamName"] for one in page.get("logStreams", ())]
            if not page.get("nextToken"):
                return sorted(names)
            more = {"nextToken": page["nextToken"]}

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
            if not page["events"] or following in (None, token):
                return


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
    """Lines as they come until `ended()`, which is asked between readings; then what is left."""
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
