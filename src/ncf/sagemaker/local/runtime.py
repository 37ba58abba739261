"""`Runtime`: asks the container of a local endpoint, through the SDK's local runtime client.

The port is looked up for every request, and once more where nobody listens there: an update may have moved the endpoint
in between. What the container refuses is the `ModelError` that AWS makes of it.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

from ncf.sagemaker.aws_errors import missing_extra
from ncf.sagemaker.local import endpoints, requests
from ncf.sagemaker.local.state import ACCOUNT, Record, Store

_TRIES = 3
_METHOD = "invoke_endpoint"


class Runtime:
    """The calls of boto3's `sagemaker-runtime` that local mode has."""

    def __init__(self, home: Path, region: str) -> None:
        self._store = Store(home, region)
        self._clients: dict[int, Any] = {}

    def __getattr__(self, name: str) -> Any:
        raise requests.absent("sagemaker-runtime", name)

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        """The container's answer; raises `ModelError` for an error of it, `ValidationError` for an unknown endpoint."""
        requests.check("sagemaker-runtime", _METHOD, request)
        answer = self._ask(request)
        body = answer["Body"].read()
        answer["Body"].release_conn()
        status = answer["ResponseMetadata"]["HTTPStatusCode"]
        if status >= 400:
            raise self._model_error(request["EndpointName"], status, body)
        return {**answer, "Body": _streaming(body)}

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        from urllib3.exceptions import HTTPError

        for left in reversed(range(_TRIES)):
            port = self._deployment(request["EndpointName"])["port"]
            try:
                answer: dict[str, Any] = self._client(port).invoke_endpoint(**request)
                return answer
            except (HTTPError, OSError) as error:
                if not left:
                    raise self._model_error(request["EndpointName"], 503, str(error).encode()) from error
                time.sleep(0.5)
        raise AssertionError

    def _deployment(self, name: str) -> Record:
        record = self._store.read(endpoints.KIND, name)
        current = (
            self._store.read(endpoints.DEPLOYMENT, record["current"])
            if record and record["current"]
            else None
        )
        if record is None or current is None:
            what = "not found" if record is None else f"not in service, it is {record['status']}"
            raise requests.refusal(
                _METHOD, f"Endpoint {name} of account {ACCOUNT} {what}.", "ValidationError"
            )
        return current

    def _client(self, port: int) -> Any:
        if port not in self._clients:
            try:
                from sagemaker.core.local.local_session import LocalSagemakerRuntimeClient
            except ImportError:
                raise missing_extra("sagemaker-core") from None
            self._clients[port] = LocalSagemakerRuntimeClient({"local": {"serving_port": port}})
        return self._clients[port]

    def _model_error(self, endpoint: str, status: int, body: bytes) -> Exception:
        said = body.decode("utf-8", "replace")
        group = f"/aws/sagemaker/Endpoints/{endpoint}"
        side = "client" if status < 500 else "server"
        message = (
            f'Received {side} error ({status}) from primary with message "{said}". See the log group {group}.'
        )
        more = {"OriginalStatusCode": status, "OriginalMessage": said, "LogStreamArn": group}
        return requests.refusal(_METHOD, message, "ModelError", **more)


def _streaming(body: bytes) -> Any:
    from botocore.response import StreamingBody

    return StreamingBody(io.BytesIO(body), len(body))
