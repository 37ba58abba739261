"""A model's container: started from its archive in S3, asked until it is well, its log written to CloudWatch."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from hosted.context import Context
from hosted.folders import Log
from hosted.runners import Running, Spec
from hosted.service import Answer, record_of
from hosted.store import Record, invalid, kind_of


class Models:
    """CreateModel and CreateEndpointConfig, which look at what they name."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def CreateModel(self, region: str, parameters: dict[str, Any]) -> Answer:
        role = parameters.get("ExecutionRoleArn", "")
        self.context.role(role)
        for container in containers_of(parameters):
            place = _place(self._resolved(region, container))
            if place and not self._there(place):
                raise invalid(
                    f'Could not access model data at {place}. Please ensure that the role "{role}" exists and that its '
                    'trust relationship policy allows the action "sts:AssumeRole" for the service principal '
                    '"sagemaker.amazonaws.com". Also ensure that the role has "s3:GetObject" permissions and that the '
                    f"object is located in {region}."
                )
        record = self.context.store.add(record_of(kind_of("Model"), region, parameters))
        return {"ModelArn": record.arn}

    def CreateEndpointConfig(self, region: str, parameters: dict[str, Any]) -> Answer:
        for variant in parameters["ProductionVariants"]:
            self.context.store.get(region, "Model", variant["ModelName"])
        record = self.context.store.add(record_of(kind_of("EndpointConfig"), region, parameters))
        return {"EndpointConfigArn": record.arn}

    def start(self, model: Record, environment: dict[str, str] | None = None) -> Server:
        """Its container, which may not be well yet; raises `LookupError` where there is no such image."""
        container = self._resolved(model.region, containers_of(model.request)[0])
        root = self.context.folder(model.name)
        (root / "model").mkdir()
        if place := _place(container):
            fetch = self.context.cloud.unpack if place.endswith(".tar.gz") else self.context.cloud.fetch
            fetch(place, root / "model")
        common = self.context.environment(model.region)
        spec = Spec(
            name=f"double-{model.name[:40]}-{uuid.uuid4().hex[:6]}", image=container.get("Image", ""), root=root,
            command=["serve"], kind="serve", environment=common | container.get("Environment", {}) | (environment or {}),
        )  # fmt: skip
        return Server(self.context, model.name, self.context.runner.start(spec))

    def _resolved(self, region: str, container: dict[str, Any]) -> dict[str, Any]:
        """A container, or the one of the model package that it names."""
        if "ModelPackageName" not in container:
            return container
        package = self.context.store.get(region, "ModelPackage", container["ModelPackageName"])
        inner: dict[str, Any] = package.request["InferenceSpecification"]["Containers"][0]
        return inner | container

    def _there(self, uri: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            return bool(self.context.cloud.keys(uri))
        except ClientError:
            return False


@dataclass
class Server:
    """One serving container."""

    context: Context
    model: str
    running: Running

    def well(self, seconds: float) -> bool:
        """Whether it answered /ping with 200 in time; false at once when it has ended."""
        end = time.monotonic() + min(seconds, self.context.patience)
        while time.monotonic() < end and not self.context.closing.is_set():
            if self.model not in self.context.unwell and self._pings():
                return True
            if self.running.poll() is not None:
                return False
            time.sleep(self.context.pause)
        return False

    def _pings(self) -> bool:
        try:
            return self.running.ask("/ping", None, {})[0] == 200
        except OSError:
            return False

    def log(self, region: str, group: str, stream: str) -> Log:
        """Write what it has said so far."""
        log = Log(self.context.cloud, region, group, stream)
        log.write(self.running.log())
        return log

    def end(self) -> None:
        """SIGTERM, then gone."""
        if self.running.poll() is None:
            self.running.stop(10)
        self.running.end()


def containers_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    """The containers of a model."""
    found: list[dict[str, Any]] = request.get("Containers") or [request["PrimaryContainer"]]
    return found


def _place(container: dict[str, Any]) -> str | None:
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    place: str | None = container.get("ModelDataUrl") or source.get("S3Uri")
    return place
