"""The limits of a connection, on a server with few of them and short patience."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvicorn

from ncf.serving.connections import HEAD_BYTES, HEADERS, Connection
from ncf.serving.schemas import CROWDED
from processes import free_port, wait_until

IDLE, MOST = 0.5, 4
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"
Connect = Callable[..., socket.socket]


class App:
    """Answers a GET at once with so many bytes, and a POST when it is told to."""

    def __init__(self) -> None:
        self.crowded: list[int] = []
        self.held = threading.Event()
        self.size = 2

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.crowded.append(scope[CROWDED])
        while scope["method"] == "POST" and not self.held.is_set():
            await asyncio.sleep(0.01)
        length = [(b"content-length", str(self.size).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": b"x" * self.size})


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def connect(app: App) -> Iterator[Connect]:
    """A function that connects and sends some bytes."""
    port, opened = free_port(), list[socket.socket]()
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=port, http=Connection, ws="none", lifespan="off", loop="uvloop", log_level="critical",
            timeout_keep_alive=IDLE, limit_concurrency=MOST,  # type: ignore[arg-type]
        )
    )  # fmt: skip
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)

    def connected(content: bytes = b"") -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", port), timeout=10))
        with suppress(OSError):
            opened[-1].sendall(content)
        return opened[-1]

    yield connected
    app.held.set()
    for connection in opened:
        connection.close()
    server.should_exit = True
    thread.join()


def said(connection: socket.socket) -> bytes:
    """All that comes until the server closes or resets the connection."""
    content = b""
    with suppress(ConnectionError):
        while piece := connection.recv(100_000):
            content += piece
    return content


def test_what_sends_no_whole_request_is_closed(connect: Connect) -> None:
    half = connect(HEAD)
    connections = [connect(), half, connect(HEAD + b"\r\n")]
    began = time.monotonic()
    for _ in range(3):  # a little now and then is no request either
        half.sendall(b"X: y\r\n")
        time.sleep(IDLE / 8)
    assert [said(connection)[:15] for connection in connections] == [b"", b"", b"HTTP/1.1 200 OK"]
    assert IDLE * 0.8 < time.monotonic() - began < 10 * IDLE


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (HEAD + b"X: " + b"a" * (HEAD_BYTES + 1) + b"\r\n\r\n", "head_bytes"),
        (HEAD + b"X: y\r\n" * HEADERS + b"\r\n", "headers"),
        (b"GET /" + b"a" * HEAD_BYTES + b" HTTP/1.1\r\n\r\n", "head_bytes"),
    ],
    ids=["header", "headers", "request line"],
)
def test_a_long_head_is_refused(connect: Connect, content: bytes, field: str) -> None:
    answer = said(connect(content))
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["field"] == field
    assert said(connect(b"not HTTP\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert connect(HEAD + b"X: y\r\n" * 90 + b"\r\n").recv(100).startswith(b"HTTP/1.1 200 ")


CHUNKS = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "content",
    [HEAD + b"X: ", b"GET /", CHUNKS + b"0\r\nX: ", CHUNKS + b"1;x="],
    ids=["header", "request line", "trailer", "chunk"],
)
def test_what_never_ends_is_not_kept(connect: Connect, content: bytes) -> None:
    connection, taken = connect(content), 0
    with suppress(ConnectionError):
        while taken < 1000:
            connection.sendall(b"a" * HEAD_BYTES)
            taken += 1
    assert taken < 1000


def test_silent_connections_shut_nobody_out(connect: Connect, app: App) -> None:
    silent = [connect() for _ in range(3 * MOST)]
    assert connect(HEAD + b"\r\n").recv(100).startswith(b"HTTP/1.1 200 ")
    assert app.crowded == [0]
    assert said(silent[0]) == b""


def test_a_connection_more_than_all_that_work_is_marked(connect: Connect, app: App) -> None:
    for _ in range(MOST):
        connect(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    wait_until(lambda: len(app.crowded) == MOST)
    assert connect(HEAD + b"\r\n").recv(100).startswith(b"HTTP/1.1 200 ")
    assert app.crowded == [0] * MOST + [MOST + 1]


def test_a_client_that_takes_no_answer_is_dropped_and_a_slow_one_is_not(connect: Connect, app: App) -> None:
    app.size = 50_000_000
    silent, slow = connect(HEAD + b"\r\n"), connect(HEAD + b"\r\n")
    got, began = 0, time.monotonic()
    while time.monotonic() - began < 4 * IDLE:
        got += len(slow.recv(1_000_000))
        time.sleep(IDLE / 20)
    assert got + len(said(slow)) > app.size
    assert len(said(silent)) < app.size
