"""`Logs`: what the containers wrote, shaped as CloudWatch Logs; and what a job's log tells of it.

The group `/aws/sagemaker/TrainingJobs` is the folder `home/logs/TrainingJobs`, a stream is a file in it. Lines come from
Docker with their times (`docker logs --timestamps`); colour codes and what a progress bar overwrote are taken out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ncf.sagemaker.local import requests
from ncf.sagemaker.local.state import moment

GROUPS = {
    "training-job": "TrainingJobs", "processing-job": "ProcessingJobs", "transform-job": "TransformJobs",
    "deployment": "Endpoints",
}  # fmt: skip
_ROOT = "/aws/sagemaker/"
_MOST = 10_000
_LINE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z ?(.*)", re.DOTALL)
_COLOUR = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9])")
_COMPOSE = re.compile(r"^[\w.-]*algo-\d+-\w+\s*\|\s?")
_WORDS = 400


class Logs:
    """The calls of boto3's `logs` that are of use here."""

    def __init__(self, home: Path, region: str) -> None:
        self._folder = home / "logs"
        self._region = region

    def __getattr__(self, name: str) -> Any:
        raise requests.absent("logs", name)

    def describe_log_groups(self, **request: Any) -> dict[str, Any]:
        """Groups that something was written to (DescribeLogGroups)."""
        requests.check("logs", "describe_log_groups", request)
        prefix = request.get("logGroupNamePrefix", "")
        groups = sorted({_group_of(path.relative_to(self._folder)) for path in self._folder.rglob("*.log")})
        return {"logGroups": [{"logGroupName": name} for name in groups if name.startswith(prefix)]}

    def describe_log_streams(self, **request: Any) -> dict[str, Any]:
        """Streams of a group, by name (DescribeLogStreams)."""
        requests.check("logs", "describe_log_streams", request)
        folder = self._group("describe_log_streams", request["logGroupName"])
        prefix = request.get("logStreamNamePrefix", "")
        found = []
        for path in sorted(folder.rglob("*.log")):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name.startswith(prefix):
                times = [event["timestamp"] for event in events(path)]
                ends = {"firstEventTimestamp": times[0], "lastEventTimestamp": times[-1]} if times else {}
                found.append({"logStreamName": name, **ends})
        return {"logStreams": found}

    def get_log_events(self, **request: Any) -> dict[str, Any]:
        """Events of a stream after a token; the token stays the same at the end (GetLogEvents)."""
        requests.check("logs", "get_log_events", request)
        path = self._group("get_log_events", request["logGroupName"]) / f"{request['logStreamName']}.log"
        if not path.is_file():
            raise _not_found("get_log_events", "The specified log stream does not exist.")
        every, most = list(events(path)), request.get("limit", _MOST)
        begin = 0 if request.get("startFromHead") else max(0, len(every) - most)
        if token := request.get("nextToken"):
            begin = int(token.partition("/")[2])
        given = every[begin : begin + most]
        forward, backward = f"f/{begin + len(given)}", f"b/{begin}"
        return {"events": given, "nextForwardToken": forward, "nextBackwardToken": backward}

    def delete_log_stream(self, **request: Any) -> dict[str, Any]:
        """Remove one stream (DeleteLogStream)."""
        requests.check("logs", "delete_log_stream", request)
        path = self._group("delete_log_stream", request["logGroupName"]) / f"{request['logStreamName']}.log"
        if ".." in path.parts or not path.is_file():
            raise _not_found("delete_log_stream", "The specified log stream does not exist.")
        path.unlink()
        return {}

    def delete_log_group(self, **request: Any) -> dict[str, Any]:
        """Remove what a group holds (DeleteLogGroup)."""
        import shutil

        requests.check("logs", "delete_log_group", request)
        shutil.rmtree(self._group("delete_log_group", request["logGroupName"]))
        return {}

    def _group(self, method: str, name: str) -> Path:
        folder = self._folder / name.removeprefix(_ROOT)
        if not name.startswith(_ROOT) or ".." in folder.parts or not folder.is_dir():
            raise _not_found(method, "The specified log group does not exist.")
        return folder


def stream_folder(home: Path, kind: str, name: str) -> Path:
    """Where the streams of a job, or of an endpoint, lie."""
    return home / "logs" / GROUPS[kind] / name / ("AllTraffic" if kind == "deployment" else "")


def events(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a stream: `timestamp` in milliseconds, `message`."""
    time = 0
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            if not line.endswith("\n"):
                return
            found = _LINE.match(line)
            if found:
                time = _milliseconds(found.group(1), found.group(2) or "")
                line = found.group(3)
            yield {"timestamp": time, "message": plain(line), "ingestionTime": time}


def plain(line: str) -> str:
    """A line as a person reads it: no colours, no compose prefix, the last state of a progress bar."""
    text = _COLOUR.sub("", line).rstrip("\r\n")
    return _COMPOSE.sub("", text.rpartition("\r")[2]).rstrip()


def metrics(streams: Iterable[Path], definitions: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """`FinalMetricDataList`: the last figure that each definition finds."""
    patterns = {one["Name"]: re.compile(one["Regex"]) for one in definitions}
    last: dict[str, dict[str, Any]] = {}
    for stream in streams:
        for event in events(stream):
            for name, pattern in patterns.items():
                if (found := pattern.search(event["message"])) and (value := _number(found)) is not None:
                    when = moment(event["timestamp"] / 1000)
                    last[name] = {"MetricName": name, "Value": value, "Timestamp": when}
    return [last[name] for name in patterns if name in last]


def tail(streams: Iterable[Path], lines: int = 5) -> str:
    """The last lines of a log, in one; traces and empty lines are cut to what fits in a reason."""
    said = [event["message"].strip() for stream in streams for event in events(stream)]
    return " / ".join([one for one in said if one][-lines:])[-_WORDS:]


def _number(found: re.Match[str]) -> float | None:
    try:
        return float(found.group(1))
    except (IndexError, ValueError):
        return None


def _milliseconds(seconds: str, fraction: str) -> int:
    return int(datetime.fromisoformat(f"{seconds}+00:00").timestamp() * 1000 + float(f"0{fraction}") * 1000)


def _group_of(path: Path) -> str:
    return _ROOT + "/".join(path.parts[: 2 if path.parts[0] == "Endpoints" else 1])


def _not_found(method: str, message: str) -> Exception:
    return requests.refusal(method, message, "ResourceNotFoundException")
