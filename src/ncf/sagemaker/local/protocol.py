"""AWS's protocols over HTTP, as much as is needed to know what a request asks for and to write an answer or
an error.

In: method, path, query, headers and body. Out: a `Call`, and for an answer its status, headers and body.
botocore's models say which path belongs to which operation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from ncf.sagemaker.local.requests import Refusal, service_model

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""
JSON_SERVICES = {
    "sagemaker": "sagemaker", "logs": "logs", "ecr": "ecr", "events": "events",
    "tagging": "resourcegroupstaggingapi",
    "application-autoscaling": "application-autoscaling",
}  # fmt: skip
"""Name in the signature -> name of botocore's model, of services whose requests are checked."""
_REST = {"scheduler": "scheduler", "sagemaker": "sagemaker-runtime"}
_CREDENTIAL = re.compile(r"Credential=([^/]*)/\d*/([^/]*)/([^/]*)/aws4_request")
_JSON = "application/x-amz-json-1.1"


@dataclass(frozen=True)
class Call:
    """One request, understood."""

    service: str
    operation: str
    region: str
    key: str
    """Access key id; empty for an unsigned request."""
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in title case."""
    body: bytes

    @property
    def parameters(self) -> dict[str, Any]:
        """The body of a JSON request."""
        return dict(json.loads(self.body or b"{}"))


def understood(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Call:
    """Read the service from the signature, and the operation from where the service has it."""
    values = {name: entries[0] for name, entries in parse_qs(query, True).items()}
    titled = {name.title(): str(value) for name, value in headers.items()}
    signed = f"{titled.get('Authorization', '')} Credential={values.get('X-Amz-Credential', '')}"
    key, region, service = next(iter(_CREDENTIAL.findall(signed)), ("", "us-east-1", "s3"))
    plain = unquote(path)
    if target := titled.get("X-Amz-Target"):
        operation = target.rpartition(".")[2]
    elif service == "s3":
        operation = _s3(method, plain, values)
    else:
        rest = operation_of(_REST[service], method, plain) if service in _REST else None
        operation = rest or parse_qs(body.decode("utf-8", "replace")).get("Action", [""])[0]
    return Call(service, operation, region, key, method, plain, values, titled, body)


def operation_of(service: str, method: str, path: str) -> str | None:
    """The operation of a REST service that has this method and path."""
    return next(
        (name for name, pattern, verb in _routes(service) if verb == method and pattern.fullmatch(path)), None
    )


@cache
def _routes(service: str) -> list[tuple[str, re.Pattern[str], str]]:
    model = service_model(service)
    operations = [(name, model.operation_model(name).http) for name in model.operation_names]
    return [
        (name, re.compile(re.sub(r"\{\w+\}", "[^/]+", http["requestUri"].partition("?")[0])), http["method"])
        for name, http in operations
    ]


def _s3(method: str, path: str, query: dict[str, str]) -> str:
    """The operation of a request to S3, which has it in verbs and queries."""
    bucket, _, key = path.strip("/").partition("/")
    special = {
        ("POST", "uploads"): "CreateMultipartUpload", ("PUT", "partNumber"): "UploadPart",
        ("POST", "uploadId"): "CompleteMultipartUpload", ("DELETE", "uploadId"): "AbortMultipartUpload",
        ("POST", "delete"): "DeleteObjects", ("GET", "list-type"): "ListObjectsV2", ("GET",
        "uploads"): "ListMultipartUploads",
    }  # fmt: skip
    for (verb, word), name in special.items():
        if verb == method and word in query:
            return name
    if not bucket:
        return "ListBuckets"
    if not key and method == "PUT" and not query:
        return "CreateBucket"
    verbs = {"GET": "Get", "HEAD": "Head", "PUT": "Put", "DELETE": "Delete", "POST": "Post"}
    words = {"tagging": "Tagging", "policy": "Policy", "versioning": "Versioning", "location": "Location"}
    more = next((name for word, name in words.items() if word in query), "")
    return f"{verbs.get(method, method)}{'Object' if key else 'Bucket'}{more}"


def answered(answer: Mapping[str, Any]) -> Reply:
    """The reply with an answer in JSON."""
    return 200, {"Content-Type": _JSON}, json.dumps(answer).encode()


def refused(call: Call, refusal: Refusal) -> Reply:
    """The reply with an error, in the protocol of the service."""
    code, message = escape(refusal.code), escape(refusal.message)
    inner = f"<Code>{code}</Code><Message>{message}</Message>"
    if call.service == "s3":
        body = "" if call.method == "HEAD" else f"<Error>{inner}<RequestId>double</RequestId></Error>"
    elif call.service in ("iam", "sts", "monitoring"):
        error = f"<Error><Type>Sender</Type>{inner}</Error>"
        body = f"<ErrorResponse>{error}<RequestId>double</RequestId></ErrorResponse>"
    else:
        content = {
            "__type": refusal.code,
            "message": refusal.message,
            "Message": refusal.message,
            **refusal.more,
        }
        return (
            refusal.status,
            {"Content-Type": _JSON, "x-amzn-ErrorType": refusal.code},
            json.dumps(content).encode(),
        )
    return (
        refusal.status,
        {"Content-Type": "application/xml", "x-amzn-ErrorType": refusal.code},
        body.encode(),
    )
