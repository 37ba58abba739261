"""The ASGI app: HTTP in front of the wire. A function of (state, request), so it runs in memory as well as on a port.

| path | |
| --- | --- |
| `POST /invocations` | everything of the wire table (`wire.py`) |
| `GET /ping` | 200 while the compute thread answers |
| `GET /metrics` | Prometheus |
| `GET /openapi.json` | what can be asked, for programs |
| `GET /`, `/explorer/…` | the explorer page and what it asks |

The one decision worth knowing: the event loop reads and sends, and nothing else; a request is understood, answered
and written in one call on one compute thread. A second compute thread in the process would wait for the first one's
interpreter lock; more cores are used by more workers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ncf.serving import api, explorer
from ncf.serving.compute_thread import ComputeThread
from ncf.serving.metrics import CONTENT_TYPE, ServerMetrics
from ncf.serving.openapi import openapi
from ncf.serving.recommender import Recommender
from ncf.serving.schemas import Limits, WireError, too_large

Result = TypeVar("Result")
LOG = logging.getLogger("ncf.serving")
_JSON = "application/json"
_PAGE_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "frame-ancestors 'none'",
}


@dataclass(frozen=True)
class HttpReply:
    """An HTTP answer."""

    status: int
    body: bytes
    type: str = _JSON


@dataclass
class State:
    """What every request sees. `body_seconds` is how long a client may take to send a body; `most_waiting` requests
    may wait for the compute thread before new ones are sent away with 503.
    """

    recommender: Recommender
    limits: Limits = field(default_factory=Limits)
    body_seconds: float = 10.0
    most_waiting: int = 1024
    monitor: ServerMetrics = field(default_factory=ServerMetrics)
    lane: ComputeThread = field(default_factory=ComputeThread)

    async def compute(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """The result of `function(*arguments)`, computed off the event loop; 503 where too many wait for that."""
        if self.lane.waiting >= self.most_waiting:
            raise WireError(
                503,
                "overloaded",
                f"{self.lane.waiting:,} requests are waiting: try again in a moment, or add workers.",
            )
        return await self.lane.call(function, *arguments)


def create_app(state: State) -> ASGIApp:
    """The app for one worker. POST /invocations goes past the router, which would be a tenth of its time."""
    invocations, others = Invocations(state), _router(state)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        wanted = scope["type"] == "http" and scope["path"] == "/invocations" and scope["method"] == "POST"
        await (invocations if wanted else others)(scope, receive, send)

    return app


def _router(state: State) -> Starlette:
    """Every path, /invocations among them for its 405."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        state.lane.close()

    async def ping(_: Request) -> Response:
        try:
            async with asyncio.timeout(2):
                await state.compute(int)
        except TimeoutError:
            return _response(
                _failed(WireError(503, "busy", "The compute thread has not answered for 2 seconds."))
            )
        return Response(b'{"status":"ok"}', media_type=_JSON)

    async def metrics(_: Request) -> Response:
        state.monitor.waiting.set(state.lane.waiting)
        return Response(state.monitor.text(), media_type=CONTENT_TYPE)

    async def describe(_: Request) -> Response:
        return Response(document, media_type=_JSON)

    async def page(request: Request) -> Response:
        path = explorer.PAGES / request.path_params.get("file", "index.html")
        if path.name not in pages:
            return _response(_failed(WireError(404, "not_found", f"There is no page {path.name[:80]!r}.")))
        return FileResponse(path, media_type=_PAGE_TYPES[path.suffix], headers=_PAGE_HEADERS)

    async def about(_: Request) -> Response:
        return _json(await state.compute(explorer.about, state.recommender))

    async def items(request: Request) -> Response:
        query, limit = request.query_params.get("query", ""), request.query_params.get("limit", "20")
        if not limit.isdecimal() or len(limit) > 6:
            raise WireError(422, "invalid", "limit must be a whole number.", "limit")
        return _json(await state.compute(explorer.search, state.recommender, query[:200], int(limit)))

    async def user(request: Request) -> Response:
        wanted = request.path_params["user"]
        found = await state.compute(explorer.history, state.recommender, wanted)
        if found is None:
            raise WireError(
                404, "unknown_id", f"The model does not know user {wanted[:80]!r}: check the id.", "user"
            )
        return _json(found)

    document = to_json(openapi(state.limits))
    pages = {path.name for path in explorer.PAGES.iterdir() if path.suffix in _PAGE_TYPES}
    routes = [
        Route("/invocations", Invocations(state), methods=["POST"]),
        Route("/ping", ping),
        Route("/metrics", metrics),
        Route("/openapi.json", describe),
        Route("/", page),
        Route("/explorer/about", about),
        Route("/explorer/items", items),
        Route("/explorer/users/{user:path}", user),
        Route("/explorer/{file}", page),
    ]
    handlers: dict[Any, Any] = {
        WireError: _wire_error,
        404: _http_error,
        405: _http_error,
        500: _internal_error,
    }
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


