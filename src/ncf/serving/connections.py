"""The limits of a connection: the size of a request's head, seconds without a request, number of connections.

uvicorn's protocol on httptools has none of these; its other one, on h11, is slower, in Python alone.

The one decision worth knowing: where the server has as many connections as it may have, a new one takes the
place of the one that has waited longest without a request. So sockets that say nothing shut nobody out.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any, ClassVar

import httptools
from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ncf.serving.schemas import CROWDED, ApiError, too_large

HEAD_BYTES = 64 * 2**10
HEADERS = 100
_NO_REQUEST = ApiError(400, "bad_request", "These bytes are not an HTTP/1.1 request: check the client.")


class Connection(HttpToolsProtocol):
    """One connection; `timeout_keep_alive` and `limit_concurrency` are those of uvicorn's settings."""

    _waiting: ClassVar[dict[Connection, None]] = {}
    """Connections without a request, the longest first."""

    def __init__(self, config: Any, *others: Any, **more: Any) -> None:
        super().__init__(config, *others, **more)
        # uvicorn would refuse /ping as well, and would not say when to come back.
        self._most, self.limit_concurrency = config.limit_concurrency, None
        self._head = self._lines = self._unread = self._unsent = 0
        self._wrong = _NO_REQUEST
        self._timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; the longest waiting connection ends where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._most:
            idle = (other for other in self._waiting if not other.transport.get_write_buffer_size())
            if oldest := next(idle, None):
                oldest._stop_waiting()
                oldest.connections.discard(oldest)
                oldest.transport.abort()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timer."""
        super().connection_lost(exc)
        self._stop_waiting()

    def data_received(self, data: bytes) -> None:
        """Parse `data`; what the parser keeps back, such as half of a header, has a limit too."""
        if self.transport.is_closing():
            return
        self._unread += len(data)
        super().data_received(data)
        if self._unread > HEAD_BYTES and not self.transport.is_closing():
            self._wrong = _too_long(self._unread)
            self.send_400_response("")

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn has a text of its own
        """Refuse what was sent, in the form of all errors, and close."""
        body = to_json(self._wrong.document())
        head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(
            body
        )
        self.transport.write(STATUS_LINE[self._wrong.status] + head + body)
        self.transport.close()

    def on_message_begin(self) -> None:
        """A new request."""
        super().on_message_begin()
        self._head = self._lines = self._unread = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, also one that follows a body in chunks."""
        self._lines += 1
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._unread = 0
        self._stop_waiting()
        crowd = len(self.connections)
        self.scope[CROWDED] = crowd if crowd > self._most else 0  # type: ignore[literal-required]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body; the app limits its size and time."""
        self._unread = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Wait for the next request, and for the client to take the answer."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._wait()

    def _count(self, size: int) -> None:
        self._head += size
        self._unread = 0
        if self._lines > HEADERS:
            self._wrong = too_large("headers", HEADERS, self._lines, "headers")
            self._wrong.status = 431
        elif self._head > HEAD_BYTES:
            self._wrong = _too_long(self._head)
        else:
            return
        raise httptools.HttpParserError

    def _wait(self) -> None:
        self._stop_waiting()
        self._waiting[self] = None
        self._timer = self.loop.call_later(self.timeout_keep_alive, self._time_out)

    def _stop_waiting(self) -> None:
        self._waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:  # The client is slow, but it does take the answer.
            self._unsent = unsent
            self._wait()
        else:
            self.transport.abort()


def _too_long(size: int) -> ApiError:
    error = too_large("head_bytes", HEAD_BYTES, size, "bytes in the head of a request")
    error.status = 431
    return error
