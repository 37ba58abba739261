"""Endpoints: fleets of serving containers, replaced blue/green, undone where the new one is not well.

Sources: API reference, CreateEndpoint, UpdateEndpoint, DescribeEndpoint; Developer Guide, "Deployment guardrails".
Waiting times between steps of traffic are kept a thousand times shorter than asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hosted.context import Context
from hosted.service import Answer, record_of
from hosted.serving import Models, Server
from hosted.store import Record, invalid, kind_of

GROUP = "/aws/sagemaker/Endpoints/"
_MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_SICK = (
    "The primary container for production variant {variant} did not pass the ping health check. "
    "Please check CloudWatch logs for this endpoint."
)


@dataclass
class Fleet:
    """What serves behind one endpoint: a server a variant."""

    config: dict[str, Any]
    servers: dict[str, Server] = field(default_factory=dict)
    stream: str = ""

    def end(self) -> None:
        """End all of it."""
        for server in self.servers.values():
            server.end()


class Endpoints:
    """CreateEndpoint, UpdateEndpoint, UpdateEndpointWeightsAndCapacities, DeleteEndpoint."""

    def __init__(self, context: Context, models: Models) -> None:
        self.context, self.models = context, models
        self.fleets: dict[str, Fleet] = {}

    def CreateEndpoint(self, region: str, parameters: dict[str, Any]) -> Answer:
        config = self.context.store.get(region, "EndpointConfig", parameters["EndpointConfigName"])
        record = self.context.store.add(record_of(kind_of("Endpoint"), region, parameters))
        record.set(EndpointStatus="Creating")
        self.context.spawn(lambda: self._create(record, config), record.name)
        return {"EndpointArn": record.arn}

    def UpdateEndpoint(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self._still(region, parameters["EndpointName"])
        config = self.context.store.get(region, "EndpointConfig", parameters["EndpointConfigName"])
        if config.name == record.everything["EndpointConfigName"] and config.created <= record.created:
            raise invalid(
                f'Cannot update endpoint "{record.arn}" with the endpoint configuration that it already has.'
            )
        record.set(EndpointStatus="Updating", FailureReason=None)
        self.context.spawn(lambda: self._update(record, config, parameters), record.name)
        return {"EndpointArn": record.arn}

    def UpdateEndpointWeightsAndCapacities(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self._still(region, parameters["EndpointName"])
        wanted = {one["VariantName"]: one for one in parameters["DesiredWeightsAndCapacities"]}
        variants = []
        for variant in record.state["ProductionVariants"]:
            new = wanted.get(variant["VariantName"], {})
            count = new.get("DesiredInstanceCount", variant.get("DesiredInstanceCount"))
            weight = new.get("DesiredWeight", variant["DesiredWeight"])
            variants.append(variant | {
                "DesiredInstanceCount": count, "CurrentInstanceCount": count, "DesiredWeight": weight, "CurrentWeight": weight,
            })  # fmt: skip
        record.set(ProductionVariants=variants)
        return {"EndpointArn": record.arn}

    def DeleteEndpoint(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self._still(region, parameters["EndpointName"])
        if fleet := self.fleets.pop(record.arn, None):
            fleet.end()
        self.context.store.remove(record)
        return {}

    def _still(self, region: str, name: str) -> Record:
        record = self.context.store.get(region, "Endpoint", name)
        if record.status in _MOVING:
            raise invalid(f'Cannot update in-progress endpoint "{record.arn}".')
        return record

    def _create(self, record: Record, config: Record) -> None:
        fleet, sick = self._launch(record, config)
        if sick:
            fleet.end()
            record.set(EndpointStatus="Failed", FailureReason=sick)
            return
        self._serve(record, config, fleet)

    def _update(self, record: Record, config: Record, parameters: dict[str, Any]) -> None:
        """Blue/green: the new fleet beside the old one; then traffic; then the alarms; back if anything is wrong."""
        deployment = parameters.get("DeploymentConfig", {})
        record.set(PendingDeploymentSummary={"EndpointConfigName": config.name, "StartTime": time.time()})
        fleet, sick = self._launch(record, config)
        sick = sick or self._bake(record.region, deployment)
        record.set(PendingDeploymentSummary=None)
        if sick:
            record.set(EndpointStatus="RollingBack")
            fleet.end()
            time.sleep(self.context.pause)
            record.set(EndpointStatus="InService", FailureReason=sick)
            return
        before = self.fleets.get(record.arn)
        keep = (
            record.state.get("ProductionVariants") if parameters.get("RetainAllVariantProperties") else None
        )
        self._serve(record, config, fleet, keep)
        record.set(LastDeploymentConfig=deployment)
        if before:
            time.sleep(self.context.pause)  # requests that were on their way arrive
            before.end()

    def _launch(self, record: Record, config: Record) -> tuple[Fleet, str | None]:
        """The fleet, and why it is not well."""
        fleet = Fleet(config.request | {"EndpointConfigName": config.name}, stream=f"i-{time.time_ns():x}")
        for variant in config.request["ProductionVariants"]:
            try:
                server = self.models.start(
                    self.context.store.get(record.region, "Model", variant["ModelName"])
                )
            except LookupError as image:
                return fleet, f"The image '{image}' does not exist."
            except Exception as error:
                return fleet, f"Failed to download model data or start the container: {error}"
            fleet.servers[variant["VariantName"]] = server
            log = server.log(record.region, GROUP + record.name, f"{variant['VariantName']}/{fleet.stream}")
            well = server.well(variant.get("ContainerStartupHealthCheckTimeoutInSeconds", 240))
            log.write(server.running.log())
            if not well:
                return fleet, _SICK.format(variant=variant["VariantName"])
            self._follow(log, server)
        return fleet, None

    def _follow(self, log: Any, server: Server) -> None:
        """Write the log while the server lives."""
        if self.context.runner.at_once:
            return

        def follow() -> None:
            while server.running.poll() is None and not self.context.closing.wait(1):
                log.write(server.running.log())

        self.context.spawn(_quietly(follow), "log")

    def _bake(self, region: str, deployment: dict[str, Any]) -> str | None:
        """Step through the traffic; the alarms that rang."""
        policy = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
        time.sleep(policy.get("WaitIntervalInSeconds", 0) / 1000)
        names = [
            one["AlarmName"] for one in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", ())
        ]
        rang = self.context.cloud.ringing(region, names)
        return (
            f"One or more alarms went into ALARM during the deployment: {', '.join(rang)}." if rang else None
        )

    def _serve(
        self, record: Record, config: Record, fleet: Fleet, keep: list[dict[str, Any]] | None = None
    ) -> None:
        self.fleets[record.arn] = fleet
        capture = config.request.get("DataCaptureConfig")
        record.set(
            EndpointStatus="InService", EndpointConfigName=config.name,
            ProductionVariants=keep or [_variant(one) for one in config.request["ProductionVariants"]],
            AsyncInferenceConfig=config.request.get("AsyncInferenceConfig"),
            DataCaptureConfig=capture and {
                "EnableCapture": capture.get("EnableCapture", False), "DestinationS3Uri": capture["DestinationS3Uri"],
                "CaptureStatus": "Started" if capture.get("EnableCapture") else "Stopped",
                "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
            },
        )  # fmt: skip

    def end(self) -> None:
        """End all containers."""
        for fleet in self.fleets.values():
            fleet.end()


def _variant(asked: dict[str, Any]) -> dict[str, Any]:
    weight = asked.get("InitialVariantWeight", 1.0)
    common = {"VariantName": asked["VariantName"], "CurrentWeight": weight, "DesiredWeight": weight}
    if serverless := asked.get("ServerlessConfig"):
        return common | {"CurrentServerlessConfig": serverless, "DesiredServerlessConfig": serverless,
                         "CurrentInstanceCount": 0, "DesiredInstanceCount": 0}  # fmt: skip
    count = asked.get("InitialInstanceCount", 1)
    return common | {"CurrentInstanceCount": count, "DesiredInstanceCount": count}


def _quietly(work: Callable[[], None]) -> Callable[[], None]:
    """A container that is removed while its log is read is no mistake."""

    def run() -> None:
        try:
            work()
        except RuntimeError:
            return

    return run
