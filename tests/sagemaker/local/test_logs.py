"""Logs as CloudWatch gives them."""

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from ncf.sagemaker.local import local_client, logs

GROUP = "/aws/sagemaker/TrainingJobs"
TEXT = (
    "2026-11-24T10:00:00.500000000Z \x1b[36mone\x1b[0m\r\n"
    "2026-11-24T10:00:01Z  10%|#  |\r 50%|## |\r100%|###|\n"
    "2026-11-24T10:00:02.25Z a loss=1e-1 b\n"
    "2026-11-24T10:00:03Z a loss=nothing\n"
    "2026-11-24T10:00:04Z half a li"
)


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    path = tmp_path / "logs" / "TrainingJobs" / "job" / "algo-1-abcde.log"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT, newline="")
    return path


@pytest.fixture
def client(tmp_path: Path, stream: Path) -> Any:
    return local_client("logs", tmp_path, "us-east-1")


def test_lines_have_times_and_no_colours_and_half_a_line_is_waited_for(stream: Path) -> None:
    events = list(logs.events(stream))
    assert [event["message"] for event in events] == ["one", "100%|###|", "a loss=1e-1 b", "a loss=nothing"]
    assert [event["timestamp"] % 60000 for event in events] == [500, 1000, 2250, 3000]


def test_streams_are_found_by_prefix(client: Any, stream: Path) -> None:
    (stream.parent.parent / "jobs.log").write_text("")
    found = client.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="job/")["logStreams"]
    assert [one["logStreamName"] for one in found] == ["job/algo-1-abcde"]
    assert found[0]["lastEventTimestamp"] - found[0]["firstEventTimestamp"] == 2500


def test_events_come_in_pages_and_the_token_stays_at_the_end(client: Any, stream: Path) -> None:
    ask = {"logGroupName": GROUP, "logStreamName": "job/algo-1-abcde", "startFromHead": True, "limit": 3}
    first = client.get_log_events(**ask)
    second = client.get_log_events(**ask, nextToken=first["nextForwardToken"])
    assert (len(first["events"]), len(second["events"])) == (3, 1)
    token = second["nextForwardToken"]
    last = client.get_log_events(**ask, nextToken=token)
    assert (last["events"], last["nextForwardToken"]) == ([], token)
    with stream.open("a") as file:
        file.write("ne\n")
    assert [one["message"] for one in client.get_log_events(**ask, nextToken=token)["events"]] == [
        "half a line"
    ]


def test_without_a_token_the_last_events_come(client: Any) -> None:
    answer = client.get_log_events(logGroupName=GROUP, logStreamName="job/algo-1-abcde", limit=1)
    assert [event["message"] for event in answer["events"]] == ["a loss=nothing"]


@pytest.mark.parametrize("group", ["/aws/sagemaker/TransformJobs", "/other", "/aws/sagemaker/../.."])
def test_unknown_groups_are_not_found(client: Any, group: str) -> None:
    with pytest.raises(ClientError) as caught:
        client.describe_log_streams(logGroupName=group)
    assert caught.value.response["Error"]["Code"] in ("ResourceNotFoundException", "ValidationException")


def test_an_unknown_stream_is_not_found(client: Any) -> None:
    with pytest.raises(ClientError, match="log stream does not exist"):
        client.get_log_events(logGroupName=GROUP, logStreamName="job/none")


def test_groups_are_listed_and_deleted(client: Any, stream: Path, tmp_path: Path) -> None:
    endpoint = tmp_path / "logs" / "Endpoints" / "e" / "AllTraffic" / "algo-1-x.log"
    endpoint.parent.mkdir(parents=True)
    endpoint.write_text("")
    names = [one["logGroupName"] for one in client.describe_log_groups()["logGroups"]]
    assert names == ["/aws/sagemaker/Endpoints/e", GROUP]
    client.delete_log_group(logGroupName=GROUP)
    assert not stream.exists()
    assert endpoint.exists()


def test_metrics_are_the_last_figures_of_their_definitions(stream: Path) -> None:
    found = logs.metrics(
        [stream], [{"Name": "loss", "Regex": r"loss=(\S+)"}, {"Name": "hr", "Regex": r"hr=(\S+)"}]
    )
    assert [(one["MetricName"], one["Value"]) for one in found] == [("loss", 0.1)]


def test_the_tail_is_one_line_of_the_last_ones(stream: Path) -> None:
    assert logs.tail([stream], 2) == "a loss=1e-1 b / a loss=nothing"
