"""The part of Horovod's communicator that can be tested without Horovod; tests/horovod has the rest."""

import subprocess
import sys
import threading
import time

import pytest

from ncf.errors import ConfigError
from ncf.training.parallel.connect import connect
from ncf.training.parallel.horovod import Clock
from ncf.training.parallel.watchdog import Watchdog


def test_without_horovod_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "horovod", None)
    with pytest.raises(ConfigError, match=r"scripts/install-horovod builds it"), connect("horovod"):
        pass


@pytest.mark.parametrize("variable", ["HOROVOD_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_processes_that_horovod_started_are_not_taken_for_single_ones(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "2")
    with pytest.raises(ConfigError, match="add --distributed horovod"), connect("auto"):
        pass


def test_the_clock_ends_horovod_in_an_exchange_that_takes_too_long() -> None:
    ended = threading.Event()
    clock = Clock(ended.set, Watchdog(0, 2), 0.3)
    with clock.running(), clock.exchange():
        assert ended.wait(10)
    assert clock.late


def test_the_clock_leaves_alone_what_is_in_time() -> None:
    ended: list[float] = []
    clock = Clock(lambda: ended.append(time.monotonic()), Watchdog(0, 2), 0.5)
    with clock.running():
        for _ in range(4):
            with clock.exchange():
                time.sleep(0.2)
        time.sleep(0.7)  # between exchanges it does not run
        assert not clock.late
        assert ended == []
    assert len(ended) == 1


def test_where_horovod_does_not_end_the_process_does() -> None:
    code = (
        "import time; from ncf.training.parallel import horovod; from ncf.training.parallel.watchdog import "
        "Watchdog\nhorovod._GRACE = .2; clock = horovod.Clock(lambda: time.sleep(100), Watchdog(0, 2), "
        ".2)\nwith clock.running(), clock.exchange(): time.sleep(100)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ncf: Process 0 of 2 " in done.stderr
    assert "Traceback" not in done.stderr
