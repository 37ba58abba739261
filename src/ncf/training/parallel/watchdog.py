"""What the other processes do, for the one sentence that is needed when one of them hangs, dies or fails.

In: this process's phase and how many exchanges it has begun. Out: a sentence that names the process that the others wait
for. Every process writes both to the store where they met, once a second from a thread of its own; so a stopped process
is told from a slow one by its silence, and a slow one from those that wait for it by its fewer exchanges.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from ncf.errors import LostProcess, NcfError

Answer = TypeVar("Answer")
_BEAT_SECONDS = 1.0
_LISTEN_SECONDS = 2.5
_LOST = (
    "onnection closed",
    "onnection reset",
    "Broken pipe",
    "onnection refused",
    "No route to host",
    "unreachable",
)
_LATE = ("imed out", "timeout")


class Watchdog:
    """`phase` and `count` are set by the process as it goes; without a `store` nobody is told."""

    def __init__(self, rank: int, size: int, store: Any = None) -> None:
        self.rank, self.size = rank, size
        self.phase, self.count = "starting", 0
        self._store, self._lock, self._over = store, threading.Lock(), threading.Event()

    @contextmanager
    def over(self) -> Iterator[None]:
        """Tell the others while the block runs; turn a lost or late process into a sentence that names it."""
        thread = threading.Thread(target=self._beat, name="ncf-watch", daemon=True)
        thread.start()
        try:
            yield
        except NcfError as error:
            self._fail(f"Process {self.rank}: {error}")
            raise
        except Exception as error:
            sentence = self.explained(str(error)) if isinstance(error, RuntimeError) else None
            if sentence is not None:
                raise LostProcess(sentence) from error
            first = (str(error).splitlines() or [""])[0]
            self._fail(f"Process {self.rank} broke down ({type(error).__name__}: {first[:200]}).")
            raise
        finally:
            self._over.set()
            thread.join(_LISTEN_SECONDS)

    def _beat(self) -> None:
        # In a container the system's name is a number that nobody knows.
        beats, name = 0, os.environ.get("NCF_HOST") or socket.gethostname()
        while not self._over.is_set():
            beats += 1
            facts = {"beat": beats, "phase": self.phase, "count": self.count, "host": name}
            self._write(f"rank/{self.rank}", json.dumps(facts))
            self._over.wait(_BEAT_SECONDS)

    def explained(self, error: str) -> str | None:
        """A sentence about a failed exchange; None where the error is not about another process."""
        late = any(word in error for word in _LATE)
        if not late and not any(word in error for word in _LOST):
            return None
        time.sleep(_BEAT_SECONDS)  # who failed with a reason has written it by then
        told = self._read("failure")
        if told is not None:
            return told
        if not self._reachable():
            return (
                f"Process {self.rank} of {self.size} cannot reach the others any more, nor the host where they met: "
                "that host's log, or the network's, says why."
            )
        return self._late() if late else self._lost()

    def _late(self) -> str:
        silent, others = self._silent()
        behind = min(others, key=lambda rank: (rank not in silent, others[rank]["count"]), default=None)
        if behind is None:
            return f"Process {self.rank} of {self.size} waited in vain for the others, of which nothing is known."
        facts = others[behind]
        how = "is silent since" if behind in silent else "hangs in"
        return (
            f"Process {behind} of {self.size} (host {facts['host']}) {how} this phase: {facts['phase']}, after "
            f"{facts['count']} exchanges; process {self.rank} has begun {self.count} and waited until the time-out "
            "(--timeout)."
        )

    def _lost(self) -> str:
        silent, others = self._silent()
        named = [
            f"{rank} (host {others[rank]['host']}, in this phase: {others[rank]['phase']})" for rank in silent
        ]
        who = f"process {' and '.join(named)}" if named else "another one"
        return f"Process {self.rank} of {self.size} lost {who}, whose own log may say why it ended."

    def _silent(self) -> tuple[list[int], dict[int, dict[str, Any]]]:
        """Who writes nothing any more, and what each of the others wrote last."""
        before = self._others()
        time.sleep(_LISTEN_SECONDS)
        after = self._others()
        silent = [rank for rank, facts in before.items() if after.get(rank, facts)["beat"] == facts["beat"]]
        return silent, after or before

    def _others(self) -> dict[int, dict[str, Any]]:
        texts = {rank: self._read(f"rank/{rank}") for rank in range(self.size) if rank != self.rank}
        return {rank: json.loads(text) for rank, text in texts.items() if text}

    def _reachable(self) -> bool:
        return self._read(f"rank/{self.rank}") is not None

    def _write(self, key: str, value: str) -> None:
        with suppress(RuntimeError), self._lock:
            if self._store is not None:
                self._store.set(key, value)

    def _fail(self, sentence: str) -> None:
        """Tell the others why this process ends, unless one has ended before."""
        self._ask(lambda store: store.check(["failure"]) or store.set("failure", sentence))

    def _read(self, key: str) -> str | None:
        return self._ask(lambda store: str(store.get(key).decode()) if store.check([key]) else None)

    def _ask(self, call: Callable[[Any], Answer]) -> Answer | None:
        """None also where the store does not answer in time: nothing else ends a wait for a host that is cut off."""
        if self._store is None:
            return None
        answers: list[Answer] = []

        def asking() -> None:
            with suppress(RuntimeError), self._lock:
                answers.append(call(self._store))

        thread = threading.Thread(target=asking, name="ncf-ask", daemon=True)
        thread.start()
        thread.join(_LISTEN_SECONDS)
        return answers[0] if answers else None
