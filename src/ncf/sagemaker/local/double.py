"""A loopback AWS for development and tests: this control plane over HTTP, and moto's server behind it for the
rest.

| what | who answers |
| --- | --- |
| SageMaker and its runtime | the control plane of local mode, with data in S3 and logs in CloudWatch |
| S3, ECR, IAM, STS, logs, events, scheduler, autoscaling | moto, after a check by botocore's model |
| GetResources of the tagging API | moto, and what SageMaker and moto's own tagging leave out |

It shows that our requests and our containers are right. It has no policies, quotas, image pulls or networks
of a VPC.
"""

from __future__ import annotations

import io
import json
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from ncf.errors import need
from ncf.sagemaker.local import docker, logs, protocol
from ncf.sagemaker.local.answers import tag_list
from ncf.sagemaker.local.docker import DockerRunner, Runner
from ncf.sagemaker.local.invocations import invoke
from ncf.sagemaker.local.plane import ControlPlane
from ncf.sagemaker.local.protocol import JSON_SERVICES, Call, Reply
from ncf.sagemaker.local.requests import Refusal, invalid, refusal
from ncf.sagemaker.local.state import StateRecord, Store
from ncf.sagemaker.local.storage import Storage
from ncf.sagemaker.local.surroundings import Plane

ACCOUNT = "123456789012"
"""The account that moto answers for."""
ROLE = "ncf-execution"
"""Name of the execution role that a double is given."""
OWN_KEY = "AKIADOUBLEOWNCALLS00"
"""Access key of the double's own calls."""
REGIONS = (
    "us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-west-1", "eu-west-2", "eu-central-1",
    "ap-southeast-1",
)  # fmt: skip
"""Regions that the account has; others answer as a region does that is not enabled."""
Start = Callable[[str, list[tuple[str, str]]], object]


