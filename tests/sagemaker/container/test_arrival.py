"""Hosts that meet: threads on the loopback, the first one by a name that resolves."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ncf.errors import ConfigError, Interrupted
from ncf.sagemaker.container.arrival import await_hosts
from processes import free_port

HOSTS = ("localhost", "algo-2", "algo-3")


def never() -> bool:
    return False


def arriving(
    host: str, port: int, *, late: float = 0.0, patience: float = 20, stop: Callable[[], bool] = never
) -> float:
    """When this host was let go."""
    time.sleep(late)
    await_hosts(host, HOSTS, port, patience, stop)
    return time.monotonic()


@pytest.mark.parametrize("late", [("localhost",), ("algo-3",), ("algo-2", "algo-3")])
def test_nobody_goes_before_all_are_here(late: tuple[str, ...]) -> None:
    port = free_port()
    began = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        going = [pool.submit(arriving, host, port, late=1.0 if host in late else 0.0) for host in HOSTS]
        assert all(one.result() - began >= 1.0 for one in going)


def test_one_host_waits_for_nobody() -> None:
    await_hosts("algo-1", ("algo-1",), 1, 0.0, never)


def test_who_is_missing_is_said() -> None:
    port = free_port()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(arriving, "localhost", port, patience=1)
        second = pool.submit(arriving, "algo-2", port, patience=3)
        with pytest.raises(ConfigError, match="localhost waited 1 seconds for algo-3: "):
            first.result()
        with pytest.raises(ConfigError, match="algo-2 waited 3 seconds for localhost: "):
            second.result()


@pytest.mark.parametrize("host", HOSTS[:2])
def test_a_stop_ends_the_waiting_at_once(host: str) -> None:
    end = time.monotonic() + 1.0
    with pytest.raises(Interrupted, match=f"{host} was stopped"):
        arriving(host, free_port(), patience=60, stop=lambda: time.monotonic() > end)
    assert time.monotonic() < end + 5


def test_a_host_that_starts_anew_is_taken_in_again() -> None:
    port, end = free_port(), time.monotonic() + 1.0
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(arriving, "localhost", port)
        with pytest.raises(Interrupted):
            arriving("algo-2", port, stop=lambda: time.monotonic() > end)
        others = [pool.submit(arriving, host, port) for host in HOSTS[1:]]
        assert abs(first.result() - max(one.result() for one in others)) < 5
