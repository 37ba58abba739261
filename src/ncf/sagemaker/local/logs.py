"""What containers wrote: files below `home/logs`, answered for as CloudWatch Logs does.

The group `/aws/sagemaker/TrainingJobs` is the folder `logs/TrainingJobs`, a stream is a file in it. Docker
writes the time before each line; colour codes and what a progress bar overwrote are taken out when a line is
read.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ncf.sagemaker.local.requests import Refusal

ROOT = "/aws/sagemaker/"
_PAGE = 10_000
_TAIL = 400
"""Characters of a log that fit into a reason."""
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z ?(.*)", re.DOTALL)
_COLOUR = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9])")
Answer = dict[str, Any]


class Logs:
    """The calls of CloudWatch Logs that local mode has; methods are named as boto3 names them."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "logs"

    def describe_log_groups(self, request: Answer) -> Answer:
        """The groups that something was written to."""
        paths = [path.relative_to(self._folder) for path in self._folder.rglob("*.log")]
        # Each endpoint has a group of its own; all jobs of a kind share one.
        names = {ROOT + "/".join(path.parts[: 2 if path.parts[0] == "Endpoints" else 1]) for path in paths}
        prefix = request.get("logGroupNamePrefix", "")
        return {"logGroups": [{"logGroupName": name} for name in sorted(names) if name.startswith(prefix)]}

    def describe_log_streams(self, request: Answer) -> Answer:
        """The streams of a group, by name."""
        folder, prefix = self._group(request), request.get("logStreamNamePrefix", "")
        streams = []
        for path in sorted(folder.rglob("*.log")):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name.startswith(prefix):
                times = [event["timestamp"] for event in events(path)]
                ends = {"firstEventTimestamp": times[0], "lastEventTimestamp": times[-1]} if times else {}
                streams.append({"logStreamName": name, **ends})
        return {"logStreams": streams}

    def get_log_events(self, request: Answer) -> Answer:
        """The events of a stream after a token; at the end the token stays the same."""
        every, most = list(events(self._stream(request))), request.get("limit", _PAGE)
        begin = 0 if request.get("startFromHead") else max(0, len(every) - most)
        if token := request.get("nextToken"):
            begin = int(token.partition("/")[2])
        page = every[begin : begin + most]
        return {
            "events": page,
            "nextForwardToken": f"f/{begin + len(page)}",
            "nextBackwardToken": f"b/{begin}",
        }

    def delete_log_stream(self, request: Answer) -> Answer:
        """Remove one stream."""
        self._stream(request).unlink()
        return {}

    def delete_log_group(self, request: Answer) -> Answer:
        """Remove all streams of a group."""
        shutil.rmtree(self._group(request))
        return {}

    def _group(self, request: Answer) -> Path:
        name: str = request["logGroupName"]
        folder = self._folder / name.removeprefix(ROOT)
        if not name.startswith(ROOT) or ".." in folder.parts or not folder.is_dir():
            raise Refusal("ResourceNotFoundException", "The specified log group does not exist.")
        return folder

    def _stream(self, request: Answer) -> Path:
        path: Path = self._group(request) / f"{request['logStreamName']}.log"
        if ".." in path.parts or not path.is_file():
            raise Refusal("ResourceNotFoundException", "The specified log stream does not exist.")
        return path


def events(path: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """The whole lines of a stream after `start` lines: `timestamp` in milliseconds, `message`."""
    time = 0
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file):
            if not line.endswith("\n"):
                return
            if match := _LINE.match(line):
                time = _milliseconds(match.group(1), match.group(2) or "")
                line = match.group(3)
            if number >= start:
                yield {"timestamp": time, "message": plain(line), "ingestionTime": time}


def write(path: Path, *lines: str) -> None:
    """Append lines to a stream, with the time of now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}Z {line}\n" for line in lines)


def plain(line: str) -> str:
    """A line as a person reads it: no colours, and the last state of a progress bar."""
    return _COLOUR.sub("", line).rstrip("\r\n").rpartition("\r")[2].rstrip()


def metrics(paths: Iterable[Path], definitions: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """`FinalMetricDataList`: the last figure that each metric definition finds in the logs."""
    patterns = {entry["Name"]: re.compile(entry["Regex"]) for entry in definitions}
    last: dict[str, dict[str, Any]] = {}
    for event in (event for path in paths for event in events(path)):
        for name, pattern in patterns.items():
            match = pattern.search(event["message"])
            value = _number(match) if match else None
            if value is not None:
                last[name] = {"MetricName": name, "Value": value, "Timestamp": event["timestamp"] / 1000}
    return [last[name] for name in patterns if name in last]


def tail(paths: Iterable[Path], lines: int = 5) -> str:
    """The last lines of logs, joined by slashes; whole lines, as many as fit into a reason."""
    last = [
        text
        for path in paths
        if path.is_file()
        for event in events(path)
        if (text := event["message"].strip())
    ]
    last = last[-lines:]
    while len(last) > 1 and len(" / ".join(last)) > _TAIL:
        last.pop(0)
    return " / ".join(last)[-_TAIL:]


def _number(match: re.Match[str]) -> float | None:
    try:
        return float(match.group(1))
    except (IndexError, ValueError):
        return None


def _milliseconds(seconds: str, fraction: str) -> int:
    return int(datetime.fromisoformat(f"{seconds}+00:00").timestamp() * 1000 + float(f"0{fraction}") * 1000)