class Double:
    """The surroundings of the control planes, one a region, and the WSGI application in front of them."""

    local = False

    def __init__(self, home: Path, runner: Runner, moto: Any) -> None:
        self.home, self.moto = home, moto
        self.url, self.inside = "", ""
        """The address, and the one by which containers reach it."""
        self.pause, self.patience = (0.5 if isinstance(runner, DockerRunner) else 0.05), 600.0
        self.storage = Storage(lambda: self.client("s3"))
        self.ended = threading.Event()
        self.threads: list[threading.Thread] = []
        self._runner = runner
        self._planes: dict[str, ControlPlane] = {}
        self._lock = threading.RLock()
        self._shipped: dict[str, int] = {}

    @property
    def runner(self) -> Runner:
        """What runs containers."""
        return self._runner

    @runner.setter
    def runner(self, runner: Runner) -> None:
        self._runner = runner
        for plane in self._planes.values():
            plane.runner = runner

    @property
    def closing(self) -> bool:
        return self.ended.is_set()

    def plane(self, region: str) -> ControlPlane:
        """The control plane of a region."""
        with self._lock:
            if region not in self._planes:
                store = Store(self.home / region, region, ACCOUNT)
                self._planes[region] = ControlPlane(store, self, self._runner)
            return self._planes[region]

    def records(self, kind: str | None = None) -> list[StateRecord]:
        """What SageMaker has in all regions."""
        return [record for plane in list(self._planes.values()) for record in plane.store.all(kind)]

    def client(self, service: str, region: str = "us-east-1") -> Any:
        """A client for the double itself."""
        return _client(self.url, service, region)

    def make_role(self, name: str) -> str:
        """Make an execution role that SageMaker may assume; returns its ARN."""
        principal = {"Service": "sagemaker.amazonaws.com"}
        statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        role = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]
        return str(role["Arn"])

    def launch(self, plane: Plane, record: StateRecord, task: str) -> None:
        record.set(tasks=[*record.state.get("tasks", ()), task])
        thread = threading.Thread(target=self._run, args=(plane, record, task), daemon=True)
        self.threads.append(thread)
        thread.start()

    def _run(self, plane: Plane, record: StateRecord, task: str) -> None:
        try:
            # The thread that started it may hold the record; this one reads its own.
            if found := plane.store.find(record.kind.name, record.name):
                plane.run(found, task)
        except Exception:
            if not self.closing:
                traceback.print_exc()

    def before_call(self, plane: Plane) -> None:
        """Threads end with this process; there is nobody to clean up after."""

    def check_role(self, arn: str) -> None:
        from moto.backends import get_backend

        known = {role.arn for role in get_backend("iam")[ACCOUNT]["aws"].get_roles()}
        if arn not in known:
            raise invalid(
                f"Could not assume role {arn}. Please ensure that the role exists and allows principal "
                "'sagemaker.amazonaws.com' to assume the role."
            )

    def environment(self, region: str, _request: dict[str, Any]) -> dict[str, str]:
        keys = {"AWS_ACCESS_KEY_ID": "AKIACONTAINER0000000", "AWS_SECRET_ACCESS_KEY": "container"}
        return {"AWS_REGION": region, "AWS_DEFAULT_REGION": region, **keys} | (
            {"AWS_ENDPOINT_URL": self.inside} if self.inside else {}
        )

    def ship_log(self, path: Path, group: str, stream: str) -> None:
        """Put lines that are new into CloudWatch."""
        with self._lock:
            start = self._shipped.get(str(path), 0)
            new = list(logs.events(path, start)) if path.is_file() else []
            if not new and str(path) in self._shipped:
                return
            self._shipped[str(path)] = start + len(new)
        client, names = self.client("logs"), {"logGroupName": group, "logStreamName": stream}
        if not start:
            for create, asked in (
                (client.create_log_group, {"logGroupName": group}),
                (client.create_log_stream, names),
            ):
                with suppress(client.exceptions.ResourceAlreadyExistsException):
                    create(**asked)
        for begin in range(0, len(new), 1000):
            batch = [
                {"timestamp": event["timestamp"], "message": event["message"] or " "}
                for event in new[begin : begin + 1000]
            ]
            client.put_log_events(**names, logEvents=batch)

    def ringing(self, alarms: list[str]) -> list[str]:
        if not alarms:
            return []
        answer = self.client("cloudwatch").describe_alarms(AlarmNames=alarms, StateValue="ALARM")
        return [alarm["AlarmName"] for alarm in answer["MetricAlarms"]]

    def admit(self, call: Call) -> None:
        """Raise `Refusal` for a request that does not get as far as its service."""
        if call.region not in REGIONS:
            raise Refusal(
                "UnrecognizedClientException", "The security token included in the request is invalid."
            )

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Answer one request of WSGI."""
        call = _understood(environ, _body(environ))
        try:
            if call.key != OWN_KEY:
                self.admit(call)
            reply = self._answer(call, environ)
            if reply is None:
                return self._moto(environ, call.body, start)
        except Exception as error:
            known = error if isinstance(error, Refusal) else _mistake(call, error)
            reply = protocol.refused(call, known)
        status, headers, body = reply
        start(f"{status} double", [*headers.items(), ("Content-Length", str(len(body)))])
        return [body]

    def _answer(self, call: Call, environ: dict[str, Any]) -> Reply | None:
        """The reply to a call; None where moto is to answer."""
        if call.service == "sagemaker" and "X-Amz-Target" not in call.headers:
            name = call.path.split("/")[2]
            return invoke(self.plane(call.region), call.operation, name, call.headers, call.body)
        if call.service in JSON_SERVICES and call.operation:
            message = refusal(JSON_SERVICES[call.service], call.operation, call.parameters)
            if message:
                raise Refusal("ValidationException", message)
        if call.service == "sagemaker":
            return protocol.answered(self.plane(call.region).call(call.operation, call.parameters))
        if call.service == "tagging" and call.operation == "GetResources":
            return protocol.answered(self._resources(call, environ))
        return None

    def _moto(self, environ: dict[str, Any], body: bytes, start: Start) -> Iterable[bytes]:
        environ = {name: value for name, value in environ.items() if name != "HTTP_TRANSFER_ENCODING"}
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        answer: Iterable[bytes] = self.moto(environ, start)
        return answer

    def _resources(self, call: Call, environ: dict[str, Any]) -> dict[str, Any]:
        """Everything with the tags that a request names, of all services."""
        request = call.parameters
        begin, size = int(request.pop("PaginationToken", "") or 0), request.pop("ResourcesPerPage", 50)
        others = b"".join(self._moto(environ, json.dumps(request).encode(), lambda *_: None))
        found = list(json.loads(others).get("ResourceTagMappingList", ()))
        own = [
            (f"sagemaker:{one.kind.path}", one.arn, one.tags) for one in self.plane(call.region).store.all()
        ]
        found += [
            {"ResourceARN": arn, "Tags": tag_list(tags)}
            for kind, arn, tags in (*own, *_passed_over(call.region))
            if tags and _wanted(tags, kind, request)
        ]
        more = str(begin + size) if begin + size < len(found) else ""
        return {"PaginationToken": more, "ResourceTagMappingList": found[begin : begin + size]}


@contextmanager
def serve(runner: Runner, make: type[Double] = Double, port: int = 0) -> Iterator[Double]:
    """A double on a port of loopback, by default a free one, until the block ends; all that it started ends
    with it.
    """
    need("dev", "moto")
    from moto.moto_api._internal.models import moto_api_backend
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    servers: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="ncf-double-", ignore_cleanup_errors=True) as scratch:
        double = make(Path(scratch), runner, DomainDispatcherApplication(create_backend_app))
        servers.append(_server("127.0.0.1", port, double))
        double.url = f"http://127.0.0.1:{servers[0].server_address[1]}"
        if isinstance(runner, DockerRunner):
            docker.tidy()
            servers.append(_server("0.0.0.0", 0, double))
            double.inside = f"http://{docker.HOST}:{servers[1].server_address[1]}"
        try:
            yield double
        finally:
            double.ended.set()
            for thread in double.threads:
                thread.join(60)
            for server in servers:
                server.shutdown()
                server.server_close()
            moto_api_backend.reset()


def _server(host: str, port: int, application: Any) -> Any:
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    class QuietHandler(MotoRequestHandler):
        """Prints nothing; a connection that the other side cuts is no mistake."""

        def log(self, type: str, message: str, *args: Any) -> None:
            pass

        def run_wsgi(self) -> None:
            with suppress(ConnectionError, ValueError):
                super().run_wsgi()

    server = make_server(host, port, application, threaded=True, request_handler=QuietHandler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@cache
def _session() -> Any:
    """One session for all clients: what takes time is to read the services' models."""
    import boto3

    return boto3.Session()


