"""What the watchdog says about another process, from what is in the store; and a store that no longer
answers."""

import json
import threading
from typing import Any

import pytest

from ncf.errors import LostProcess, StorageError
from ncf.training.parallel import watchdog
from ncf.training.parallel.watchdog import Watchdog


class Store:
    """What the processes wrote, without a network."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> bytes:
        return self.values[key].encode()


class Cut(Store):
    """On a host that is cut off: no call comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.never = threading.Event()

    def check(self, keys: list[str]) -> bool:
        return self.never.wait()

    def set(self, key: str, value: str) -> None:
        self.never.wait()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_BEAT_SECONDS", 0.01)
    monkeypatch.setattr(watchdog, "_LISTEN_SECONDS", 0.2)
    monkeypatch.setenv("NCF_HOST", "algo-1")


def facts(phase: str, count: int) -> str:
    return json.dumps({"beat": 5, "phase": phase, "count": count, "host": "algo-2"})


def raised(store: Store, error: Exception) -> str:
    """The message of process 0 of 3."""
    with (
        pytest.raises(type(error) if not isinstance(error, RuntimeError) else LostProcess) as caught,
        Watchdog(0, 3, store).over(),
    ):
        raise error
    return str(caught.value)


def test_every_process_reports_its_phase_count_and_host() -> None:
    store = Store()
    seen = threading.Event()
    own = Watchdog(1, 3, store)
    with own.over():
        own.phase, own.count = "evaluating", 7
        while not seen.is_set():
            text = store.values.get("rank/1", "{}")
            if json.loads(text).get("phase") == "evaluating":
                seen.set()
    report: dict[str, Any] = json.loads(store.values["rank/1"])
    assert (report["phase"], report["count"], report["host"]) == ("evaluating", 7, "algo-1")


def test_a_sentence_of_one_is_passed_on_by_the_others() -> None:
    store = Store()
    raised(store, StorageError("There is no space left."))
    assert store.values["failure"] == "Process 0: There is no space left."
    assert raised(store, RuntimeError("Connection closed by peer")) == "Process 0: There is no space left."


def test_the_silent_one_with_the_fewest_exchanges_is_named() -> None:
    store = Store()
    store.values |= {"rank/1": facts("evaluating", 9), "rank/2": facts("training, step 3 of epoch 1", 4)}
    sentence = raised(store, RuntimeError("Timed out waiting 5000ms"))
    assert (
        "Process 2 of 3 (host algo-2) has stopped responding; last phase: training, step 3 of epoch 1, "
        "after 4" in sentence
    )


class Beating(Store):
    """All processes go on to write, though they do nothing."""

    def get(self, key: str) -> bytes:
        report = json.loads(super().get(key))
        report["beat"] += 1
        self.set(key, json.dumps(report))
        return super().get(key)


def test_a_process_that_goes_on_beating_but_does_nothing_is_named() -> None:
    store = Beating()
    store.values |= {
        "rank/1": facts("training, step 9 of epoch 1", 5),
        "rank/2": facts("training, step 8 of epoch 1", 4),
    }
    assert raised(store, RuntimeError("Timed out waiting 5000ms")).startswith(
        "Process 2 of 3 (host algo-2) hangs; current phase: training, step 8 of epoch 1, after 4 exchanges."
    )


def test_the_lost_ones_are_named() -> None:
    store = Store()
    store.values["rank/2"] = facts("evaluating", 9)
    assert "lost process 2 (host algo-2, last phase: evaluating)" in raised(
        store, RuntimeError("Connection reset by peer")
    )


def test_a_host_that_is_cut_off_does_not_wait_for_the_store() -> None:
    assert "lost its connection to the others" in raised(Cut(), RuntimeError("Connection reset by peer"))


def test_an_error_that_is_not_about_others_stays_what_it_is() -> None:
    store = Store()
    with pytest.raises(RuntimeError, match="shapes"), Watchdog(0, 3, store).over():
        raise RuntimeError("shapes do not fit")
    assert store.values["failure"] == "Process 0 crashed (RuntimeError: shapes do not fit)."
