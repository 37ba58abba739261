"""`ncf serve` as a process on a real port: how it starts, what it survives, how it ends."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from processes import BODY, ENVIRONMENT, answers, ask, free_port, load, running, start, wait_until, workers_of


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


def test_sigterm_loses_no_accepted_request(artifact: Path) -> None:
    """Requests that have begun when the signal comes are answered, and new connections are refused."""
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n"
    with running(artifact) as (server, port):
        begun = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(10)]
        for connection in begun:
            connection.sendall((head + BODY[:5]).encode())
        assert ask(port)[0] == 200  # it came after them, so they have been accepted
        server.send_signal(signal.SIGTERM)
        wait_until(lambda: not answers(port))
        for connection in begun:
            connection.sendall(BODY[5:].encode())
        assert all(connection.recv(10_000).startswith(b"HTTP/1.1 200") for connection in begun)
        assert server.wait(30) == 0
        for connection in begun:
            connection.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_body_that_does_not_come_before_the_end_is_a_line_and_no_traceback(
    artifact: Path, workers: int
) -> None:
    with running(artifact, "--workers", workers, "--body-timeout", 60) as (server, port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as begun:
            begun.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
            assert ask(port)[0] == 200
            server.send_signal(signal.SIGTERM)
            answer = begun.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After" in answer or b"retry-after" in answer
        assert server.wait(30) == 0
        assert server.stderr is not None
        (line,) = server.stderr.read().splitlines()
        assert "Cancel 1 running task" in line


def test_sigterm_under_load_breaks_off_no_more_than_nobody_had_accepted(artifact: Path) -> None:
    """A connection that the system has queued and the server not yet taken is reset when the port closes."""
    with running(artifact) as (server, port), load(port, 4) as clients:
        wait_until(lambda: sum(client.answered for client in clients) > 50)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
        wait_until(lambda: all(client.refused for client in clients))
    assert all(client.broken <= 1 for client in clients)


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


def test_what_a_killed_worker_had_to_do_is_not_counted_for_ever(artifact: Path) -> None:
    heavy = json.dumps({"users": list(range(100, 140)), "k": 30, "exclude_seen": False})
    with running(artifact, "--workers", 2) as (server, port):
        wait_until(lambda: len(workers_of(server)) == 2)
        with load(port, 8, ["\n".join([heavy] * 100)]) as clients:
            wait_until(lambda: counted(port, "ncf_waiting_requests") > 0)
            for worker in workers_of(server):
                os.kill(worker, signal.SIGKILL)
            wait_until(lambda: sum(client.broken for client in clients) > 0)
        wait_until(lambda: answers(port))
        wait_until(lambda: counted(port, "ncf_waiting_requests") == 0)


def counted(port: int, metric: str) -> float:
    """What /metrics says; -1 where nobody answers."""
    with suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return next((float(line.split()[1]) for line in lines if line.startswith(f"{metric} ")), 0.0)
    return -1


def test_workers_end_with_the_process_that_started_them(artifact: Path) -> None:
    with running(artifact, "--workers", 2) as (server, port):
        wait_until(lambda: len(workers_of(server)) == 2)
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: is_free(port), 15)


def is_free(port: int) -> bool:
    """Whether nobody listens on the port."""
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


def test_where_no_worker_can_start_the_server_ends_with_the_reason(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "TMPDIR", str(tmp_path))
    with running(artifact, "--workers", 2) as (server, _):
        wait_until(lambda: len(workers_of(server)) == 2)
        (weights,) = tmp_path.glob("ncf-serve-*/artifact/model.safetensors")
        weights.unlink()
        for worker in workers_of(server):
            os.kill(worker, signal.SIGKILL)
        assert server.wait(60) == 2
        assert server.stderr is not None
        (sentence,) = server.stderr.read().splitlines()
        assert "is damaged: model.safetensors is missing" in sentence
        assert not list(tmp_path.iterdir())


def test_an_artifact_may_be_overwritten_while_it_is_served(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mapped file that shrinks would end the process with SIGBUS. What is left of a killed server goes."""
    monkeypatch.setitem(ENVIRONMENT, "TMPDIR", str(tmp_path))
    folder = shutil.copytree(artifact, tmp_path / "mine")
    left = tmp_path / "ncf-serve-left"
    left.mkdir()
    with running(folder) as (_, port):
        assert not left.exists()
        before = ask(port)
        for file in folder.iterdir():
            file.write_bytes(b"")
        assert ask(port) == before
        assert before[0] == 200
    assert list(tmp_path.iterdir()) == [folder]


def test_counts_are_of_all_workers(artifact: Path) -> None:
    with running(artifact, "--workers", 2) as (_, port):
        for _ in range(30):
            assert ask(port)[0] == 200
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/metrics")
        assert 'ncf_requests_total{status="200"} 30.0' in connection.getresponse().read().decode()
        connection.close()


@pytest.fixture(scope="module")
def one_worker(artifact: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server with a body timeout of half a second, and its port, for the tests that leave it running."""
    with running(artifact, "--body-timeout", 0.5) as server:
        yield server


def test_slow_clients_and_those_that_hang_up_stop_nobody(
    one_worker: tuple[subprocess.Popen[str], int],
) -> None:
    port = one_worker[1]
    head = (
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 40\r\n"
    )
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


def test_garbage_on_the_port_is_refused(one_worker: tuple[subprocess.Popen[str], int]) -> None:
    port = one_worker[1]
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"POST /invocations HTTP/1.1\r\n" + b"x: y\r\n" * 50_000,
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, suppress(OSError):
            connection.sendall(garbage + b"\r\n\r\n")
            connection.recv(1000)
    assert ask(port)[0] == 200


def test_the_server_opens_no_connection(one_worker: tuple[subprocess.Popen[str], int]) -> None:
    """It listens, is connected to by its clients, and talks to nobody else."""
    server, port = one_worker
    ask(port)
    descriptors = []
    for link in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            descriptors.append(str(link.readlink()))
    inodes = {name.removeprefix("socket:[").rstrip("]") for name in descriptors if name.startswith("socket:")}
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


@pytest.mark.parametrize("file", ["model.safetensors", "manifest.json"])
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
    for bad, words in {
        "--workers=0": "--workers must be at least 1, and not 0",
        "--max-body=-5": "--max-body must be at least 1, and not -5",
        "--max-users=0": "--max-users must be at least 1",
        "--body-timeout=nan": "--body-timeout must be seconds above 0, and not nan",
        "--body-timeout=0": "--body-timeout must be seconds above 0",
        "--host=": "--host is empty",
        "--host=300.1.1.1": "Cannot listen on 300.1.1.1",
    }.items():
        assert words in refused(artifact, "--port", free_port(), bad)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused(artifact, "--port", port).endswith(
            f"Cannot listen on 127.0.0.1:{port} (Address already in use): use another --port or --host."
        )