@cache
def _client(url: str, service: str, region: str) -> Any:
    own = {"aws_access_key_id": OWN_KEY, "aws_secret_access_key": "own"}
    return _session().client(service, region, endpoint_url=url, **own)


def _understood(environ: dict[str, Any], body: bytes) -> Call:
    headers = {
        name.removeprefix("HTTP_").replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("HTTP_") or name == "CONTENT_TYPE"
    }
    return protocol.understood(
        environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", ""), headers, body
    )


def _body(environ: dict[str, Any]) -> bytes:
    source = environ["wsgi.input"]
    length = -1 if environ.get("wsgi.input_terminated") else int(environ.get("CONTENT_LENGTH") or 0)
    body: bytes = source.read() if length < 0 else source.read(length)
    return body


def _mistake(call: Call, error: Exception) -> Refusal:
    """An error of the double's own, with a status that boto3 does not try again."""
    where = "".join(traceback.format_exception(error)[-3:])
    return Refusal("DoubleFailure", f"The double failed at {call.operation}: {where}")


def _wanted(tags: dict[str, str], kind: str, request: dict[str, Any]) -> bool:
    types = request.get("ResourceTypeFilters") or [kind]
    if not any(name in (kind, kind.partition(":")[0]) for name in types):
        return False
    filters = request.get("TagFilters", ())
    return all(
        entry["Key"] in tags and tags[entry["Key"]] in (entry.get("Values") or [tags[entry["Key"]]])
        for entry in filters
    )


def _passed_over(region: str) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Type, ARN and tags of what moto's tagging API leaves out: repositories and groups of schedules."""
    from moto.backends import get_backend

    ecr = get_backend("ecr")[ACCOUNT][region]
    for repository in ecr.repositories.values():
        yield "ecr:repository", repository.arn, ecr.tagger.get_tag_dict_for_resource(repository.arn)
    scheduler = get_backend("scheduler")[ACCOUNT][region]
    for group in scheduler.schedule_groups.values():
        yield "scheduler:schedule-group", group.arn, scheduler.tagger.get_tag_dict_for_resource(group.arn)
