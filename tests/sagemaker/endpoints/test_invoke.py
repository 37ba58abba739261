"""An endpoint answers as `ncf recommend` does, whichever way it is asked."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aws import Aws, hosted_aws
from ncf.sagemaker.endpoints import invoke
from ncf.sagemaker.endpoints.invoke import Endpoint, request_document
from ncf.serving.recommender import Recommender
from sagemaker_hosting import SDK_WARNINGS, answered, deployed, ncf

pytestmark = SDK_WARNINGS

QUESTIONS = {
    "a known user": ["--user", "104"],
    "two users": ["--user", "104", "--user", "105", "-k", "3"],
    "an unknown user": ["--user", "nobody"],
    "a user with news": ["--user", "104", "--history", "501", "--history", "503"],
    "a visitor": ["--history", "501", "--history", "502", "-k", "4"],
    "a visitor with an unknown item": ["--history", "501", "--history", "no such item"],
    "a visitor of whom nothing is known": ["--history", "no such item"],
    "similar items": ["--similar-to", "500", "-k", "5"],
    "candidates": [
        "--user",
        "104",
        "--candidate",
        "501",
        "--candidate",
        "507",
        "--candidate",
        "x",
        "--include-seen",
    ],
    "exclusions": ["--user", "104", "--exclude", "501", "--exclude", "507"],
}
MISTAKES = {
    "an unknown user, strictly": ["--user", "nobody", "--strict"],
    "an unknown item": ["--similar-to", "x"],
    "a history of two": ["--user", "104", "--user", "105", "--history", "501"],
}
ways = pytest.mark.parametrize("way", [[], ["--boto3"]], ids=["SDK", "boto3"])


@pytest.fixture(scope="module")
def endpoint(artifact: Path) -> Iterator[Aws]:
    """An AWS with the endpoint `ncf` of the artifact, for all of these tests."""
    with hosted_aws() as aws:
        aws.serve(answered)
        deployed(aws.session(), artifact)
        yield aws


@ways
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "JSON"])
@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
def test_the_same_bytes_as_recommend(
    endpoint: Aws, artifact: Path, question: list[str], form: list[str], way: list[str]
) -> None:
    here = ncf("recommend", artifact, *question, *form)
    assert here[0] == 0
    assert ncf("sagemaker", "invoke", "ncf", *question, *form, *way) == here


@ways
@pytest.mark.parametrize("question", MISTAKES.values(), ids=MISTAKES.keys())
def test_the_same_sentence_as_recommend(
    endpoint: Aws, artifact: Path, question: list[str], way: list[str]
) -> None:
    here = ncf("recommend", artifact, *question)
    assert here[0] == 1
    assert ncf("sagemaker", "invoke", "ncf", *question, *way) == here


def test_the_endpoint_is_named_as_the_project_where_no_name_is_given(endpoint: Aws) -> None:
    assert ncf("sagemaker", "invoke", "--user", "104") == ncf("sagemaker", "invoke", "ncf", "--user", "104")


def test_each_way_makes_the_call_that_it_says(endpoint: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    from sagemaker.core.resources import Endpoint as Resource

    asked: list[int] = []
    before = len(endpoint.calls("InvokeEndpoint"))
    through: Callable[..., Any] = Resource.invoke
    monkeypatch.setattr(
        Resource, "invoke", lambda self, **request: asked.append(1) or through(self, **request)
    )
    Endpoint(endpoint.session(), "ncf", boto3=True).ask(request_document(users=["104"]))
    assert (len(asked), len(endpoint.calls("InvokeEndpoint")) - before) == (0, 1)
    Endpoint(endpoint.session(), "ncf").ask(request_document(users=["104"]))
    assert (len(asked), len(endpoint.calls("InvokeEndpoint")) - before) == (1, 2)


@ways
def test_a_variant_can_be_asked(endpoint: Aws, way: list[str]) -> None:
    assert ncf("sagemaker", "invoke", "--user", "104", "--variant", "AllTraffic", *way)[0] == 0
    code, _, said = ncf("sagemaker", "invoke", "--user", "104", "--variant", "green", *way)
    assert (code, "green" in said) == (1, True)


@ways
def test_a_file_of_requests_is_answered_line_by_line(
    endpoint: Aws, served: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: list[str]
) -> None:
    monkeypatch.setattr(invoke, "MOST_LINES", 2)
    requests = [
        {"users": [104], "k": 2},
        {"users": [104], "k": 0},
        {"pairs": [[104, 500]]},
        {"history": [501], "k": 1},
    ]
    file = tmp_path / "requests.jsonl"
    file.write_text("\n\n".join(map(json.dumps, requests)), "utf-8")
    before = len(endpoint.calls("InvokeEndpoint"))
    code, out, _ = ncf("sagemaker", "invoke", "--file", file, *way)
    answers = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [item["item"] for item in answers[0]["recommendations"][0]["items"]] == served.recommend(
        104, 2
    ).items
    assert answers[1]["error"]["message"] == "k must be at least 1."
    assert answers[2]["scores"] == pytest.approx(served.score([104], [500]).tolist(), abs=1e-6)
    assert len(answers) == 4
    assert len(endpoint.calls("InvokeEndpoint")) - before == 2


@pytest.mark.parametrize(("text", "sentence"), [("", "is empty"), (None, "cannot be read")])
def test_a_file_without_requests_is_refused(
    endpoint: Aws, tmp_path: Path, text: str | None, sentence: str
) -> None:
    file = tmp_path / "requests.jsonl"
    if text is not None:
        file.write_text(text, "utf-8")
    code, _, said = ncf("sagemaker", "invoke", "--file", file)
    assert (code, sentence in said) == (1, True)


@pytest.mark.parametrize(
    "question", [[], ["--user", "1", "--similar-to", "2"], ["--history", "1", "--file", "x"]]
)
def test_one_question_at_a_time(question: list[str]) -> None:
    code, _, said = ncf("sagemaker", "invoke", *question)
    assert (code, "Give exactly one of --user, --history, --similar-to, --file" in said) == (1, True)


def test_lines_are_sent_in_bodies_that_sagemaker_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invoke, "MOST_BYTES", 10)
    parts = list(invoke._parts([b"1234", b"5678", b"9", b"x" * 20, b"y"]))
    assert parts == [[b"1234", b"5678"], [b"9"], [b"x" * 20], [b"y"]]
    assert list(invoke._parts([])) == []
