"""Asynchronous endpoints, and what goes wrong in asking one."""

from pathlib import Path

import pytest

from aws import Aws
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.endpoints.invoke import Endpoint, request_document
from ncf.sagemaker.endpoints.requests import Hosting
from sagemaker_hosting import SDK_WARNINGS, answered, deployed, ncf

pytestmark = SDK_WARNINGS
ways = pytest.mark.parametrize("way", [[], ["--boto3"]], ids=["SDK", "boto3"])


@ways
def test_an_asynchronous_endpoint_answers_through_s3(aws: Aws, artifact: Path, way: list[str]) -> None:
    aws.serve(answered)
    deployed(aws.session(), artifact, Hosting(asynchronous=True))
    question = ["--user", "104", "-k", "3"]
    assert ncf("sagemaker", "invoke", *question, *way) == ncf("recommend", artifact, *question)
    assert (len(aws.calls("InvokeEndpointAsync")), len(aws.calls("InvokeEndpoint"))) == (1, 0)
    code, _, said = ncf("sagemaker", "invoke", "--user", "nobody", "--strict", *way)
    assert (code, "The model does not know user 'nobody'" in said) == (1, True)


def test_an_asynchronous_answer_is_waited_for_and_not_for_ever(aws: Aws, artifact: Path) -> None:
    aws.serve(answered)
    session = aws.session()
    deployed(session, artifact, Hosting(asynchronous=True))
    waits: list[float] = []
    aws.fail("GetObject", "NoSuchKey", times=4, status=404)
    Endpoint(session, "ncf", sleep=waits.append).ask(request_document(users=["104"]))
    assert len(waits) == 2  # Two objects are looked for each time: the answer and the failure.
    aws.fail("GetObject", "NoSuchKey", times=10_000, status=404)
    with pytest.raises(
        CloudError, match="has not answered in 15 minutes: the answer will be at s3://"
    ) as late:
        Endpoint(session, "ncf", sleep=waits.append).ask(request_document(users=["104"]))
    assert late.value.code == "Timeout"


@pytest.mark.parametrize("boto3", [False, True], ids=["SDK", "boto3"])
def test_a_model_that_breaks_is_an_error_of_the_cloud(aws: Aws, artifact: Path, boto3: bool) -> None:
    aws.serve(lambda *_: (500, b"Traceback: out of memory, token=abcdef", "text/plain"))
    deployed(aws.session(), artifact)
    with pytest.raises(CloudError, match="The model failed: Traceback: out of memory, …") as broken:
        Endpoint(aws.session(), "ncf", boto3=boto3).ask(request_document(users=["104"]))
    assert broken.value.code == "ModelError"


@pytest.mark.parametrize("body", [b"<html>", b"[1, 2]"])
def test_an_endpoint_of_something_else_is_noticed(aws: Aws, artifact: Path, body: bytes) -> None:
    aws.serve(lambda *_: (200, body, "text/html"))
    deployed(aws.session(), artifact)
    endpoint = Endpoint(aws.session(), "ncf", boto3=True)
    with pytest.raises(CloudError, match="does it serve an artifact of ncf"):
        endpoint.ask(request_document(users=["104"]))
    with pytest.raises(CloudError, match="answered 1 lines to 2"):
        list(endpoint.ask_lines([b"{}", b"{}"]))


def test_an_error_with_status_200_is_an_error_too(aws: Aws, artifact: Path) -> None:
    aws.serve(
        lambda *_: (200, b'{"error": {"code": "x", "message": "No.", "field": null}}', "application/json")
    )
    deployed(aws.session(), artifact)
    with pytest.raises(ConfigError, match=r"^No\.$"):
        Endpoint(aws.session(), "ncf", boto3=True).ask(request_document(users=["104"]))


def test_an_endpoint_that_is_not_there_is_said(aws: Aws) -> None:
    code, _, said = ncf("sagemaker", "invoke", "none", "--user", "104")
    assert (code, said) == (
        1,
        "There is no endpoint 'none': 'ncf sagemaker endpoints' lists the existing ones.",
    )


def test_an_endpoint_that_cannot_answer_yet_is_said(
    aws: Aws, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncf.sagemaker.local.endpoints.EndpointCalls._serve", lambda *_: False)
    deployed(aws.session(), artifact, wait=False)
    with pytest.raises(CloudError, match="The endpoint ncf is Creating and cannot answer"):
        Endpoint(aws.session(), "ncf")
