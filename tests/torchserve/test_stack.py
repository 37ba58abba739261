"""The packed model under AWS's own serving stack, next to our own server: the same answers to the byte.

Needs Java and the environment of scripts/install-torchserve, whose folder NCF_TEST_TORCHSERVE names; where
one of them is missing, the tests fail.
"""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ncf.sagemaker.jobs.package import pack_model
from ncf.serving.artifact import write_artifact
from servers import ncf_server
from support import checkerboard, experiment, model_of
from torchserve import Stack, get, members, torchserve

pytestmark = [pytest.mark.torchserve, pytest.mark.xdist_group("torchserve")]

JSON, LINES, CSV = "application/json", "application/jsonlines", "text/csv"
REQUESTS = {
    "known and unknown users": {"users": [104, "105", "nobody"], "k": 3},
    "filters": {
        "users": [104],
        "k": 2,
        "candidates": [500, 501, 503, 999],
        "exclude": [503],
        "exclude_seen": False,
    },
    "descriptions": {"users": [104], "k": 2, "describe": True},
    "a user with new history": {"users": [104], "history": [501], "k": 3},
    "a visitor": {"history": [501, 502, "nothing"], "k": 3},
    "similar items": {"items": [500, "501"], "k": 3, "similar": True},
    "pairs": {"pairs": [[104, 500], ["105", "501"]]},
    "the workshop's payload": {"user": [104] * 3, "item": [500, 501, 502], "k": 2},
}
MISTAKES = {
    "no JSON": (b"{", JSON, None, 400),
    "an empty body": (b"", JSON, None, 400),
    "another media type": (b"104", "image/png", None, 415),
    "an answer we cannot write": (b'{"users": [104]}', JSON, "image/png", 406),
    "k = 0": (b'{"users": [104], "k": 0}', JSON, None, 422),
    "an unknown field": (b'{"users": [104], "n": 3}', JSON, None, 422),
    "an unknown user, strictly": (b'{"users": ["x"], "strict": true}', JSON, None, 422),
    "too many users": (json.dumps({"users": [104] * 1001}).encode(), JSON, None, 413),
    "two cells a line": (b"104,105\n", CSV, None, 400),
}


class HttpReply(NamedTuple):
    status: int
    type: str | None
    body: bytes


class Both(NamedTuple):
    stack: Stack
    own: Stack


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Both servers on the same artifact."""
    folder = tmp_path_factory.mktemp("stack")
    model = model_of("neumf", 40, 30, tower=[16, 8])
    artifact = write_artifact(
        folder / "artifact", model, experiment("neumf"), checkerboard(), {"test": {}}, ""
    )
    packed = pack_model(artifact, folder / "model.tar.gz", code=True)
    environment = Path(os.environ["NCF_TEST_TORCHSERVE"])
    with torchserve(environment, packed) as stack, ncf_server(artifact) as own:
        yield Both(stack, own)
    assert members(stack.group) == []
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", stack.port))


def post(server: Stack, body: bytes, content_type: str | None = JSON, accept: str | None = None) -> HttpReply:
    headers = {"Content-Type": content_type, "Accept": accept}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        sent = {name: value for name, value in headers.items() if value is not None}
        connection.request("POST", "/invocations", body, sent)
        answer = connection.getresponse()
        return HttpReply(answer.status, answer.headers["content-type"], answer.read())
    finally:
        connection.close()


def test_ping(both: Both) -> None:
    assert get(both.stack.port, "/ping")[0] == 200


@pytest.mark.parametrize("name", REQUESTS)
def test_each_form_in_json(both: Both, name: str) -> None:
    body = json.dumps(REQUESTS[name]).encode()
    answer = post(both.stack, body)
    assert answer == post(both.own, body)
    assert (answer.status, answer.type) == (200, JSON)


def test_ids_keep_their_type(both: Both) -> None:
    document = json.loads(post(both.stack, b'{"users": ["104"], "k": 1}').body)
    one: dict[str, Any] = document["recommendations"][0]
    assert (one["user"], one["source"]) == (104, "model")
    assert isinstance(one["items"][0]["item"], int)


@pytest.mark.parametrize("accept", [None, "*/*", LINES, JSON, CSV])
def test_all_forms_in_json_lines(both: Both, accept: str | None) -> None:
    lines = [*(json.dumps(one).encode() for one in REQUESTS.values()), b"{", b'{"users": [104], "k": 0}']
    body = b"\n".join(lines) + b"\n"
    answer = post(both.stack, body, LINES, accept)
    assert answer == post(both.own, body, LINES, accept)
    assert answer.status == 200
    if accept in (None, "*/*", LINES):
        assert len(answer.body.splitlines()) == len(lines)


@pytest.mark.parametrize("accept", [None, "*/*", JSON, CSV, LINES])
def test_csv(both: Both, accept: str | None) -> None:
    body = b"user_id\n104\n105\nnobody\n"
    answer = post(both.stack, body, CSV, accept)
    assert answer == post(both.own, body, CSV, accept)
    if accept in (None, "*/*", CSV):
        assert [line.split(b",")[:2] for line in answer.body.splitlines()] == [
            [b"104", b"model"],
            [b"105", b"model"],
            [b"nobody", b"popularity"],
        ]


def test_no_content_type_is_json(both: Both) -> None:
    body = b'{"users": [104], "k": 2}'
    assert post(both.stack, body, None) == post(both.own, body, None)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_have_our_status_and_body(both: Both, name: str) -> None:
    body, content_type, accept, status = MISTAKES[name]
    answer = post(both.stack, body, content_type, accept)
    assert answer == post(both.own, body, content_type, accept)
    assert (answer.status, answer.type) == (status, JSON)
    assert set(json.loads(answer.body)["error"]) == {"code", "message", "field"}


def test_it_goes_on_after_mistakes(both: Both) -> None:
    for _ in range(20):
        assert post(both.stack, b"{").status == 400
    assert post(both.stack, b'{"users": [104], "k": 2}').status == 200


def test_what_the_toolkit_answers_before_it_asks_us(both: Both) -> None:
    """Known differences: it decodes JSON itself, and TorchServe has a limit of its own
    (docs/torchserve.md)."""
    assert post(both.stack, b"\xff").status == 500
    assert post(both.own, b"\xff").status == 400
    large = post(both.stack, b" " * 7_000_000)
    assert (large.status, large.body) == (413, b"")


def test_the_model_brought_its_own_package(both: Both) -> None:
    """ncf is not installed in the stack's environment."""
    environment = Path(os.environ["NCF_TEST_TORCHSERVE"])
    assert not list(environment.glob("lib/python3*/site-packages/ncf*"))
