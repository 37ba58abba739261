"""A load generator: HTTP/1.1 requests over a few kept connections to 127.0.0.1, from a process of its own.

In: a port, bodies (each connection takes them in turn), how many connections, and how long or how many
requests. Out: requests a second, exact percentiles of all latencies, the statuses. Every connection sends its
next request when the answer to the last one is whole, so there are as many requests under way as connections.

The one decision worth knowing: it has to cost less than what it measures. One loop over non-blocking sockets,
requests put together beforehand, an answer looked at only for its status and length: about 15 microseconds a
request.
"""

import json
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

MOST_CONNECTIONS, MOST_SECONDS, MOST_REQUESTS = 256, 120.0, 1_000_000
_GIVE_UP_SECONDS = 30.0


@dataclass(frozen=True)
class Load:
    """What was measured; latencies in milliseconds, of requests that were answered with 200."""

    requests: int
    seconds: float
    per_second: float
    mean: float
    p50: float
    p99: float
    longest: float
    errors: int
    statuses: dict[str, int] = field(default_factory=dict)
    client_seconds: float = 0.0


def load(
    port: int,
    bodies: Sequence[bytes],
    connections: int = 1,
    *,
    seconds: float = 3.0,
    requests: int = MOST_REQUESTS,
    content_type: str = "application/json",
) -> Load:
    """Send for `seconds`, or `requests` in all, whichever ends first; the generator runs as a second
    process."""
    task = {
        "port": port,
        "bodies": [body.decode("latin-1") for body in bodies],
        "connections": min(connections, MOST_CONNECTIONS),
        "seconds": min(seconds, MOST_SECONDS),
        "requests": min(requests, MOST_REQUESTS),
        "content_type": content_type,
    }
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve())],
        input=json.dumps(task).encode(),
        stdout=subprocess.PIPE,
        timeout=seconds + 2 * _GIVE_UP_SECONDS,
        check=True,
    )
    return Load(**json.loads(done.stdout))


class Connection:
    """A kept connection with one request under way."""

    def __init__(self, port: int, requests: list[bytes], first: int) -> None:
        self._port, self._requests, self._next = port, requests, first
        self.socket = self._connect()
        self._answer = b""
        self._needed = 0
        self.status = ""
        self._keep = True
        self.began = 0.0

    def _connect(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self._port), timeout=_GIVE_UP_SECONDS)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def send(self) -> None:
        """The next request."""
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        self._answer, self._needed = b"", 0
        self.began = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Take what has come; True when the answer is whole."""
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise ConnectionError("the server closed the connection in the middle of an answer")
        self._answer += piece
        if not self._needed:
            end = self._answer.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = self._answer[:end].lower()
            self.status = head[9:12].decode()
            self._keep = b"connection: close" not in head
            self._needed = end + 4 + int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        return len(self._answer) >= self._needed

    def is_kept(self) -> bool:
        """Whether the server keeps the connection after this answer."""
        return self._keep

    def renew(self) -> None:
        """A new connection, where the server closes after an answer."""
        self.socket.close()
        self.socket = self._connect()


def run(
    port: int, bodies: list[str], connections: int, seconds: float, requests: int, content_type: str
) -> Load:
    """The generator itself; a request that fails counts as an error and its connection is made anew."""
    messages = [_message(body.encode("latin-1"), content_type) for body in bodies]
    step = max(1, len(messages) // connections)
    poll = select.epoll()
    everyone = [Connection(port, messages, number * step) for number in range(connections)]
    of = {one.socket.fileno(): one for one in everyone}
    for number in of:
        poll.register(number, select.EPOLLIN)
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    began = last = time.perf_counter()
    until, left = began + seconds, requests
    for one in everyone[:requests]:
        one.send()
        left -= 1
    waiting = min(connections, requests)
    while waiting:
        events = poll.poll(_GIVE_UP_SECONDS)
        if not events:
            statuses["no answer"] += waiting
            break
        for number, _ in events:
            one = of[number]
            try:
                if not one.receive():
                    continue
                last = time.perf_counter()
                statuses[one.status] += 1
                if one.status == "200":
                    latencies.append(last - one.began)
                kept = one.is_kept()
            except OSError:
                statuses["connection lost"] += 1
                kept, last = False, time.perf_counter()
            if not kept:
                del of[number]
                one.renew()
                of[one.socket.fileno()] = one
                poll.register(one.socket.fileno(), select.EPOLLIN)
            if left > 0 and last < until:
                one.send()
                left -= 1
            else:
                waiting -= 1
    return _measured(latencies, statuses, last - began)


def _message(body: bytes, content_type: str) -> bytes:
    head = (
        "POST /invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: "
        f"{content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _measured(latencies: list[float], statuses: Counter[str], seconds: float) -> Load:
    latencies.sort()
    answered = statuses["200"]
    return Load(
        requests=statuses.total(),
        seconds=seconds,
        per_second=answered / seconds if seconds else 0.0,
        mean=1000 * sum(latencies) / len(latencies) if latencies else float("nan"),
        p50=1000 * percentile(latencies, 0.5),
        p99=1000 * percentile(latencies, 0.99),
        longest=1000 * percentile(latencies, 1.0),
        errors=statuses.total() - answered,
        statuses=dict(statuses),
        client_seconds=time.process_time(),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all are not above; nothing is interpolated. NaN of
    nothing."""
    if not ordered:
        return float("nan")
    return ordered[max(0, -(-round(share * 10_000) * len(ordered) // 10_000) - 1)]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(run(**json.load(sys.stdin)))))
