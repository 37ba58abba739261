"""The ASGI app: HTTP in front of `api.py`. It runs in memory as well as on a port.

| path | answer |
| --- | --- |
| `POST /invocations` | every request of the table in `api.py` |
| `GET /ping` | 200 unless the compute thread is stuck |
| `GET /metrics` | counts for Prometheus |
| `GET /openapi.json` | requests and responses, for programs |
| `GET /`, `/explorer/…` | the explorer page and its data, unless it is turned off |

The one decision worth knowing: the event loop only reads and sends. A request is understood, answered and
written in one call on one compute thread. A second compute thread would only wait for the first one's
interpreter lock; more cores are used by more workers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ncf.serving import api, explorer
from ncf.serving.compute_thread import ComputeThread
from ncf.serving.metrics import CONTENT_TYPE, ServerMetrics
from ncf.serving.openapi import openapi
from ncf.serving.recommender import Recommender
from ncf.serving.schemas import CROWDED, ApiError, Limits, too_large

Result = TypeVar("Result")
LOG = logging.getLogger("ncf.serving")
_JSON = "application/json"
_PAGE_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_PAGE_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "frame-ancestors 'none'",
}
_STUCK_SECONDS = 30
"""More than any request within the limits takes, so that load alone never makes a server look ill."""
_STOPPING = ApiError(503, "stopping", "The server is stopping: send the request again, to another one.")
_INTERNAL = ApiError(500, "internal", "The server made a mistake; details are in its log.")


class _IdConvertor(StringConvertor):
    """Any text: ids have slashes and line ends too."""

    regex = "(?s:.*)"


register_url_convertor("id", _IdConvertor())


@dataclass
class State:
    """What every request sees."""

    recommender: Recommender
    limits: Limits = field(default_factory=Limits)
    body_seconds: float = 10.0
    """How long a client may take to send a body."""
    most_waiting: int = 1024
    """How many requests may wait for the compute thread before new ones are refused with 503."""
    explorer: bool = True
    """Whether there is the explorer, which shows the histories of users."""
    metrics: ServerMetrics = field(default_factory=ServerMetrics)
    thread: ComputeThread = field(default_factory=ComputeThread)

    async def compute(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """The result of `function(*arguments)`, computed on the compute thread. Raises the 503 `ApiError`."""
        if self.thread.waiting >= self.most_waiting:
            raise overloaded(self.thread.waiting, "requests are waiting")
        self.metrics.waiting.inc()
        try:
            return await self.thread.call(function, *arguments)
        finally:
            self.metrics.waiting.dec()


def create_app(state: State) -> ASGIApp:
    """The app for one worker; it ends the state's compute thread when it shuts down.

    POST /invocations, nearly all of the traffic, goes straight to its endpoint: starlette's middleware and
    router would add 5% to its latency (docs/decisions.md).
    """
    invocations, router = Invocations(state), _router(state)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        direct = scope["type"] == "http" and scope["path"] == "/invocations" and scope["method"] == "POST"
        if scope.get(CROWDED) and scope["path"] != "/ping":
            refusal = failed(overloaded(scope[CROWDED], "connections are open"))
            refusal.headers["Connection"] = "close"
            state.metrics.count_request(refusal.status_code)
            await refusal(scope, receive, send)
        else:
            try:
                await (invocations if direct else router)(scope, receive, send)
            except asyncio.CancelledError:  # The server stops, and the body has not come in time.
                if scope["type"] != "http":
                    raise
                with suppress(RuntimeError):  # An answer that had begun stays as it is.
                    await failed(_STOPPING)(scope, receive, send)

    return app


def _router(state: State) -> Starlette:
    """All paths; POST /invocations only arrives here for the 405 of other methods."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        state.thread.close()

    endpoints = Endpoints(state)
    routes: list[Route] = [
        Route("/invocations", Invocations(state), methods=["POST"]),
        Route("/ping", endpoints.ping),
        Route("/metrics", endpoints.metrics),
        Route("/openapi.json", endpoints.openapi),
    ]
    if state.explorer:
        routes += [
            Route("/", endpoints.page),
            Route("/explorer/about", endpoints.about),
            Route("/explorer/items", endpoints.items),
            Route("/explorer/users/{user:id}", endpoints.user),
            Route("/explorer/{file}", endpoints.page),
        ]
    handlers: dict[Any, Any] = {
        ApiError: _api_error,
        404: _http_error,
        405: _http_error,
        500: _internal_error,
    }
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


