"""What was recorded is read back as requests and answers."""

import json
from pathlib import Path

import pytest

from aws import Aws
from ncf.errors import CloudError
from ncf.sagemaker.endpoints.data_capture import _content, captured
from ncf.sagemaker.endpoints.invoke import Endpoint, request_document
from ncf.sagemaker.endpoints.outcome import delete
from ncf.sagemaker.endpoints.requests import Hosting
from sagemaker_hosting import answered, deployed, hurried, ncf


@pytest.fixture
def asked(aws: Aws, artifact: Path) -> Aws:
    """An AWS with an endpoint that records, and was asked twice and once in lines."""
    aws.serve(answered)
    deployed(aws.session(), artifact, Hosting(capture=100))
    endpoint = Endpoint(aws.session(), "ncf", boto3=True)
    for user in ("104", "105"):
        endpoint.ask(request_document(users=[user], k=2))
    list(endpoint.ask_lines([b'{"users": ["106"], "k": 1}', b'{"users": ["107"], "k": 1}']))
    return aws


def test_pairs_are_what_was_asked_and_answered(asked: Aws) -> None:
    first, second, lines = sorted(captured(asked.session(), "ncf"), key=lambda pair: str(pair.request))
    by_user = {
        pair.request["users"][0]: pair.answer["recommendations"][0]["user"]
        for pair in (second, lines)
        if isinstance(pair.request, dict)
    }
    texts = [pair.request for pair in (first, second, lines) if isinstance(pair.request, str)]
    assert by_user == {"104": 104, "105": 105}
    assert [json.loads(line)["users"] for line in texts[0].splitlines()] == [["106"], ["107"]]
    assert all(pair.time and pair.id for pair in (first, second, lines))


def test_they_can_be_read_when_the_endpoint_is_gone(asked: Aws) -> None:
    delete(asked.session(), "ncf", progress=hurried())
    assert len(list(captured(asked.session(), "ncf"))) == 3


def test_the_command_prints_or_saves_them(asked: Aws, tmp_path: Path) -> None:
    code, out, _ = ncf("sagemaker", "captured")
    assert (code, len(out.splitlines())) == (0, 3)
    file = tmp_path / "pairs.jsonl"
    code, said, _ = ncf("sagemaker", "captured", "ncf", "--output", file)
    assert (code, said) == (0, f"3 pairs: {file}\n")
    assert file.read_text("utf-8") == out


def test_where_nothing_was_recorded_it_says_what_to_do(aws: Aws, artifact: Path) -> None:
    deployed(aws.session(), artifact)
    with pytest.raises(CloudError, match="Nothing was recorded at s3://.*deploy ncf with --capture"):
        list(captured(aws.session(), "ncf"))


@pytest.mark.parametrize(
    ("side", "content"),
    [
        ({"data": "e30=", "encoding": "BASE64"}, {}),
        ({"data": "104\n", "encoding": "CSV"}, 104),
        ({"data": "a,b", "encoding": "CSV"}, "a,b"),
        (None, None),
    ],
)
def test_every_encoding_is_read(side: dict[str, str] | None, content: object) -> None:
    assert _content(side) == content
