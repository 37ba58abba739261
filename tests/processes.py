"""`ncf serve` as a process, and clients of it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

BODY = json.dumps({"users": ["104"], "k": 3})
ENVIRONMENT = {**os.environ, "POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
Server = subprocess.Popen[str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(*arguments: object) -> Server:
    command = [sys.executable, "-m", "ncf", "serve", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def ask(port: int, body: str = BODY, path: str = "/invocations", method: str = "POST") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(
            method, path, body if method == "POST" else None, {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def answers(port: int) -> bool:
    with suppress(OSError):
        return ask(port, path="/ping", method="GET")[0] == 200
    return False


@contextmanager
def running(artifact: Path, *arguments: object) -> Iterator[tuple[Server, int]]:
    """A server that answers, ended by its pid whatever happens."""
    port = free_port()
    server = start(artifact, "--port", port, *arguments)
    try:
        wait_until(lambda: server.poll() is not None or answers(port))
        assert server.poll() is None, server.stderr and server.stderr.read()
        yield server, port
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(30)
        finally:
            server.kill()
            server.communicate()


def workers_of(server: Server) -> set[int]:
    """Process ids of the workers (and of nothing else that the server started)."""
    found = set()
    for process in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == server.pid and b"spawn_main" in (process / "cmdline").read_bytes():
                found.add(int(process.name))
    return found


class Load(threading.Thread):
    """Clients one after the other, each request counted: answered, refused (no connection), or broken off."""

    def __init__(self, port: int, bodies: Sequence[str] = (BODY,)) -> None:
        super().__init__()
        self.port, self.bodies, self.ended = port, bodies, threading.Event()
        self.answered = self.refused = self.broken = self.asked = 0

    def run(self) -> None:
        while not self.ended.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            try:
                connection.connect()
            except OSError:
                self.refused += 1
                self.ended.wait(0.01)
                continue
            try:
                body = self.bodies[self.asked % len(self.bodies)]
                self.asked += 1
                connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                self.answered += response.status == 200 and bool(json.loads(response.read()))
            except (OSError, http.client.HTTPException, ValueError):
                self.broken += 1
            finally:
                connection.close()

    def stop(self) -> None:
        self.ended.set()
        self.join(30)


@contextmanager
def load(port: int, clients: int = 2, bodies: Sequence[str] = (BODY,)) -> Iterator[list[Load]]:
    """So many clients, until the block ends."""
    threads = [Load(port, bodies) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()