class Endpoints:
    """A method for each path; an `ApiError` that one raises becomes its response."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._openapi = to_json(openapi(state.limits, state.explorer))
        self._pages = {path.name for path in explorer.PAGES.iterdir() if path.suffix in _PAGE_TYPES}

    async def ping(self, _: Request) -> Response:
        """200, also under load; 503 where one request has kept the compute thread too long."""
        if self._state.thread.busy > _STUCK_SECONDS:
            raise ApiError(503, "busy", f"One request has been computed for over {_STUCK_SECONDS} seconds.")
        return Response(b'{"status":"ok"}', media_type=_JSON)

    async def metrics(self, _: Request) -> Response:
        """The counts of all workers."""
        return Response(self._state.metrics.text(), media_type=CONTENT_TYPE)

    async def openapi(self, _: Request) -> Response:
        """The OpenAPI document, which does not change while the server runs."""
        return Response(self._openapi, media_type=_JSON)

    async def page(self, request: Request) -> Response:
        """A file of the explorer page; only names in its folder are served."""
        path = explorer.PAGES / request.path_params.get("file", "index.html")
        if path.name not in self._pages:
            raise ApiError(404, "not_found", f"There is no page {path.name[:80]!r}.")
        return FileResponse(path, media_type=_PAGE_TYPES[path.suffix], headers=_PAGE_HEADERS)

    async def about(self, _: Request) -> Response:
        """About the model."""
        return _json(await self._state.compute(explorer.about, self._state.recommender))

    async def items(self, request: Request) -> Response:
        """Items by title: `query` and `limit`."""
        query, limit = request.query_params.get("query", ""), request.query_params.get("limit", "20")
        if not limit.isdecimal() or len(limit) > 6:
            raise ApiError(422, "invalid", "limit must be a whole number.", "limit")
        return _json(
            await self._state.compute(explorer.search, self._state.recommender, query[:200], int(limit))
        )

    async def user(self, request: Request) -> Response:
        """The history of a user; 404 for an unknown one."""
        user = request.path_params["user"]
        history = await self._state.compute(explorer.history, self._state.recommender, user)
        if history is None:
            raise ApiError(
                404, "unknown_id", f"The model does not know user {user[:80]!r}: check the id.", "user"
            )
        return _json(history)


class Invocations:
    """POST /invocations as an ASGI app: answer the body, and count the answer."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = self._state
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        try:
            encoding = headers.get(b"content-encoding", "").strip().lower()
            if encoding not in ("", "identity"):
                sentence = f"The content encoding {encoding[:80]!r} is not supported: send the body as it is."
                raise ApiError(415, "unsupported_media_type", sentence, "Content-Encoding")
            body = await _body(Request(scope, receive), headers.get(b"content-length", "0"), state)
            began = time.perf_counter()
            response = await state.compute(
                respond, state, body, headers.get(b"content-type"), headers.get(b"accept")
            )
            state.metrics.seconds.observe(time.perf_counter() - began)
        except ApiError as error:
            response = failed(error)
        except ClientDisconnect:
            return
        state.metrics.count_request(response.status_code)
        await response(scope, receive, send)


async def _body(request: Request, announced: str, state: State) -> bytes:
    """The whole body, whose length a header has `announced`.

    Raises the 413 or 408 `ApiError`, and `ClientDisconnect` where the client hangs up.
    """
    limit = state.limits.body_bytes
    if announced.isdecimal() and int(announced) > limit:
        raise too_large("body_bytes", limit, int(announced), "bytes in a body")
    chunks, size = [], 0
    try:
        async with asyncio.timeout(state.body_seconds):
            async for chunk in request.stream():
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:  # Sent in chunks, without its length.
                    raise too_large("body_bytes", limit, size, "bytes in a body")
    except TimeoutError:
        raise ApiError(
            408,
            "slow_body",
            f"The body did not arrive in {state.body_seconds:g} seconds: send it faster.",
        ) from None
    return b"".join(chunks)


def respond(state: State, body: bytes, content_type: str | None, accept: str | None) -> Response:
    """Understand, answer and write one request; every mistake becomes a response. Runs on the compute thread.

    `content_type` and `accept` are the request's headers.
    """
    began = time.perf_counter()
    try:
        call = api.read(body, content_type, state.limits)
        format = api.answer_format(accept, call.format)
        before = time.perf_counter()
        answers = api.answer(state.recommender, call, state.limits)
        state.metrics.model.inc(time.perf_counter() - before)
        state.metrics.count_lists(answer.sources for answer in answers if not isinstance(answer, ApiError))
        response = Response(api.write(answers, format), media_type=api.media_type(format))
    except ApiError as error:
        response = failed(error)
    except Exception:
        LOG.exception("A request could not be answered.")
        response = failed(_INTERNAL)
    state.metrics.computing.observe(time.perf_counter() - began)
    return response


def overloaded(count: int, of_what: str) -> ApiError:
    """The 503 for a `count` of something that is at its limit."""
    return ApiError(503, "overloaded", f"{count:,} {of_what}: try again in a moment, or add workers.")


def failed(error: ApiError) -> Response:
    """The response for an error."""
    headers = {}
    if error.status == 503:
        headers["Retry-After"] = "1"
    if error.status == 408:
        headers["Connection"] = "close"  # The rest of the body may still come.
    return Response(to_json(error.document()), error.status, headers, _JSON)


def _json(document: Any) -> Response:
    return Response(to_json(document, inf_nan_mode="null"), media_type=_JSON)


async def _api_error(_: Request, error: ApiError) -> Response:
    return failed(error)


async def _http_error(request: Request, error: Exception) -> Response:
    """The router's 404 and 405 in our form, with its headers (Allow)."""
    status = getattr(error, "status_code", 404)
    if status == 405:
        wrong = ApiError(405, "method_not_allowed", f"{request.url.path} does not take {request.method}.")
    else:
        wrong = ApiError(404, "not_found", f"There is no {request.url.path[:80]}: see /openapi.json.")
    response = failed(wrong)
    response.headers.update(getattr(error, "headers", None) or {})
    return response


async def _internal_error(_: Request, error: Exception) -> Response:
    LOG.error("A request could not be answered.", exc_info=error)
    return failed(_INTERNAL)
