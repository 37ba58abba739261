"""The sentence about another process, from what is in the store; and a store that no longer answers."""

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
    """What process 0 of 3 makes of it."""
    with (
        pytest.raises(type(error) if not isinstance(error, RuntimeError) else LostProcess) as told,
        Watchdog(0, 3, store).over(),
    ):
        raise error
    return str(told.value)


def test_every_process_tells_its_phase_count_and_host() -> None:
    store = Store()
    seen = threading.Event()
    mine = Watchdog(1, 3, store)
    with mine.over():
        mine.phase, mine.count = "judging", 7
        while not seen.is_set():
            text = store.values.get("rank/1", "{}")
            if json.loads(text).get("phase") == "judging":
                seen.set()
    told: dict[str, Any] = json.loads(store.values["rank/1"])
    assert (told["phase"], told["count"], told["host"]) == ("judging", 7, "algo-1")


def test_a_sentence_of_one_is_passed_on_by_the_others() -> None:
    store = Store()
    raised(store, StorageError("There is no space left."))
    assert store.values["failure"] == "Process 0: There is no space left."
    assert raised(store, RuntimeError("Connection closed by peer")) == "Process 0: There is no space left."


def test_the_silent_one_with_the_fewest_exchanges_is_named() -> None:
    store = Store()
    store.values |= {"rank/1": facts("judging", 9), "rank/2": facts("training, step 3 of epoch 1", 4)}
    sentence = raised(store, RuntimeError("Timed out waiting 5000ms"))
    assert (
        "Process 2 of 3 (host algo-2) is silent since this phase: training, step 3 of epoch 1, after 4"
        in sentence
    )


def test_the_lost_ones_are_named() -> None:
    store = Store()
    store.values["rank/2"] = facts("judging", 9)
    assert "lost process 2 (host algo-2, in this phase: judging)" in raised(
        store, RuntimeError("Connection reset by peer")
    )


def test_a_host_that_is_cut_off_does_not_wait_for_the_store() -> None:
    assert "cannot reach the others any more" in raised(Cut(), RuntimeError("Connection reset by peer"))


def test_an_error_that_is_not_about_others_stays_what_it_is() -> None:
    store = Store()
    with pytest.raises(RuntimeError, match="shapes"), Watchdog(0, 3, store).over():
        raise RuntimeError("shapes do not fit")
    assert store.values["failure"] == "Process 0 broke down (RuntimeError: shapes do not fit)."
