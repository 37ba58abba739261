"""Log lines as they come."""

import time

import pytest

from aws import Aws
from ncf.errors import CloudError
from ncf.sagemaker.jobs.logs import TRAINING, follow, read
from ncf.sagemaker.session import Session


def put(aws: Aws, stream: str, *lines: str) -> None:
    logs = aws.client("logs")
    for create, names in (
        (logs.create_log_group, {"logGroupName": TRAINING}),
        (logs.create_log_stream, {"logGroupName": TRAINING, "logStreamName": stream}),
    ):
        try:
            create(**names)
        except logs.exceptions.ResourceAlreadyExistsException:
            continue
    events = [
        {"timestamp": int(time.time() * 1000) + place, "message": line} for place, line in enumerate(lines)
    ]
    logs.put_log_events(logGroupName=TRAINING, logStreamName=stream, logEvents=events)


@pytest.fixture
def session(aws: Aws) -> Session:
    return aws.session()


def test_there_may_be_no_logs_yet(session: Session) -> None:
    assert read(session, TRAINING, "job/") == []


def test_lines_of_one_job_alone(aws: Aws, session: Session) -> None:
    put(aws, "job/algo-1-17", "one", "two")
    put(aws, "job-2/algo-1-17", "another job's")
    lines = read(session, TRAINING, "job/")
    assert [line.text for line in lines] == ["one", "two"]
    assert lines[0].container == "algo-1-17"
    assert abs(lines[0].time.timestamp() - time.time()) < 60


def test_followed_to_the_end_without_a_line_twice(aws: Aws, session: Session) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            put(aws, "job/algo-1-17", "late")

    put(aws, "job/algo-1-17", "early")
    lines = [line.text for line in follow(session, TRAINING, "job/", lambda: len(waits) >= 4, sleep=sleep)]
    assert lines == ["early", "late"]
    assert waits[1] > waits[0], "waits longer while nothing comes"
    assert waits[3] == waits[0], "and shortly again once something came"


def test_what_comes_after_the_end_is_read_too(aws: Aws, session: Session) -> None:
    def ended() -> bool:
        put(aws, "job/algo-1-17", "the last words")
        return True

    put(aws, "job/algo-1-17", "early")
    assert [line.text for line in follow(session, TRAINING, "job/", ended)] == ["early", "the last words"]


def test_two_containers(aws: Aws, session: Session) -> None:
    put(aws, "job/algo-1-17", "of one")
    put(aws, "job/algo-2-17", "of two")
    assert {(line.container, line.text) for line in read(session, TRAINING, "job/")} == {
        ("algo-1-17", "of one"),
        ("algo-2-17", "of two"),
    }


def test_a_refusal_is_not_taken_for_no_logs(aws: Aws, session: Session) -> None:
    aws.fail("DescribeLogStreams", "AccessDeniedException")
    with pytest.raises(CloudError, match="may not do this"):
        read(session, TRAINING, "job/")
