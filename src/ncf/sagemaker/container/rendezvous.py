"""The hosts of a job meet before they train; on request they stay connected and end with one exit code.

Each host opens one TCP connection to the first. Over it go lines of JSON: the host's name, and from the first
host "start" once all are there. Horovod jobs keep the connection: at the end the first host sends the exit
code, and each host answers what its own processes wrote to /opt/ml/output/failure. The two decisions worth
knowing: hosts wait in short slices of their own, since waiting inside torch's libraries does not react to
SIGTERM; and while they train nothing is sent, because TCP's keep-alive itself notices within half a minute
that the other side is gone.
"""

import json
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from typing import Any

from ncf.errors import ConfigError, Interrupted, NcfError

PORT = 29501
"""Where the first host listens."""
PATIENCE = 900.0
"""Seconds that hosts wait for each other to start: the last image may be pulled minutes after the first."""
SLICE = 0.5
"""Seconds between two looks at whether a stop was asked for."""
_ANSWER = 5.0
"""Seconds that a connected host may take for a line."""
_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}  # 25 s
_LONGEST = 65536


@dataclass(frozen=True)
class HostFailure:
    """Why a host's processes failed, and how many seconds ago they wrote it."""

    sentence: str
    age: float

    @classmethod
    def read(cls, failure: Path) -> list["HostFailure"]:
        """The failure in a file: one, or none where the file is missing or empty."""
        try:
            sentence, written = failure.read_text("utf-8", "replace").strip(), failure.stat().st_mtime
        except OSError:
            return []
        return [cls(sentence, time.time() - written)] if sentence else []


class PeerHosts:
    """The first host's connections to all others."""

    def __init__(self, connections: Mapping[str, socket.socket]) -> None:
        self._names = {connection: name for name, connection in connections.items()}

    def lost(self, seconds: float) -> str | None:
        """The name of a host that went away within so many seconds; None where all are still there."""
        if not self._names:
            time.sleep(seconds)
            return None
        ready = select(list(self._names), [], [], seconds)[0]
        return self._names[ready[0]] if ready else None

    def end(self, code: int) -> list[HostFailure]:
        """Send everyone the exit code; returns why their processes failed, where they did."""
        failures = []
        for connection in self._names:
            answer = _receive(connection) if _send(connection, {"code": code}) else {}
            failures += [HostFailure(entry["sentence"], entry["age"]) for entry in answer.get("said", [])]
        return failures


def await_hosts(
    host: str, hosts: Sequence[str], stop: Callable[[], bool], *, port: int = PORT, patience: float = PATIENCE
) -> None:
    """Return once all `hosts` are there, of which `host` is this one; errors as in `gather`."""
    if len(hosts) == 1:
        return
    if host == hosts[0]:
        with gather(host, hosts, stop, port=port, patience=patience):
            return
    with _joined(host, hosts, stop, port=port, patience=patience):
        return


@contextmanager
def gather(
    host: str, hosts: Sequence[str], stop: Callable[[], bool], *, port: int = PORT, patience: float = PATIENCE
) -> Iterator[PeerHosts]:
    """The first host's part: wait for all others, let them start, and stay connected for as long as the block
    lasts.

    Raises `ConfigError` that names the missing hosts after `patience` seconds, and `Interrupted` where `stop`
    asks to end before all are there.
    """
    wait = _Wait(host, hosts[0], port, patience, stop)
    connections: dict[str, socket.socket] = {}
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("", port), backlog=len(hosts)))
        listener.settimeout(SLICE)
        while missing := set(hosts[1:]) - connections.keys():
            wait.check(missing)
            with suppress(OSError):
                connection = stack.enter_context(_keep_alive(listener.accept()[0]))
                name = str(_receive(connection).get("host"))
                if name in hosts[1:]:
                    connections[name] = connection
                else:
                    # Something else found the port. Unread bytes would turn closing into a reset.
                    connection.setblocking(False)
                    with suppress(OSError):
                        connection.recv(_LONGEST)
                    connection.close()
            # A container that was restarted connects again; its old connection is closed by then.
            connections = {name: other for name, other in connections.items() if not _is_closed(other)}
        for connection in connections.values():
            _send(connection, {"start": True})
        yield PeerHosts(connections)


def follow(
    host: str,
    hosts: Sequence[str],
    stop: Callable[[], bool],
    failure: Path,
    *,
    port: int = PORT,
    patience: float = PATIENCE,
) -> int:
    """Another host's part of a job that stays connected: wait for the end and return the exit code of the
    first host.

    `failure` is the file in which this host's own processes say why they failed. Raises `NcfError` where the
    first host goes away; before the start errors are as in `gather`.
    """
    with _joined(host, hosts, stop, port=port, patience=patience) as connection:
        answer = _receive(connection, None)
        if "code" not in answer:
            raise NcfError(
                f"The first host, {hosts[0]}, went away during training: see its log for the reason."
            )
        _send(connection, {"said": [vars(entry) for entry in HostFailure.read(failure)]})
        return int(answer["code"])


@dataclass
class _Wait:
    """How long this host waits for others."""

    host: str
    first: str
    port: int
    patience: float
    stop: Callable[[], bool]

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.patience

    def check(self, missing: Iterable[str]) -> None:
        """Raise an error where the wait is over; `missing` are the hosts that are waited for."""
        if self.stop():
            raise Interrupted(f"{self.host} was stopped before all hosts had started; nothing was trained.")
        if time.monotonic() > self._end:
            raise ConfigError(
                f"{self.host} waited {self.patience:.0f} seconds for {', '.join(sorted(missing))}: see in "
                f"the log of that host why it did not start, and check that port {self.port} of {self.first} "
                "can be reached (security groups of the VPC)."
            )


@contextmanager
def _joined(
    host: str, hosts: Sequence[str], stop: Callable[[], bool], *, port: int, patience: float
) -> Iterator[socket.socket]:
    """A connection to the first host, once that says "start"; repeated where it is not there or restarts."""
    wait = _Wait(host, hosts[0], port, patience, stop)
    while True:
        wait.check(hosts[:1])
        try:
            connection = _keep_alive(socket.create_connection((hosts[0], port), 4 * SLICE))
        except OSError:
            time.sleep(SLICE)
            continue
        with connection:
            if _send(connection, {"host": host}) and _may_start(connection, wait):
                yield connection
                return
        time.sleep(SLICE)


def _may_start(connection: socket.socket, wait: _Wait) -> bool:
    """Whether the first host says "start", rather than goes away."""
    while not select([connection], [], [], SLICE)[0]:
        wait.check([wait.first])
    return "start" in _receive(connection)


def _is_closed(connection: socket.socket) -> bool:
    if not select([connection], [], [], 0)[0]:
        return False
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _keep_alive(connection: socket.socket) -> socket.socket:
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


def _receive(connection: socket.socket, seconds: float | None = _ANSWER) -> dict[str, Any]:
    """One line; nothing where the other side is gone, stays silent for so long, or sends something else."""
    connection.settimeout(seconds)
    try:
        with connection.makefile("rb", buffering=0) as lines:  # must not read the next line too
            value = json.loads(lines.readline(_LONGEST))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
