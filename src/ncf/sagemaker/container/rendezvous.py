"""The hosts of a job meet, know at once when one of them goes, and end with one exit code.

Each host keeps one TCP connection to the first. Over it go three lines of JSON: the host's name; at the end, from the
first host, the exit code; and back what the host's own processes wrote to /opt/ml/output/failure. The one decision worth
knowing: between the first line and the second nothing is sent, and the system itself finds out whether the other side
is there (TCP's keep-alive), so a cable that was cut shows within half a minute.
"""

import json
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any, Self

from ncf.errors import Interrupted, NcfError

PORT = 29400
"""Where the first host listens."""
PATIENCE = 600.0
"""Seconds within which all hosts must be there."""
_TICK = 0.5
_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # 25 s
_LONGEST = 65536


@dataclass(frozen=True)
class HostFailure:
    """Why a host's processes failed, and how many seconds ago they said so."""

    sentence: str
    age: float

    @classmethod
    def read(cls, failure: Path) -> list["HostFailure"]:
        """What the file holds: one, or none."""
        try:
            sentence, written = failure.read_text("utf-8", "replace").strip(), failure.stat().st_mtime
        except OSError:
            return []
        return [cls(sentence, time.time() - written)] if sentence else []


class PeerHosts:
    """The first host's connections to all others; entering it waits for them."""

    def __init__(
        self, hosts: Sequence[str], stop: Callable[[], bool], *, port: int = PORT, patience: float = PATIENCE
    ) -> None:
        self._missing, self._stop, self._patience = set(hosts), stop, patience
        self._selector = DefaultSelector()
        self._names: dict[socket.socket, str] = {}
        self._listener = socket.create_server(("", port), backlog=len(hosts) + 1)

    def __enter__(self) -> Self:
        try:
            self._meet()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for connection in (self._listener, *self._names):
            connection.close()
        self._selector.close()

    def _meet(self) -> None:
        self._listener.settimeout(_TICK)
        until = time.monotonic() + self._patience
        while self._missing:
            if self._stop():
                raise Interrupted("Stopped before all hosts were there; nothing was trained.")
            if time.monotonic() > until:
                names = ", ".join(sorted(self._missing))
                raise NcfError(
                    f"{names} did not come within {self._patience:.0f} s: see that all hosts reach each other."
                )
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            name = _receive(_kept_alive(connection), _TICK * 10).get("host")
            if name not in self._missing:  # not one of ours
                connection.close()
                continue
            self._missing.remove(name)
            self._names[connection] = name
            self._selector.register(connection, EVENT_READ)

    def lost(self, seconds: float) -> str | None:
        """The name of a host that went away, after at most so many seconds; None where all are there."""
        if not self._names:
            time.sleep(seconds)
            return None
        ready = self._selector.select(seconds)
        return self._names[ready[0][0].fileobj] if ready else None  # type: ignore[index]

    def end(self, code: int) -> list[HostFailure]:
        """Tell everyone the exit code; what they say of their own processes."""
        answers = []
        for connection in self._names:
            answer = _receive(connection, _TICK * 10) if _send(connection, {"code": code}) else {}
            answers += [HostFailure(one["sentence"], one["age"]) for one in answer.get("said", [])]
        return answers


def call(
    first: str,
    name: str,
    failure: Path,
    stop: Callable[[], bool],
    *,
    port: int = PORT,
    patience: float = PATIENCE,
) -> int:
    """Another host: be there until the first one says how it ended; raises `NcfError` where that one goes away."""
    with _reach(first, stop, port, patience) as connection:
        _send(_kept_alive(connection), {"host": name})
        answer = _receive(connection, None)
        if "code" not in answer:
            raise NcfError(f"The first host, {first}, went away while it trained: its own log says why.")
        _send(connection, {"said": [vars(one) for one in HostFailure.read(failure)]})
        return int(answer["code"])


def _reach(first: str, stop: Callable[[], bool], port: int, patience: float) -> socket.socket:
    until = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection((first, port), _TICK * 10)
        except OSError as error:
            if stop():
                raise Interrupted("Stopped before all hosts were there; nothing was trained.") from None
            if time.monotonic() > until:
                raise NcfError(
                    f"The first host, {first}, could not be reached within {patience:.0f} s ({error}): "
                    "see that all hosts reach each other."
                ) from None
            time.sleep(_TICK)


def _kept_alive(connection: socket.socket) -> socket.socket:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _ALIVE.items():
        if hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return connection


def _send(connection: socket.socket, message: dict[str, Any]) -> bool:
    """Whether it could be sent."""
    try:
        connection.sendall(json.dumps(message).encode() + b"\n")
    except OSError:
        return False
    return True


def _receive(connection: socket.socket, seconds: float | None) -> dict[str, Any]:
    """One line; nothing where the other side is gone, is silent for so long, or speaks otherwise."""
    connection.settimeout(seconds)
    try:
        with connection.makefile("rb") as lines:
            value = json.loads(lines.readline(_LONGEST))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
