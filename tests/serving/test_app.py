"""The app in memory: paths, formats, errors, limits of time and size, what is counted."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from ncf.serving import app as app_module
from ncf.serving.app import State, create_app
from ncf.serving.recommender import Recommender
from ncf.serving.schemas import CROWDED, Limits
from processes import wait_until


@pytest.fixture
def client(served: Recommender) -> Iterator[TestClient]:
    limits = Limits(body_bytes=2000, users=10, ids=50, answers=300, lines=20)
    with TestClient(create_app(State(served, limits)), raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, body: Any, **headers: str) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/invocations", content=content, headers={"content-type": "application/json"} | named)


def test_an_answer(client: TestClient, served: Recommender) -> None:
    response = post(client, {"users": ["104"], "k": 3})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    items = [item["item"] for item in response.json()["recommendations"][0]["items"]]
    assert items == served.recommend(104, k=3).items


def test_content_type_and_accept(client: TestClient) -> None:
    csv = post(client, b"104\n105\n", content_type="text/csv")
    assert (csv.headers["content-type"], len(csv.text.splitlines())) == ("text/csv; charset=utf-8", 2)
    lines = post(client, b"104\n105\n", content_type="text/csv", accept="application/jsonlines")
    assert (lines.headers["content-type"], len(lines.text.splitlines())) == ("application/jsonlines", 2)
    assert post(client, b"{}", content_type="application/xml").status_code == 415
    assert post(client, {"users": [104]}, accept="image/png").status_code == 406
    assert post(client, {"users": [104]}, content_type="Application/JSON; charset=utf-8").status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"nope", 400, "invalid_json"),
        (b"[" * 1999, 400, "invalid_json"),
        ({"users": [1], "k": 0}, 422, "invalid"),
        ({"users": ["x"], "strict": True}, 422, "unknown_id"),
        ({"users": list(range(11))}, 413, "too_large"),
        (b" " * 2001, 413, "too_large"),
    ],
)
def test_errors_have_one_shape(client: TestClient, body: Any, status: int, code: str) -> None:
    response = post(client, body)
    assert response.status_code == status
    assert set(response.json()) == {"error"}
    assert set(response.json()["error"]) == {"code", "message", "field"}
    assert response.json()["error"]["code"] == code


def test_a_long_body_without_its_length_is_cut_off(client: TestClient) -> None:
    response = client.post("/invocations", content=iter([b"x" * 1000] * 5))
    assert response.status_code == 413
    assert response.json()["error"]["field"] == "body_bytes"


def test_other_paths_and_methods(client: TestClient) -> None:
    assert client.get("/ping").json() == {"status": "ok"}
    assert client.get("/nope").json()["error"]["code"] == "not_found"
    wrong = client.get("/invocations")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert client.post("/ping").status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/explorer/..%2Fapp.py",
        "/explorer/%2e%2e/app.py",
        "/explorer/app.py",
        "/explorer/__init__.py",
        "/..%2f..%2fetc/passwd",
        "/explorer/%00",
        "/explorer/" + "x" * 5000,
    ],
)
def test_no_file_but_the_pages_is_served(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert len(response.text) < 300


def test_what_is_counted(client: TestClient) -> None:
    post(client, {"users": [104, "x"]})
    post(client, {"history": [503]})
    post(client, b"nope")
    text = client.get("/metrics").text
    for line in (
        'ncf_requests_total{status="200"} 2.0',
        'ncf_requests_total{status="400"} 1.0',
        'ncf_lists_total{source="model"} 1.0',
        'ncf_lists_total{source="popularity"} 1.0',
        'ncf_lists_total{source="fold_in"} 1.0',
        "ncf_request_seconds_count 3.0",
        "ncf_compute_seconds_count 3.0",
        "ncf_waiting_requests 0.0",
    ):
        assert line in text
    seconds = next(
        float(line.split()[1]) for line in text.splitlines() if line.startswith("ncf_model_seconds_total")
    )
    assert 0 < seconds < 10


def test_a_mistake_of_the_server_is_a_500_and_in_its_log(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(app_module.api, "answer", broken)
    response = post(client, {"users": [104]})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "internal")
    assert "secret" not in response.text
    assert "secret detail" in caplog.text
    monkeypatch.undo()
    assert post(client, {"users": [104]}).status_code == 200
    monkeypatch.setattr(app_module.explorer, "about", broken)
    assert client.get("/explorer/about").json()["error"]["code"] == "internal"


def test_a_full_server_says_503(served: Recommender) -> None:
    with TestClient(create_app(State(served, most_waiting=0))) as client:
        response = post(client, {"users": [104]})
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert response.json()["error"]["code"] == "overloaded"
        assert client.get("/ping").status_code == 200  # it is busy, and not ill


def test_a_request_that_never_ends_makes_the_server_ill(
    served: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, ended = State(served), threading.Event()
    monkeypatch.setattr(app_module, "_STUCK_SECONDS", 0.05)
    with TestClient(create_app(state)) as client:
        assert client.portal
        stuck = client.portal.start_task_soon(state.compute, ended.wait)
        wait_until(lambda: client.get("/ping").status_code == 503)
        assert "ncf_waiting_requests 1.0" in client.get("/metrics").text
        ended.set()
        stuck.result()
        assert client.get("/ping").status_code == 200


def test_too_many_connections_are_told_when_to_come_back(served: Recommender) -> None:
    app = create_app(State(served))

    async def crowded(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {CROWDED: 3}, receive, send)

    client = TestClient(crowded)
    for response in (post(client, {"users": [104]}), client.get("/explorer/about")):
        assert (response.status_code, response.json()["error"]["code"]) == (503, "overloaded")
        assert (response.headers["retry-after"], response.headers["connection"]) == ("1", "close")
        assert response.json()["error"]["message"].startswith("3 connections are open: ")
    assert client.get("/ping").status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP, identity"])
def test_an_encoded_body_is_refused_by_the_name_of_its_encoding(client: TestClient, encoding: str) -> None:
    response = post(client, b"\x1f\x8b", content_encoding=encoding)
    assert response.status_code == 415
    assert f"The content encoding '{encoding.lower()}'" in response.json()["error"]["message"]
    assert post(client, {"users": [104]}, content_encoding="identity").status_code == 200


def test_the_explorer_can_be_turned_off(served: Recommender) -> None:
    with TestClient(create_app(State(served, explorer=False))) as client:
        for path in (
            "/",
            "/explorer/about",
            "/explorer/items",
            "/explorer/users/104",
            "/explorer/index.html",
        ):
            assert client.get(path).status_code == 404
        assert not any("explorer" in path for path in client.get("/openapi.json").json()["paths"])
        assert post(client, {"users": [104]}).status_code == 200


async def drive(state: State, messages: list[Any]) -> list[Any]:
    """What the app sends for a POST whose body arrives as `messages`; a number waits so long."""
    sent: list[Any] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/invocations",
        "headers": [],
        "query_string": b"",
        "root_path": "",
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "client": ("test", 1),
    }

    async def receive() -> Any:
        message = messages.pop(0)
        if isinstance(message, float):
            await asyncio.sleep(message)
            message = messages.pop(0)
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    await create_app(state)(scope, receive, send)
    return sent


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_parts(served: Recommender) -> None:
    sent = asyncio.run(drive(State(served), [part(b'{"users"', True), part(b": [104]", True), part(b"}")]))
    assert sent[0]["status"] == 200
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(sent[1]["body"])).encode()


def test_a_slow_client_gets_408(served: Recommender) -> None:
    sent = asyncio.run(drive(State(served, body_seconds=0.05), [part(b'{"users"', True), 30.0, part(b"")]))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b"did not arrive in 0.05 seconds" in sent[1]["body"]


def test_a_client_that_hangs_up_is_left_alone(served: Recommender) -> None:
    messages = [part(b'{"users"', True), {"type": "http.disconnect"}]
    assert asyncio.run(drive(State(served), messages)) == []
