"""The hosts of a job come minutes apart: none trains before all are there, or a sentence says which is missing.

In: this host, all hosts, a port of the first. Out: nothing, once every host has reached the first. The one decision worth
knowing: it waits in short slices of its own, since what waits for others inside torch's libraries hears no SIGTERM.
"""

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress

from ncf.errors import ConfigError, Interrupted

SLICE = 0.5
"""Seconds between two looks at whether a stop was asked for."""


def await_hosts(
    host: str, hosts: Sequence[str], port: int, patience: float, stop: Callable[[], bool]
) -> None:
    """Return once all are here; the first of `hosts` listens at `port`.

    Raises `ConfigError` after `patience` seconds, and `Interrupted` where `stop` asks to end before.
    """
    watch = _Watch(host, hosts, port, patience, stop)
    if len(hosts) > 1:
        _gather(watch) if host == hosts[0] else _join(watch)


class _Watch:
    """How long this host waits, and for whom."""

    def __init__(
        self, host: str, hosts: Sequence[str], port: int, patience: float, stop: Callable[[], bool]
    ) -> None:
        self.host, self.first, self.port, self.patience, self.stop = host, hosts[0], port, patience, stop
        self.others = self.missing = frozenset(hosts) - {host}
        self.end = time.monotonic() + patience

    def look(self) -> None:
        """Once a slice: raise where the waiting is over."""
        if self.stop():
            raise Interrupted(
                f"{self.host} was stopped before the other hosts had come; nothing was trained."
            )
        if time.monotonic() > self.end:
            awaited = ", ".join(sorted(self.missing)) if self.host == self.first else self.first
            raise ConfigError(
                f"{self.host} waited {self.patience:.0f} seconds for {awaited}: see in the log of that host why it did not "
                f"start, and that port {self.port} of {self.first} can be reached (security groups of the VPC)."
            )


def _gather(watch: _Watch) -> None:
    """The first host: take in every other one, then let all go at once."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("", watch.port)))
        server.settimeout(SLICE)
        arrived: dict[str, socket.socket] = {}
        while watch.missing:
            watch.look()
            with suppress(OSError):
                connection = stack.enter_context(server.accept()[0])
                connection.settimeout(SLICE)
                name = connection.recv(1024).decode("utf-8", "replace")
                if name in watch.others:
                    arrived[name] = connection
            arrived = {name: there for name, there in arrived.items() if not _is_gone(there)}
            watch.missing = watch.others - set(arrived)
        for connection in arrived.values():
            connection.sendall(b"go")


def _is_gone(connection: socket.socket) -> bool:
    """Whether the other side has ended: a host that starts anew comes again."""
    connection.setblocking(False)
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(SLICE)


def _join(watch: _Watch) -> None:
    """Another host: come, and come again where the first one is not there yet or starts anew."""
    while True:
        watch.look()
        with suppress(OSError), socket.create_connection((watch.first, watch.port), SLICE) as connection:
            connection.sendall(watch.host.encode())
            if _let_go(watch, connection):
                return
        time.sleep(SLICE)


def _let_go(watch: _Watch, connection: socket.socket) -> bool:
    """Whether the first host says that all are here, rather than goes away."""
    while True:
        watch.look()
        with suppress(TimeoutError):
            return connection.recv(16) == b"go"
