"""The hosts of a job over real sockets: they meet, end with one code, and know at once when one of them is
gone."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from ncf.errors import ConfigError, Interrupted, NcfError
from ncf.sagemaker.container import rendezvous
from ncf.sagemaker.container.rendezvous import HostFailure, await_hosts, follow, gather
from processes import free_port

FIRST = "localhost"
HOSTS = (FIRST, "algo-2", "algo-3")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(3) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "SLICE", 0.05)


def never() -> bool:
    return False


def arriving(
    host: str, port: int, *, late: float = 0.0, patience: float = 20, stop: Callable[[], bool] = never
) -> float:
    """When this host may start."""
    time.sleep(late)
    await_hosts(host, HOSTS, stop, port=port, patience=patience)
    return time.monotonic()


def following(
    pool: ThreadPoolExecutor, port: int, failure: Path, hosts: tuple[str, ...] = HOSTS[:2]
) -> "list[Future[int]]":
    return [pool.submit(follow, host, hosts, never, failure, port=port, patience=20) for host in hosts[1:]]


@pytest.mark.parametrize("late", [(FIRST,), ("algo-3",), ("algo-2", "algo-3")])
def test_no_host_starts_before_all_are_there(
    pool: ThreadPoolExecutor, port: int, late: tuple[str, ...]
) -> None:
    began = time.monotonic()
    starts = [pool.submit(arriving, host, port, late=0.4 if host in late else 0.0) for host in HOSTS]
    assert all(start.result() - began >= 0.4 for start in starts)


def test_a_single_host_does_not_wait() -> None:
    await_hosts("algo-1", ("algo-1",), never, port=1, patience=0.0)


def test_missing_hosts_are_named(pool: ThreadPoolExecutor, port: int) -> None:
    first = pool.submit(arriving, FIRST, port, patience=0.6)
    second = pool.submit(arriving, "algo-2", port, patience=1.2)
    with pytest.raises(ConfigError, match="localhost waited 1 seconds for algo-3: "):
        first.result()
    with pytest.raises(
        ConfigError, match=rf"algo-2 waited 1 seconds for localhost: .*port {port} of localhost"
    ):
        second.result()


@pytest.mark.parametrize("host", HOSTS[:2])
def test_a_stop_ends_the_waiting_at_once(host: str, port: int) -> None:
    end = time.monotonic() + 0.3
    with pytest.raises(
        Interrupted, match=f"{host} was stopped before all hosts had started; nothing was trained"
    ):
        arriving(host, port, patience=60, stop=lambda: time.monotonic() > end)
    assert time.monotonic() < end + 5


def test_a_restarted_host_may_join_again(pool: ThreadPoolExecutor, port: int) -> None:
    end = time.monotonic() + 0.3
    first = pool.submit(arriving, FIRST, port)
    with pytest.raises(Interrupted):
        arriving("algo-2", port, stop=lambda: time.monotonic() > end)
    others = [pool.submit(arriving, host, port) for host in HOSTS[1:]]
    assert abs(first.result() - max(other.result() for other in others)) < 5


@pytest.mark.parametrize("code", [0, 3])
def test_all_hosts_end_with_the_code_of_the_first(
    pool: ThreadPoolExecutor, port: int, tmp_path: Path, code: int
) -> None:
    ends = following(pool, port, tmp_path / "none", HOSTS)
    with gather(FIRST, HOSTS, never, port=port) as peers:
        assert peers.lost(0.1) is None
        assert peers.end(code) == []
    assert [end.result(10) for end in ends] == [code, code]


def test_the_first_host_learns_why_processes_of_another_failed(
    pool: ThreadPoolExecutor, port: int, tmp_path: Path
) -> None:
    failure = tmp_path / "failure"
    (end,) = following(pool, port, failure)
    with gather(FIRST, HOSTS[:2], never, port=port) as peers:
        failure.write_text("The channel 'train' is missing.")
        time.sleep(0.3)
        (reason,) = peers.end(1)
    assert end.result(10) == 1
    assert reason.sentence == "The channel 'train' is missing."
    assert 0.2 < reason.age < 10


def test_a_missing_or_empty_file_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    assert HostFailure.read(tmp_path / "none") == HostFailure.read(tmp_path / "empty") == []


def test_a_host_that_goes_away_is_named(pool: ThreadPoolExecutor, port: int) -> None:
    gone = threading.Event()

    def another() -> None:
        with rendezvous._joined("algo-2", HOSTS[:2], never, port=port, patience=20):
            gone.wait(10)

    end = pool.submit(another)
    with gather(FIRST, HOSTS[:2], never, port=port) as peers:
        assert peers.lost(0.1) is None
        gone.set()
        assert peers.lost(10) == "algo-2"
    end.result(10)


def test_the_others_report_that_the_first_host_went_away(
    pool: ThreadPoolExecutor, port: int, tmp_path: Path
) -> None:
    (end,) = following(pool, port, tmp_path / "failure")
    with gather(FIRST, HOSTS[:2], never, port=port):
        pass
    with pytest.raises(NcfError, match="The first host, localhost, went away during training"):
        end.result(10)


def test_a_stranger_at_the_port_is_not_taken_for_a_host(
    pool: ThreadPoolExecutor, port: int, tmp_path: Path
) -> None:
    def stranger() -> int:
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
        return follow("algo-2", HOSTS[:2], never, tmp_path / "failure", port=port)

    end = pool.submit(stranger)
    with gather(FIRST, HOSTS[:2], never, port=port) as peers:
        peers.end(0)
    assert end.result(10) == 0


def test_a_first_host_that_is_not_there_is_named(port: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="algo-2 waited 0 seconds for localhost"):
        follow("algo-2", HOSTS, never, tmp_path / "failure", port=port, patience=0.3)
