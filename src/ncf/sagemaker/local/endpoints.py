"""Endpoints: a name that stays, and below it one deployment, or two while it is updated.

A deployment is a container with a worker of its own and a port of its own. An update starts the new one beside the old;
when it is healthy the endpoint points to it and the old one ends; when it is not, the endpoint stays as it was and says
why. The SDK's local mode has no update, so each deployment is an endpoint of the SDK.
"""

from __future__ import annotations

import os
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.local import docker, models, process, requests
from ncf.sagemaker.local.listing import listed
from ncf.sagemaker.local.state import Record, Store, moment

KIND = "endpoint"
DEPLOYMENT = "deployment"
PORT = "NCF_LOCAL_PORT"
"""Variable with the port of a new endpoint; by default a free one."""


def create(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """Start an endpoint; it is Creating until its container answers /ping (CreateEndpoint)."""
    method = "create_endpoint"
    requests.check("sagemaker", method, request)
    name, config = request["EndpointName"], request["EndpointConfigName"]
    plan = _plan(store, method, config)
    port = _port()
    with store.locked():
        if store.read(KIND, name):
            raise requests.refusal(
                method, f'Cannot create already existing endpoint "{store.arn(KIND, name)}".'
            )
        record = store.create(
            KIND, name, request, status="Creating", current=None, coming=None, count=0, config=config
        )
        _deploy(store, name, plan, port)
    return {"EndpointArn": record["arn"]}


def update(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """Replace what an endpoint runs, without losing a request (UpdateEndpoint)."""
    method = "update_endpoint"
    requests.check("sagemaker", method, request)
    name = request["EndpointName"]
    record = found(store, method, name)
    plan = _plan(store, method, request["EndpointConfigName"])
    with store.locked():
        record = found(store, method, name)
        if record["status"] != "InService":
            raise requests.refusal(
                method, f'Cannot update endpoint "{record["arn"]}" in status {record["status"]}.'
            )
        with store.editing(KIND, name) as changed:
            changed["status"] = "Updating"
            changed.pop("reason", None)
        _deploy(store, name, plan, docker.free_port())
    return {"EndpointArn": record["arn"]}


def delete(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """Stop and remove an endpoint; it is Deleting until its container has ended (DeleteEndpoint)."""
    requests.check("sagemaker", "delete_endpoint", request)
    name = request["EndpointName"]
    record = found(store, "delete_endpoint", name)
    with store.editing(KIND, name) as changed:
        changed["status"] = "Deleting"
    for deployment in (record["current"], record["coming"]):
        if deployment and not process.terminate(store.folder(DEPLOYMENT, deployment)):
            store.delete(DEPLOYMENT, deployment)
    _forget(store, name)
    return {}


def find(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """What is known of an endpoint (DescribeEndpoint)."""
    requests.check("sagemaker", "describe_endpoint", request)
    record = found(store, "describe_endpoint", request["EndpointName"])
    answer = {**_summary(record), "EndpointConfigName": record["config"]}
    if record.get("reason"):
        answer["FailureReason"] = record["reason"]
    running = store.read(DEPLOYMENT, record["current"]) if record["current"] else None
    if running:
        answer["ProductionVariants"] = [_variant(running)]
    return answer


def search(store: Store, request: dict[str, Any]) -> dict[str, Any]:
    """All endpoints (ListEndpoints)."""
    requests.check("sagemaker", "list_endpoints", request)
    return listed(store.all(KIND), request, "Endpoints", _summary)


def found(store: Store, method: str, name: str) -> Record:
    """The record of an endpoint; raises AWS's error where there is none."""
    record = store.read(KIND, name)
    if record is None:
        raise requests.refusal(method, f'Could not find endpoint "{store.arn(KIND, name)}".')
    return record


def healthy(store: Store, deployment: str) -> str | None:
    """Point the endpoint to a deployment that answers; returns the one that is to end, or raises where none wants it."""
    with store.locked():
        with store.editing(DEPLOYMENT, deployment) as own:
            name = own["endpoint"]
            own["status"] = "InService"
        with store.editing(KIND, name) as record:
            if record.get("coming") != deployment or record["status"] == "Deleting":
                raise CloudError(f"Endpoint {name} is being deleted.")
            old: str | None = record["current"]
            record |= {"current": deployment, "coming": None, "status": "InService", "config": own["config"]}
            record.pop("reason", None)
    return old


def failed(store: Store, deployment: Record, reason: str) -> None:
    """A deployment is no more: a new endpoint has failed, an update is rolled back."""
    name = deployment["name"]
    with store.locked(), store.editing(KIND, deployment["endpoint"]) as record:
        if record.get("coming") == name:
            kept = record["current"] is not None
            what = f"The update to {deployment['config']} was rolled back: {reason}" if kept else reason
            record |= {
                "coming": None,
                "status": _unless_deleting(record, "InService" if kept else "Failed"),
                "reason": what,
            }
        elif record.get("current") == name:
            record |= {"current": None, "status": _unless_deleting(record, "Failed"), "reason": reason}
    ended(store, deployment)


def ended(store: Store, deployment: Record) -> None:
    """The worker of a deployment has nothing more to do: forget it, and the endpoint if it is to be deleted."""
    store.delete(DEPLOYMENT, deployment["name"])
    _forget(store, deployment["endpoint"])


def _unless_deleting(record: Record, status: str) -> str:
    return "Deleting" if record["status"] == "Deleting" else status


def _forget(store: Store, name: str) -> None:
    with store.locked():
        record = store.read(KIND, name)
        if record and record["status"] == "Deleting":
            left = [record[which] for which in ("current", "coming") if record[which]]
            if not any(store.read(DEPLOYMENT, one) for one in left):
                store.delete(KIND, name)


def _plan(store: Store, method: str, config: str) -> dict[str, Any]:
    """What a deployment needs to know, checked before anything is changed."""
    asked = models.found(store, models.CONFIG, method, config)["request"]
    variant = models.variant(store, method, asked)
    container = models.container(store, method, variant["ModelName"])
    docker.check_docker()
    docker.check_image(container["Image"])
    return {"config": config, "variant": variant, "container": container, "image": container["Image"]}


def _port() -> int:
    wanted = os.environ.get(PORT, "")
    if not wanted.isdigit():
        return docker.free_port()
    if not docker.port_is_free(int(wanted)):
        raise CloudError(
            f"Port {wanted} is taken by another program: set {PORT} to another one, or leave it out to get a free one.",
            "PortTaken",
        )
    return int(wanted)


def _deploy(store: Store, endpoint: str, plan: dict[str, Any], port: int) -> None:
    with store.editing(KIND, endpoint) as record:
        record["count"] += 1
        name = record["coming"] = f"{endpoint}.{record['count']}"
    process.start(
        store, store.create(DEPLOYMENT, name, {}, status="Starting", endpoint=endpoint, port=port, **plan)
    )


def _summary(record: Record) -> dict[str, Any]:
    return {
        "EndpointName": record["name"],
        "EndpointArn": record["arn"],
        "EndpointStatus": record["status"],
        "CreationTime": moment(record["created"]),
        "LastModifiedTime": moment(record["modified"]),
    }


def _variant(deployment: Record) -> dict[str, Any]:
    return {
        "VariantName": deployment["variant"]["VariantName"],
        "DeployedImages": [{"SpecifiedImage": deployment["image"]}],
        "CurrentWeight": 1.0,
        "DesiredWeight": 1.0,
        "CurrentInstanceCount": 1,
        "DesiredInstanceCount": 1,
    }
