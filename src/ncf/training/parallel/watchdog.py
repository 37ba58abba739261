"""Finds out which other process hangs, died or failed, for one helpful error message.

In: this process's phase and the number of exchanges it has begun. Out: a sentence that names the process that
the others wait for. Every process writes both into a shared store once a second, from a thread of its own. So
a stopped process is told from a slow one by its silence, and a slow one from those that wait for it by its
smaller number of exchanges.
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
    """Reports this process's `phase` and `count` of exchanges, which the process sets, to the others."""

    def __init__(self, rank: int, size: int, store: Any = None) -> None:
        """`rank` of `size` processes; `store` is a `torch.distributed` store, or None if the others cannot be
        reached."""
        self.rank, self.size = rank, size
        self.phase, self.count = "starting", 0
        self._store, self._lock, self._over = store, threading.Lock(), threading.Event()

    @contextmanager
    def over(self) -> Iterator[None]:
        """Report while the block runs, and turn a lost or late process into `LostProcess` with a message that
        names it."""
        thread = threading.Thread(target=self._beat, name="ncf-watch", daemon=True)
        thread.start()
        try:
            yield
        except NcfError as error:
            self._fail(f"Process {self.rank}: {error}")
            raise
        except Exception as error:
            message = self.explained(str(error)) if isinstance(error, RuntimeError) else None
            if message is not None:
                raise LostProcess(message) from error
            first = (str(error).splitlines() or [""])[0]
            self._fail(f"Process {self.rank} crashed ({type(error).__name__}: {first[:200]}).")
            raise
        finally:
            self._over.set()
            thread.join(_LISTEN_SECONDS)

    def _beat(self) -> None:
        # The hostname of a container is a meaningless number, so jobs set NCF_HOST.
        beats, name = 0, os.environ.get("NCF_HOST") or socket.gethostname()
        while not self._over.is_set():
            beats += 1
            facts = {"beat": beats, "phase": self.phase, "count": self.count, "host": name}
            self._write(f"rank/{self.rank}", json.dumps(facts))
            self._over.wait(_BEAT_SECONDS)

    def explained(self, error: str) -> str | None:
        """Explain the failed exchange behind the message `error`; None if it is not about another process."""
        late = any(text in error for text in _LATE)
        if not late and not any(text in error for text in _LOST):
            return None
        time.sleep(_BEAT_SECONDS)  # gives a process that failed the time to write its message
        failure = self._read("failure")
        if failure is not None:
            return failure
        if not self._reachable():
            return (
                f"Process {self.rank} of {self.size} lost its connection to the others and to the host they "
                "share: see that host's log, or check the network."
            )
        return self._late() if late else self._lost()

    def _late(self) -> str:
        silent, others = self._silent()
        # The process that the others wait for is a silent one, or else the one with the fewest exchanges.
        behind = min(others, key=lambda rank: (rank not in silent, others[rank]["count"]), default=None)
        if behind is None:
            return (
                f"Process {self.rank} of {self.size} timed out: the other processes never reported anything."
            )
        facts = others[behind]
        problem = "has stopped responding; last phase" if behind in silent else "hangs; current phase"
        return (
            f"Process {behind} of {self.size} (host {facts['host']}) {problem}: {facts['phase']}, after "
            f"{facts['count']} exchanges. Process {self.rank} has begun {self.count} and waited for the "
            "time-out (--timeout)."
        )

    def _lost(self) -> str:
        silent, others = self._silent()
        names = [
            f"{rank} (host {others[rank]['host']}, last phase: {others[rank]['phase']})" for rank in silent
        ]
        lost = f"process {' and '.join(names)}" if names else "another process"
        return f"Process {self.rank} of {self.size} lost {lost}; the log of that process may say why."

    def _silent(self) -> tuple[list[int], dict[int, dict[str, Any]]]:
        """The ranks that write nothing any more, and what each of the others wrote last."""
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

    def _fail(self, message: str) -> None:
        """Tell the others why this process ends, unless another one failed before it."""
        self._ask(lambda store: store.check(["failure"]) or store.set("failure", message))

    def _read(self, key: str) -> str | None:
        return self._ask(lambda store: str(store.get(key).decode()) if store.check([key]) else None)

    def _ask(self, call: Callable[[Any], Answer]) -> Answer | None:
        """The answer of the store, or None if there is none in time.

        The call runs in a thread of its own, since nothing else ends the wait for a host that is cut off.
        """
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
