"""The hosts of a job over real sockets: they meet, end with one code, and know at once when one of them is gone."""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from ncf.errors import Interrupted, NcfError
from ncf.sagemaker.container.rendezvous import HostFailure, PeerHosts, call
from processes import free_port

FIRST = "127.0.0.1"


@pytest.fixture
def port() -> int:
    return free_port()


def never() -> bool:
    return False


def in_threads(*calls: Callable[[], object]) -> list["Future[object]"]:
    pool = ThreadPoolExecutor(len(calls))
    futures = [pool.submit(one) for one in calls]
    pool.shutdown(wait=False)
    return futures


@pytest.mark.parametrize("code", [0, 3])
def test_all_hosts_end_with_the_code_of_the_first(port: int, tmp_path: Path, code: int) -> None:
    hosts = ("algo-2", "algo-3")
    ends = in_threads(
        *(lambda name=name: call(FIRST, name, tmp_path / name, never, port=port) for name in hosts)
    )  # type: ignore[misc]
    with PeerHosts(hosts, never, port=port) as others:
        assert others.lost(0.1) is None
        assert others.end(code) == []
    assert [end.result(10) for end in ends] == [code, code]


def test_the_first_host_hears_why_another_ones_processes_failed(port: int, tmp_path: Path) -> None:
    failure = tmp_path / "failure"
    (end,) = in_threads(lambda: call(FIRST, "algo-2", failure, never, port=port))
    with PeerHosts(["algo-2"], never, port=port) as others:
        failure.write_text("The channel 'train' is missing.")
        time.sleep(0.3)
        (said,) = others.end(1)
    assert end.result(10) == 1
    assert said.sentence == "The channel 'train' is missing."
    assert 0.2 < said.age < 10


def test_nothing_was_said_where_there_is_no_file_or_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    assert HostFailure.read(tmp_path / "none") == HostFailure.read(tmp_path / "empty") == []


def test_a_host_that_goes_away_is_named(port: int, tmp_path: Path) -> None:
    gone = threading.Event()

    def another() -> None:
        with socket.create_connection((FIRST, port)) as connection:
            connection.sendall(b'{"host": "algo-2"}\n')
            gone.wait(10)

    listening = PeerHosts(["algo-2"], never, port=port)
    (end,) = in_threads(another)
    with listening as others:
        assert others.lost(0.1) is None
        gone.set()
        assert others.lost(10) == "algo-2"
    end.result(10)


def test_the_others_say_that_the_first_host_went_away(port: int, tmp_path: Path) -> None:
    (end,) = in_threads(lambda: call(FIRST, "algo-2", tmp_path / "failure", never, port=port))
    with PeerHosts(["algo-2"], never, port=port):
        pass
    with pytest.raises(NcfError, match=r"The first host, 127\.0\.0\.1, went away while it trained"):
        end.result(10)


def test_a_stranger_at_the_port_is_not_taken_for_a_host(port: int, tmp_path: Path) -> None:
    def stranger() -> None:
        for words in (b"GET / HTTP/1.1\r\n\r\n", b'{"host": "algo-9"}\n', b"[1]\n"):
            while True:
                try:
                    connection = socket.create_connection((FIRST, port))
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            with connection:
                connection.sendall(words)
                assert connection.recv(10) == b""  # closed by the first host
        assert call(FIRST, "algo-2", tmp_path / "failure", never, port=port) == 0

    (end,) = in_threads(stranger)
    with PeerHosts(["algo-2"], never, port=port) as others:
        others.end(0)
    end.result(10)


def test_hosts_that_do_not_come_are_named(port: int) -> None:
    with (
        pytest.raises(NcfError, match="algo-2, algo-3 did not come within 1 s"),
        PeerHosts(["algo-3", "algo-2"], never, port=port, patience=1),
    ):
        pass


def test_a_first_host_that_is_not_there_is_named(port: int, tmp_path: Path) -> None:
    with pytest.raises(NcfError, match=r"127\.0\.0\.1, could not be reached within 1 s"):
        call(FIRST, "algo-2", tmp_path / "failure", never, port=port, patience=1)


def test_a_stop_before_all_are_there_is_a_stop(port: int, tmp_path: Path) -> None:
    with (
        pytest.raises(Interrupted, match="nothing was trained"),
        PeerHosts(["algo-2"], lambda: True, port=port),
    ):
        pass
    with pytest.raises(Interrupted, match="nothing was trained"):
        call(FIRST, "algo-2", tmp_path / "failure", lambda: True, port=port)
