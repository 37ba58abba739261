"""`ncf serve` as a process on a real port: how it starts, what it survives, how it ends."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

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

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.ended = port, threading.Event()
        self.answered = self.refused = self.broken = 0

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
                connection.request("POST", "/invocations", BODY, {"Content-Type": "application/json"})
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
def load(port: int, clients: int = 2) -> Iterator[list[Load]]:
    threads = [Load(port) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_it_answers_and_ends_with_code_0(artifact: Path, workers: int) -> None:
    with running(artifact, "--workers", workers) as (server, port):
        status, document = ask(port)
        assert (status, document["recommendations"][0]["user"]) == (200, 104)
        assert ask(port, "{}")[0] == 422
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        assert time.monotonic() - began < 5
        assert server.stderr is not None
        assert server.stderr.read() == ""


def test_sigterm_under_load_loses_no_accepted_request(artifact: Path) -> None:
    with running(artifact) as (server, port), load(port, 4) as clients:
        wait_until(lambda: sum(client.answered for client in clients) > 50)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        wait_until(lambda: all(client.refused for client in clients))
    assert sum(client.broken for client in clients) == 0


def test_a_killed_worker_comes_back_and_the_other_goes_on(artifact: Path) -> None:
    with running(artifact, "--workers", 2) as (server, port):
        wait_until(lambda: len(workers_of(server)) == 2)
        before = workers_of(server)
        with load(port) as clients:
            wait_until(lambda: sum(client.answered for client in clients) > 20)
            os.kill(min(before), signal.SIGKILL)
            counted = sum(client.answered for client in clients)
            wait_until(lambda: sum(client.answered for client in clients) > counted + 50)
            wait_until(lambda: len(workers_of(server)) == 2)
        assert workers_of(server) != before
        assert sum(client.broken for client in clients) <= len(clients)
        assert ask(port)[0] == 200


def test_counts_are_of_all_workers(artifact: Path) -> None:
    with running(artifact, "--workers", 2) as (_, port):
        for _ in range(30):
            assert ask(port)[0] == 200
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/metrics")
        assert 'ncf_requests_total{status="200"} 30.0' in connection.getresponse().read().decode()
        connection.close()


def test_slow_clients_and_those_that_hang_up_stop_nobody(artifact: Path) -> None:
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 40\r\n"
    )
    with running(artifact, "--body-timeout", 0.5) as (_, port):
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        for number, connection in enumerate(slow):
            connection.sendall(head if number % 2 else head + b"\r\n{")
        for _ in range(20):
            gone = socket.create_connection(("127.0.0.1", port))
            gone.sendall(head + b"\r\n" + b"{" * 20)
            gone.close()
        assert ask(port)[0] == 200
        slow[0].settimeout(10)
        assert slow[0].recv(1000).startswith(b"HTTP/1.1 408")
        for connection in slow:
            connection.close()
        assert ask(port)[0] == 200


def test_garbage_on_the_port_is_refused(artifact: Path) -> None:
    with running(artifact) as (_, port):
        for garbage in (
            b"\x16\x03\x01\x02\x00\x01",
            b"GET\r\n\r\n",
            b"POST /invocations HTTP/1.1\r\n" + b"x: y\r\n" * 50_000,
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, suppress(OSError):
                connection.sendall(garbage + b"\r\n\r\n")
                connection.recv(1000)
        assert ask(port)[0] == 200


def test_the_server_opens_no_connection(artifact: Path) -> None:
    """It listens, is connected to by its clients, and talks to nobody else."""
    with running(artifact) as (server, port):
        ask(port)
        inodes = {
            str(link.readlink()).removeprefix("socket:[").rstrip("]")
            for link in Path(f"/proc/{server.pid}/fd").iterdir()
            if str(link.readlink()).startswith("socket:")
        }
        lines = (
            Path("/proc/net/tcp").read_text().splitlines()[1:]
            + Path("/proc/net/udp").read_text().splitlines()[1:]
        )
        own = [line.split() for line in lines if line.split()[9] in inodes]
        assert own
        assert all(int(fields[1].split(":")[1], 16) == port for fields in own)


def refused(*arguments: object) -> str:
    server = start(*arguments)
    out, err = server.communicate(timeout=60)
    assert (server.returncode, out) == (2, "")
    (sentence,) = err.strip().splitlines()
    return sentence


@pytest.mark.parametrize("file", ["model.safetensors", "items.parquet", "retrieval.json", "manifest.json"])
def test_a_damaged_artifact_is_never_served(artifact: Path, tmp_path: Path, file: str) -> None:
    damaged = shutil.copytree(artifact, tmp_path / "damaged")
    content = bytearray((damaged / file).read_bytes())
    content[len(content) // 2] ^= 64
    (damaged / file).write_bytes(content)
    sentence = refused(damaged, "--port", free_port())
    assert sentence.startswith(f"ncf: The artifact {damaged} ")
    assert sentence.endswith(".")


def test_what_cannot_be_served_is_said_in_one_sentence(artifact: Path, tmp_path: Path) -> None:
    assert "There is no " in refused(tmp_path / "nothing", "--port", free_port())
    assert "--workers must be at least 1" in refused(artifact, "--port", free_port(), "--workers", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused(artifact, "--port", port).endswith(
            f"Nobody can listen on 127.0.0.1:{port} (Address already in use): choose another --port or --host."
        )
