"""Models and endpoints: a name that stays, and behind it a fleet of servers, or two while it is updated.

A fleet is one task of the endpoint's record: a worker of its own starts its containers, waits until they are
healthy, and lets the endpoint point to it. The fleet before it then ends. One that does not become healthy
leaves the endpoint as it was. Sources: API reference, CreateEndpoint, UpdateEndpoint; Developer Guide,
"Deployment guardrails". The waits between steps of traffic are a thousandth of what is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.local import docker
from ncf.sagemaker.local.answers import Answer
from ncf.sagemaker.local.docker import Container, Spec
from ncf.sagemaker.local.jobs import ended_with, lay_out, unique_name
from ncf.sagemaker.local.requests import invalid
from ncf.sagemaker.local.state import MOVING, StateRecord
from ncf.sagemaker.local.surroundings import Plane

GROUP = "/aws/sagemaker/Endpoints/"
STARTUP = 240
"""Seconds that a container has to become healthy where its variant does not say."""
_GRACE = 30
"""Seconds that a server has to answer what it has accepted."""
_DRAINS = 6
"""Looks before a fleet that was replaced ends: requests that are on their way arrive."""


class EndpointCalls:
    """CreateModel, and the calls that make, change and delete endpoints and their configurations."""

    def __init__(self, plane: Plane) -> None:
        self.plane, self.store = plane, plane.store

    def create_model(self, request: Answer) -> Answer:
        """Write a model down whose data is there."""
        self.plane.around.check_role(request.get("ExecutionRoleArn", ""))
        for container in containers_of(request):
            uri = model_uri(self.resolved(container))
            if uri:
                self._check_model(uri, request.get("ExecutionRoleArn", ""))
        return {"ModelArn": self.store.add("Model", request["ModelName"], request).arn}

    def create_endpoint_config(self, request: Answer) -> Answer:
        """Write a configuration down whose models are there."""
        for variant in request["ProductionVariants"]:
            self.store.get("Model", variant["ModelName"])
        return {
            "EndpointConfigArn": self.store.add("EndpointConfig", request["EndpointConfigName"], request).arn
        }

    def create_endpoint(self, request: Answer) -> Answer:
        """Start an endpoint; it is Creating until its containers answer /ping."""
        fleet = self._fleet(request, docker.serving_port)
        with self.store.locked():
            name = request["EndpointName"]
            record = self.store.add(
                "Endpoint", name, request, EndpointStatus="Creating", coming="1", fleets={"1": fleet}
            )
            self.plane.around.launch(self.plane, record, "1")
        return self._settled(record)

    def update_endpoint(self, request: Answer) -> Answer:
        """Replace what an endpoint runs without losing a request."""
        record = self._still(request["EndpointName"])
        config = self.store.get("EndpointConfig", request["EndpointConfigName"])
        if config.name == record.everything["EndpointConfigName"] and config.created <= record.created:
            raise invalid(
                f'Cannot update endpoint "{record.arn}" with the endpoint configuration that it already has.'
            )
        fleet = self._fleet(request, docker.free_port) | {"update": request}
        with self.store.locked():
            record = self._still(record.name)
            task = str(max(map(int, record.state["fleets"])) + 1)
            pending = {"EndpointConfigName": config.name, "StartTime": time.time()}
            record.set(
                EndpointStatus="Updating", FailureReason=None, coming=task, PendingDeploymentSummary=pending,
                fleets={**record.state["fleets"], task: fleet},
            )  # fmt: skip
            self.plane.around.launch(self.plane, record, task)
        return self._settled(record)

    def update_endpoint_weights_and_capacities(self, request: Answer) -> Answer:
        """Write down other weights and counts; here one container serves whatever the count."""
        record = self._still(request["EndpointName"])
        wanted = {entry["VariantName"]: entry for entry in request["DesiredWeightsAndCapacities"]}
        variants = []
        for variant in record.state["ProductionVariants"]:
            new = wanted.get(variant["VariantName"], {})
            count = new.get("DesiredInstanceCount", variant.get("DesiredInstanceCount"))
            weight = new.get("DesiredWeight", variant["DesiredWeight"])
            instances = {"DesiredInstanceCount": count, "CurrentInstanceCount": count}
            variants.append(variant | instances | {"DesiredWeight": weight, "CurrentWeight": weight})
        record.set(ProductionVariants=variants)
        return {"EndpointArn": record.arn}

    def delete_endpoint(self, request: Answer) -> Answer:
        """Delete an endpoint; it is Deleting until its containers have ended."""
        record = self.store.get("Endpoint", request["EndpointName"])
        if not self.plane.around.local:
            self._still(record.name)
        record.set(EndpointStatus="Deleting")
        if not record.state.get("tasks"):
            self.store.remove(record)
        return self._settled(record) and {}

    def run(self, record: StateRecord, task: str) -> None:
        """What the worker of a fleet does: from its start to its end."""
        fleet, folder = record.state["fleets"][task], record.folder / task
        servers: dict[str, Server] = {}
        try:
            for variant in fleet["variants"]:
                name = variant["VariantName"]
                stream = f"{name}/i-{time.time_ns():x}"
                log = (GROUP + record.name, stream)
                server = start_server(
                    self.plane, fleet["containers"][name], folder / name, log, fleet["ports"][name], record
                )
                servers[name] = server
                seconds = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP)
                if reason := server.unhealthy(seconds, lambda: not self._wanted(record, task)):
                    raise CloudError(_sick(name) if not self.plane.around.local else reason)
            if "update" in fleet and (reason := self._alarms(fleet)):
                raise CloudError(reason)
            if not self._serve(record, task, fleet):
                return
            while self._wanted(record, task):
                for server in servers.values():
                    server.ship_log()
                    if (code := server.container.poll()) is not None:
                        raise CloudError(
                            f"It ran, and then the container ended: {ended_with(code, [server.log_file])}"
                        )
                time.sleep(self.plane.around.pause)
            time.sleep(0 if self.plane.around.closing else _DRAINS * self.plane.around.pause)
        except CloudError as error:
            self.failed(record, task, str(error), [server.end for server in servers.values()])
        finally:
            for server in servers.values():
                server.end()
            self._forget(record, task)

    def failed(
        self, record: StateRecord, task: str, reason: str, ends: list[Callable[[], None]] | None = None
    ) -> None:
        """A fleet is no more: a new endpoint has failed, an update is rolled back, a running one is dead."""
        with self.store.locked():
            if not record.reload():
                return
            rolled_back = record.state.get("coming") == task and record.state.get("current") is not None
            if rolled_back and record.status != "Deleting":
                record.set(EndpointStatus="RollingBack")
        for end in ends or ():
            end()
        with self.store.locked():
            if not record.reload() or record.status == "Deleting":
                return
            if rolled_back:
                config = record.state["fleets"][task]["config"]
                words = (
                    f"The update to {config} was rolled back: {reason}" if self.plane.around.local else reason
                )
                record.set(
                    EndpointStatus="InService",
                    FailureReason=words,
                    coming=None,
                    PendingDeploymentSummary=None,
                )
            elif task in (record.state.get("coming"), record.state.get("current")):
                record.set(EndpointStatus="Failed", FailureReason=reason, coming=None, current=None)
            if record.state.get("tasks"):
                self._forget(record, task)

    def port(self, name: str) -> tuple[StateRecord, dict[str, Any]] | None:
        """An endpoint and the fleet that serves it now; None where there is none."""
        record = self.store.find("Endpoint", name)
        current = record.state.get("current") if record else None
        return (record, record.state["fleets"][current]) if record and current else None

    def resolved(self, container: Answer) -> Answer:
        """A container of a model, or the one of the model package that it names."""
        if "ModelPackageName" not in container:
            return container
        package = self.store.get("ModelPackage", container["ModelPackageName"])
        inner: Answer = package.request["InferenceSpecification"]["Containers"][0]
        return inner | container

    def container(self, model: str) -> Answer:
        """The first container of a model."""
        return self.resolved(containers_of(self.store.get("Model", model).request)[0]) | {"model": model}

    def _fleet(self, request: Answer, port: Callable[[], int]) -> dict[str, Any]:
        """All that a worker needs to know, checked before anything changes."""
        config = self.store.get("EndpointConfig", request["EndpointConfigName"])
        variants = config.request["ProductionVariants"]
        containers = {variant["VariantName"]: self.container(variant["ModelName"]) for variant in variants}
        if self.plane.around.local:
            for container in containers.values():
                self.plane.runner.check(container.get("Image", ""))
        ports = {
            name: port() if number == 0 else docker.free_port() for number, name in enumerate(containers)
        }
        settings = {name: config.request.get(name) for name in ("DataCaptureConfig", "AsyncInferenceConfig")}
        return {
            "config": config.name,
            "variants": variants,
            "containers": containers,
            "ports": ports,
            **settings,
        }

    def _settled(self, record: StateRecord) -> Answer:
        if self.plane.runner.at_once or (record.status == "Deleting" and not self.plane.around.local):
            self.plane.settle(record)
        return {"EndpointArn": record.arn}

    def _still(self, name: str) -> StateRecord:
        """An endpoint that nothing changes now."""
        record = self.store.get("Endpoint", name)
        if record.status in MOVING:
            raise invalid(f'Cannot update in-progress endpoint "{record.arn}".')
        if self.plane.around.local and record.status != "InService":
            raise invalid(f'Cannot update endpoint "{record.arn}" in status {record.status}.')
        return record

    def _check_model(self, uri: str, role: str) -> None:
        from ncf.sagemaker.local.requests import Refusal

        try:
            self.plane.storage.check(uri, "The model")
        except Refusal:
            if self.plane.around.local:
                raise
            raise invalid(
                f'Could not access model data at {uri}. Please ensure that the role "{role}" exists and '
                f"that its trust "
                'relationship policy allows the action "sts:AssumeRole" for the service principal '
                '"sagemaker.amazonaws.com". '
                f'Also ensure that the role has "s3:GetObject" permissions and that the object is located '
                f"in {self.store.region}."
            ) from None

    def _alarms(self, fleet: dict[str, Any]) -> str | None:
        """Step through the traffic of an update; a sentence where alarms rang."""
        deployment = fleet.get("update", {}).get("DeploymentConfig", {})
        policy = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
        time.sleep(policy.get("WaitIntervalInSeconds", 0) / 1000)
        alarms = [
            entry["AlarmName"] for entry in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", ())
        ]
        rang = self.plane.around.ringing(alarms)
        return (
            f"One or more alarms went into ALARM during the deployment: {', '.join(rang)}." if rang else None
        )

    def _serve(self, record: StateRecord, task: str, fleet: dict[str, Any]) -> bool:
        """Let the endpoint point to a healthy fleet; False where it is not wanted any more."""
        update, capture = fleet.get("update", {}), fleet["DataCaptureConfig"]
        variants = [_variant(entry, fleet["containers"][entry["VariantName"]]) for entry in fleet["variants"]]
        with self.store.locked():
            if not self._wanted(record, task):
                return False
            if update.get("RetainAllVariantProperties"):
                variants = record.state.get("ProductionVariants", variants)
            record.set(
                EndpointStatus="InService", EndpointConfigName=fleet["config"], ProductionVariants=variants,
                current=task, coming=None, FailureReason=None, PendingDeploymentSummary=None,
                AsyncInferenceConfig=fleet["AsyncInferenceConfig"],
                DataCaptureConfig=capture and {
                    "EnableCapture": capture.get("EnableCapture", False),
                    "DestinationS3Uri": capture["DestinationS3Uri"],
                    "CaptureStatus": "Started" if capture.get("EnableCapture") else "Stopped",
                    "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
                },
                **({"LastDeploymentConfig": update.get("DeploymentConfig", {})} if update else {}),
            )  # fmt: skip
        return True

    def _wanted(self, record: StateRecord, task: str) -> bool:
        """Whether a fleet is to go on."""
        return (
            not self.plane.around.closing
            and record.reload()
            and record.status != "Deleting"
            and task in (record.state.get("current"), record.state.get("coming"))
        )

    def _forget(self, record: StateRecord, task: str) -> None:
        """A worker has nothing more to do; the last one removes an endpoint that is to be deleted."""
        with self.store.locked():
            if record.reload():
                tasks = [name for name in record.state.get("tasks", ()) if name != task]
                record.set(tasks=tasks)
                if record.status == "Deleting" and not tasks:
                    self.store.remove(record)


@dataclass
class Server:
    """One serving container."""

    plane: Plane
    container: Container
    port: int
    log_file: Path
    log: tuple[str, str]
    """Group and stream."""
    ended: bool = False

    def unhealthy(self, seconds: float, given_up: Callable[[], bool]) -> str | None:
        """Wait until /ping is answered; the reason where that does not happen in time, or None."""
        limit = min(seconds, self.plane.around.patience)
        end = time.monotonic() + limit
        while time.monotonic() < end:
            if docker.answers_ping(self.port):
                self.ship_log()
                return None
            if (code := self.container.poll()) is not None:
                self.ship_log()
                return ended_with(code, [self.log_file])
            if given_up():
                return "It was asked to end before it was healthy."
            time.sleep(self.plane.around.pause)
        self.ship_log()
        return f"The container did not answer /ping within {limit:g} s: {self._tail()}"

    def ship_log(self) -> None:
        """Bring new lines of its log to where they are read."""
        self.plane.around.ship_log(self.log_file, *self.log)

    def end(self) -> None:
        """Stop and remove it."""
        if not self.ended:
            self.ended = True
            if self.container.poll() is None:
                self.container.stop(_GRACE)
            self.container.end()
            self.ship_log()

    def _tail(self) -> str:
        from ncf.sagemaker.local import logs

        return logs.tail([self.log_file]) or "it wrote nothing"


def start_server(
    plane: Plane, container: Answer, folder: Path, log: tuple[str, str], port: int, record: StateRecord,
    variables: dict[str, str] | None = None,
) -> Server:  # fmt: skip
    """Start the container of a model with its data in /opt/ml/model; it may not be healthy yet.

    `folder` is for its files, `log` the group and stream of its output, `record` the endpoint or job that it
    is for.
    """
    root = folder / "ml"
    lay_out(root)
    (root / "model").rmdir()
    if uri := model_uri(container):
        plane.storage.fetch_model(uri, root / "model", folder / "download")
    else:
        (root / "model").mkdir()
    log_file = plane.log_file(*log)
    given = (
        plane.around.environment(record.region, container)
        | container.get("Environment", {})
        | (variables or {})
    )
    task = folder if folder.parent == record.folder else folder.parent
    spec = Spec(
        name=unique_name(record, container["model"][:20]), kind="serve", image=container.get("Image", ""),
        root=root,
        log_file=log_file, folder=task, command=["serve"], environment=given, port=port,
        host=container["model"][:60],
    )  # fmt: skip
    return Server(plane, plane.runner.start(spec), port, log_file, log)


def containers_of(request: Answer) -> list[Answer]:
    """The containers of the request that made a model."""
    containers: list[Answer] = request.get("Containers") or [request["PrimaryContainer"]]
    return containers


def model_uri(container: Answer) -> str | None:
    """Where the data of a model lies."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    uri: str | None = container.get("ModelDataUrl") or source.get("S3Uri")
    return uri


def _variant(request: Answer, container: Answer) -> Answer:
    weight = request.get("InitialVariantWeight", 1.0)
    common = {
        "VariantName": request["VariantName"], "CurrentWeight": weight, "DesiredWeight": weight,
        "DeployedImages": [{"SpecifiedImage": container.get("Image", "")}],
    }  # fmt: skip
    if serverless := request.get("ServerlessConfig"):
        return common | {"CurrentServerlessConfig": serverless, "DesiredServerlessConfig": serverless,
                         "CurrentInstanceCount": 0, "DesiredInstanceCount": 0}  # fmt: skip
    count = request.get("InitialInstanceCount", 1)
    return common | {"CurrentInstanceCount": count, "DesiredInstanceCount": count}


def _sick(variant: str) -> str:
    return (
        f"The primary container for production variant {variant} did not pass the ping health check. "
        "Please check CloudWatch logs for this endpoint."
    )
