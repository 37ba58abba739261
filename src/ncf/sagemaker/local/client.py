"""boto3's own clients, answered on this machine: local mode's `sagemaker`, `sagemaker-runtime` and `logs`.

In: the folder `home` and a region. Out: a client of boto3 whose requests never leave the process: botocore
checks and writes them as for AWS, the control plane answers, botocore reads the answer. So paginators,
waiters and errors are boto3's too. What Docker lacks is a `CloudError`.
"""

from __future__ import annotations

import io
import os
import re
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ncf.errors import ConfigError, imported
from ncf.sagemaker.local import process, protocol
from ncf.sagemaker.local.docker import DockerRunner
from ncf.sagemaker.local.invocations import invoke
from ncf.sagemaker.local.logs import Logs
from ncf.sagemaker.local.plane import ControlPlane
from ncf.sagemaker.local.protocol import Reply
from ncf.sagemaker.local.requests import Refusal
from ncf.sagemaker.local.state import StateRecord, Store
from ncf.sagemaker.local.storage import Storage
from ncf.sagemaker.local.surroundings import Plane

SERVICES = ("sagemaker", "sagemaker-runtime", "logs")
_LOCAL = re.compile(
    r"(Create|Describe|Stop|Update|Delete|List|Start|Retry)"
    r"(TrainingJob|ProcessingJob|TransformJob|HyperParameterTuningJob|Model|ModelPackage|ModelPackageGroup|Endpoint"
    r"|EndpointConfig|EndpointWeightsAndCapacitie|TrainingJobsForHyperParameterTuningJob|Pipeline\w*)s?"
    r"|(Add|List|Delete)Tags|Search"
)
"""The operations that local mode has."""
_NEEDS_AWS = re.compile(r"s3://|:mlflow-(?:tracking-server|app)/")


class LocalMachine:
    """The surroundings of local mode: files, worker processes, and no checks of an account."""

    local, closing, pause, patience = True, False, 0.3, float("inf")

    def __init__(self) -> None:
        self.storage = Storage(lambda: imported("sagemaker", "boto3").client("s3"))

    def launch(self, plane: Plane, record: StateRecord, task: str) -> None:
        process.start(plane, record, task)

    def before_call(self, plane: Plane) -> None:
        process.sweep(plane)

    def check_role(self, arn: str) -> None:
        """There are no roles here."""

    def environment(self, region: str, request: dict[str, Any]) -> dict[str, str]:
        """The region, and credentials only where the request names something on AWS."""
        variables = {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
        if _NEEDS_AWS.search(str(request)) and (found := _boto3().Session().get_credentials()):
            keys = found.get_frozen_credentials()
            variables |= {"AWS_ACCESS_KEY_ID": keys.access_key, "AWS_SECRET_ACCESS_KEY": keys.secret_key}
            variables |= {"AWS_SESSION_TOKEN": keys.token} if keys.token else {}
        return variables

    def ship_log(self, path: Path, group: str, stream: str) -> None:
        """`Logs` reads the files as they are."""

    def ringing(self, _alarms: list[str]) -> list[str]:
        return []


def local_plane(home: Path, region: str) -> ControlPlane:
    """The control plane of local mode."""
    return ControlPlane(Store(home, region), LocalMachine(), DockerRunner())


def local_client(service: str, home: Path, region: str, plane: ControlPlane | None = None) -> Any:
    """boto3's client of one of `SERVICES`, answered by a control plane, by default the one below `home`."""
    from botocore.awsrequest import AWSResponse
    from botocore.config import Config

    plane = plane or local_plane(home, region)
    made = _session().client(
        service, region, aws_access_key_id="local", aws_secret_access_key="local",
        endpoint_url="http://local.invalid",
        config=Config(retries={"total_max_attempts": 1}, parameter_validation=True),
    )  # fmt: skip

    def answer(request: Any, **_: Any) -> Any:
        status, headers, body = _answer(plane, Logs(home), service, request)
        return AWSResponse(request.url, status, headers, _Raw(body))

    made.meta.events.register(f"before-send.{made.meta.service_model.service_id.hyphenize()}", answer)
    if service == "sagemaker":
        # AWS has no such call, its records stay; local mode's are the user's to delete.
        made.delete_transform_job = partial(_delete_transform_job, plane)
    return made


def _answer(plane: ControlPlane, logs: Logs, service: str, request: Any) -> Reply:
    """Answer one request of botocore."""
    url = urlparse(request.url)
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else body.read()
    headers = {
        name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
    }
    call = protocol.understood(request.method, url.path, url.query, headers, body)
    try:
        if service == "sagemaker-runtime":
            return invoke(plane, call.operation, call.path.split("/")[2], call.headers, body)
        if service == "logs":
            from botocore import xform_name

            method = getattr(logs, xform_name(call.operation), None)
            if method is None:
                raise _absent(call.operation)
            return protocol.answered(method(call.parameters))
        if not _LOCAL.fullmatch(call.operation):
            raise _absent(call.operation)
        return protocol.answered(plane.call(call.operation, call.parameters))
    except Refusal as refusal:
        return protocol.refused(call, refusal)


def _delete_transform_job(plane: ControlPlane, TransformJobName: str) -> dict[str, Any]:
    """Remove a transform job that has ended; raises boto3's error as the other calls do."""
    from botocore.exceptions import ClientError

    try:
        return plane.delete("TransformJob", TransformJobName)
    except Refusal as refusal:
        error = {"Error": {"Code": refusal.code, "Message": refusal.message}}
        raise ClientError(error, "DeleteTransformJob") from None


def _absent(operation: str) -> ConfigError:
    from botocore import xform_name

    return ConfigError(f"Local mode has no {xform_name(operation)}: leave out --local, or do without it.")


class _Raw(io.BytesIO):
    """A body as botocore reads it from the network."""

    def stream(self, amt: int = 1 << 16, **_: Any) -> Any:
        while chunk := self.read(amt):
            yield chunk


def _boto3() -> Any:
    return imported("sagemaker", "boto3")


@cache
def _session() -> Any:
    """A session that reads no configuration of the user: a profile that is not there must not matter here."""
    import botocore.session

    nothing = {"profile": (None, None, None, None), "config_file": (None, None, os.devnull, None)}
    return imported("sagemaker", "boto3").Session(
        botocore_session=botocore.session.Session(session_vars=nothing)
    )
