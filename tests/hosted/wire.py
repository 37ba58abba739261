"""AWS's protocols, as much as is needed to know which operation a request asks for and to write an error to it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from hosted.checks import service_model
from hosted.store import Refusal

JSON_SERVICES = {
    "sagemaker": "sagemaker", "logs": "logs", "ecr": "ecr", "events": "events", "tagging": "resourcegroupstaggingapi",
    "application-autoscaling": "application-autoscaling",
}  # fmt: skip
"""Name in the signature -> name of botocore's model, of services whose requests are checked."""
_REST = {"scheduler": "scheduler", "sagemaker": "sagemaker-runtime"}
_CREDENTIAL = re.compile(r"Credential=([^/]*)/\d*/([^/]*)/([^/]*)/aws4_request")


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
    body: bytes

    @property
    def protocol(self) -> str:
        """json, xml (S3) or query."""
        if self.service == "s3":
            return "xml"
        return "query" if self.service in ("iam", "sts", "monitoring") else "json"

    @property
    def parameters(self) -> dict[str, Any]:
        """The body of a JSON request."""
        return dict(json.loads(self.body or b"{}"))


def understood(environ: dict[str, Any], body: bytes) -> Call:
    """Read the service from the signature and the operation from wherever the service has it."""
    query = {name: values[0] for name, values in parse_qs(environ.get("QUERY_STRING", ""), True).items()}
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").title(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or name == "CONTENT_TYPE"
    }
    signed = f"{headers.get('Authorization', '')} Credential={query.get('X-Amz-Credential', '')}"
    key, region, service = next(iter(_CREDENTIAL.findall(signed)), ("", "us-east-1", "s3"))
    method, path = environ["REQUEST_METHOD"], unquote(environ["PATH_INFO"])
    operation = _operation(service, method, path, query, headers, body)
    return Call(service, operation, region, key, method, path, query, headers, body)


def _operation(
    service: str, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes
) -> str:
    if target := headers.get("X-Amz-Target"):
        return target.rpartition(".")[2]
    if service == "s3":
        return _s3(method, path, query)
    for name, pattern, verb in _routes(_REST[service]) if service in _REST else ():
        if verb == method and pattern.fullmatch(path):
            return name
    return parse_qs(body.decode("utf-8", "replace")).get("Action", [""])[0]


@cache
def _routes(service: str) -> list[tuple[str, re.Pattern[str], str]]:
    model = service_model(service)
    operations = [(name, model.operation_model(name).http) for name in model.operation_names]
    return [
        (name, re.compile(re.sub(r"\{\w+\}", "[^/]+", http["requestUri"].partition("?")[0])), http["method"])
        for name, http in operations
    ]


def _s3(method: str, path: str, query: dict[str, str]) -> str:
    bucket, _, key = path.strip("/").partition("/")
    special = {
        ("POST", "uploads"): "CreateMultipartUpload", ("PUT", "partNumber"): "UploadPart",
        ("POST", "uploadId"): "CompleteMultipartUpload", ("DELETE", "uploadId"): "AbortMultipartUpload",
        ("POST", "delete"): "DeleteObjects", ("GET", "list-type"): "ListObjectsV2", ("GET", "uploads"): "ListMultipartUploads",
    }  # fmt: skip
    for (verb, word), name in special.items():
        if verb == method and word in query:
            return name
    if not bucket:
        return "ListBuckets"
    verbs = {"GET": "Get", "HEAD": "Head", "PUT": "Put", "DELETE": "Delete", "POST": "Post"}
    if not key and method == "PUT" and not query:
        return "CreateBucket"
    words = {"tagging": "Tagging", "policy": "Policy", "versioning": "Versioning", "location": "Location"}
    more = next((name for word, name in words.items() if word in query), "")
    return f"{verbs.get(method, method)}{'Object' if key else 'Bucket'}{more}"


def error(call: Call, refusal: Refusal) -> tuple[int, str, bytes]:
    """Status, content type and body with which the service's protocol says an error."""
    code, message = escape(refusal.code), escape(refusal.message)
    if call.protocol == "json":
        said = {"__type": refusal.code, "message": refusal.message, "Message": refusal.message}
        text = json.dumps(said | refusal.more)
        return refusal.status, "application/x-amz-json-1.1", text.encode()
    inner = f"<Code>{code}</Code><Message>{message}</Message>"
    if call.protocol == "xml":
        body = "" if call.method == "HEAD" else f"<Error>{inner}<RequestId>double</RequestId></Error>"
    else:
        body = f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error><RequestId>double</RequestId></ErrorResponse>"
    return refusal.status, "application/xml", body.encode()
