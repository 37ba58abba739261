"""The layer around moto's server: faults on demand, the double's SageMaker, the tagging API over both, and the rest
to moto.
"""

from __future__ import annotations

import io
import json
import socket
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from hosted.checks import refusal
from hosted.folders import OWN_KEY
from hosted.service import SageMaker, tag_list
from hosted.store import Refusal
from hosted.tagged import passed_over
from hosted.wire import JSON_SERVICES, Call, error, understood

REGIONS = (
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "eu-west-1",
    "eu-west-2",
    "eu-central-1",
    "ap-southeast-1",
)
"""Regions that the account has; others answer as a region does that is not enabled."""
Start = Callable[[str, list[tuple[str, str]]], object]


@dataclass
class Fault:
    """What happens instead of an answer, so many times."""

    operation: str
    refusal: Refusal | None = None
    cut_after: int | None = None
    times: float = 1
    passed: int = 0
    """Requests that still go through before."""

    def meets(self, call: Call) -> bool:
        """Whether the call is one of those."""
        return self.times > 0 and self.operation in ("*", call.operation, f"{call.service}:{call.operation}")


@dataclass
class Layer:
    """A WSGI application."""

    sagemaker: SageMaker
    invoke: Callable[[Call], tuple[int, dict[str, str], bytes]]
    moto: Any
    faults: list[Fault] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)
    """Buckets of another account."""
    calls: list[Call] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        head = understood(environ, b"")
        if cut := self._due(head, cuts=True):
            return self._cut(environ, cut)
        call = understood(environ, _body(environ))
        try:
            if call.key != OWN_KEY:
                self._admit(call)
            return self._answer(call, environ, start)
        except Exception as failure:
            refused = failure if isinstance(failure, Refusal) else _mistake(call, failure)
            status, kind, body = error(call, refused)
            return _send(start, status, {"Content-Type": kind, "x-amzn-ErrorType": refused.code}, body)

    def _admit(self, call: Call) -> None:
        with self.lock:
            self.calls.append(call)
        if fault := self._due(call, cuts=False):
            assert fault.refusal
            raise fault.refusal
        if call.region not in REGIONS:
            raise Refusal(
                "UnrecognizedClientException", "The security token included in the request is invalid."
            )
        if call.service == "s3" and call.path.strip("/").partition("/")[0] in self.foreign:
            raise Refusal("AccessDenied", "Access Denied", 403)

    def _due(self, call: Call, cuts: bool) -> Fault | None:
        if call.key == OWN_KEY:
            return None
        with self.lock:
            for fault in self.faults:
                if (fault.cut_after is not None) == cuts and fault.meets(call):
                    if fault.passed > 0:
                        fault.passed -= 1
                        return None
                    fault.times -= 1
                    return fault
        return None

    def _cut(self, environ: dict[str, Any], fault: Fault) -> Iterable[bytes]:
        """Read so many bytes and close the connection."""
        assert fault.cut_after is not None
        environ["wsgi.input"].read(min(fault.cut_after, int(environ.get("CONTENT_LENGTH") or 0)))
        connection: socket.socket = environ["werkzeug.socket"]
        connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError("cut on demand")

    def _answer(self, call: Call, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if call.service == "sagemaker" and "X-Amz-Target" not in call.headers:
            return _send(start, *self.invoke(call))
        if call.service in JSON_SERVICES and call.operation:
            said = refusal(JSON_SERVICES[call.service], call.operation, call.parameters)
            if said:
                raise Refusal("ValidationException", said)
        if call.service == "sagemaker":
            answer = self.sagemaker.call(call.region, call.operation, call.parameters)
        elif call.service == "tagging" and call.operation == "GetResources":
            answer = self._resources(call, environ)
        else:
            return self._moto(environ, call.body, start)
        return _send(start, 200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(answer).encode())

    def _moto(self, environ: dict[str, Any], body: bytes, start: Start) -> Iterable[bytes]:
        environ = {name: value for name, value in environ.items() if name != "HTTP_TRANSFER_ENCODING"}
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        answer: Iterable[bytes] = self.moto(environ, start)
        return answer

    def _resources(self, call: Call, environ: dict[str, Any]) -> dict[str, Any]:
        """Everything with the tags that were asked for: what moto knows, and what SageMaker has."""
        asked = call.parameters
        first, size = int(asked.pop("PaginationToken", "") or 0), asked.pop("ResourcesPerPage", 50)
        others = b"".join(self._moto(environ, json.dumps(asked).encode(), lambda *_: None))
        found = list(json.loads(others).get("ResourceTagMappingList", ()))
        own = [
            (f"sagemaker:{record.kind.path}", record.arn, record.tags)
            for record in self.sagemaker.store.all(call.region)
        ]
        found += [
            {"ResourceARN": arn, "Tags": tag_list(tags)}
            for kind, arn, tags in (*own, *passed_over(call.region))
            if tags and _wanted(tags, kind, asked)
        ]
        more = str(first + size) if first + size < len(found) else ""
        return {"PaginationToken": more, "ResourceTagMappingList": found[first : first + size]}


def _mistake(call: Call, failure: Exception) -> Refusal:
    """The double's own: said at once, with a status that is not tried again."""
    where = "".join(traceback.format_exception(failure)[-3:])
    return Refusal("DoubleFailure", f"The double failed at {call.operation}: {where}")


def _wanted(tags: dict[str, str], type_: str, asked: dict[str, Any]) -> bool:
    types = asked.get("ResourceTypeFilters") or [type_]
    if not any(one in (type_, type_.partition(":")[0]) for one in types):
        return False
    filters = asked.get("TagFilters", ())
    return all(
        one["Key"] in tags and tags[one["Key"]] in (one.get("Values") or [tags[one["Key"]]])
        for one in filters
    )


def _body(environ: dict[str, Any]) -> bytes:
    source = environ["wsgi.input"]
    body: bytes = (
        source.read()
        if environ.get("wsgi.input_terminated")
        else source.read(int(environ.get("CONTENT_LENGTH") or 0))
    )
    return body


def _send(start: Start, status: int, headers: dict[str, str], body: bytes) -> list[bytes]:
    start(f"{status} double", [*headers.items(), ("Content-Length", str(len(body)))])
    return [body]