class Invocations:
    """POST /invocations as a bare ASGI app: it is nearly all of the traffic."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._reply(scope, receive)
        except ClientDisconnect:
            return
        self._state.monitor.count_request(reply.status)
        await send(_start(reply))
        await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, scope: Scope, receive: Receive) -> HttpReply:
        state = self._state
        try:
            headers = dict(scope["headers"])
            body = await self._body(headers, receive)
            began = time.perf_counter()
            reply: HttpReply = await state.compute(respond, state, body, headers)
            state.monitor.seconds.observe(time.perf_counter() - began)
        except WireError as error:
            reply = _failed(error)
        except TimeoutError:
            reply = _failed(
                WireError(
                    408,
                    "slow_body",
                    f"The body did not arrive in {state.body_seconds:g} seconds: send it faster.",
                )
            )
        return reply

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        limit = self._state.limits.body_bytes
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > limit:
            raise too_large("body_bytes", limit, int(announced), "bytes in a body")
        async with asyncio.timeout(self._state.body_seconds):
            message = await _next(receive)
            if not message.get("more_body"):
                return bytes(message.get("body", b""))
            chunks = [message.get("body", b"")]
            size = len(chunks[0])
            while message.get("more_body"):
                message = await _next(receive)
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > limit:
                    raise too_large("body_bytes", limit, size, "bytes in a body")
            return b"".join(chunks)


def respond(state: State, body: bytes, headers: dict[bytes, bytes]) -> HttpReply:
    """Understand, answer and write one request; runs on the compute thread. Every mistake becomes a reply."""
    began = time.perf_counter()
    try:
        call = api.read(body, _header(headers, b"content-type"), state.limits)
        format = api.answer_format(_header(headers, b"accept"), call.format)
        before = time.perf_counter()
        answers = api.answer(state.recommender, call, state.limits)
        state.monitor.model.inc(time.perf_counter() - before)
        state.monitor.count_lists(one.sources for one in answers if not isinstance(one, WireError))
        reply = HttpReply(200, api.write(answers, format), api.media_type(format))
    except WireError as error:
        reply = _failed(error)
    except Exception:
        LOG.exception("A request could not be answered.")
        reply = _failed(_INTERNAL)
    state.monitor.computing.observe(time.perf_counter() - began)
    return reply


_INTERNAL = WireError(500, "internal", "The server made a mistake, which is in its log.")


def _header(headers: dict[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")


async def _next(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


def _start(reply: HttpReply) -> Message:
    headers = [(b"content-type", reply.type.encode()), (b"content-length", str(len(reply.body)).encode())]
    if reply.status == 503:
        headers.append((b"retry-after", b"1"))
    if reply.status == 408:
        headers.append((b"connection", b"close"))
    return {"type": "http.response.start", "status": reply.status, "headers": headers}


def _failed(error: WireError) -> HttpReply:
    return HttpReply(error.status, to_json(error.document()))


def _response(reply: HttpReply) -> Response:
    return Response(reply.body, reply.status, media_type=reply.type)


def _json(document: Any) -> Response:
    return Response(to_json(document), media_type=_JSON)


async def _wire_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, WireError)
    return _response(_failed(error))


async def _http_error(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    if status == 405:
        wrong = WireError(405, "method_not_allowed", f"{request.url.path} does not take {request.method}.")
    else:
        wrong = WireError(404, "not_found", f"There is no {request.url.path[:80]}: see /openapi.json.")
    response = _response(_failed(wrong))
    response.headers.update(getattr(error, "headers", None) or {})
    return response


async def _internal_error(_: Request, error: Exception) -> Response:
    LOG.error("A request could not be answered.", exc_info=error)
    return _response(_failed(_INTERNAL))
