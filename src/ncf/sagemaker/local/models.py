"""Models and endpoint configurations: written down when made, looked at when something is started from them."""

from __future__ import annotations

from typing import Any

from ncf.sagemaker.local import requests
from ncf.sagemaker.local.listing import listed
from ncf.sagemaker.local.state import Record, Store, moment

MODEL = ("model", "Model", "model")
CONFIG = ("endpoint-config", "EndpointConfig", "endpoint configuration")
Sort = tuple[str, str, str]
"""The kind, the beginning of its keys, and what AWS's errors call it."""


def create(store: Store, sort: Sort, request: dict[str, Any]) -> dict[str, Any]:
    """Write one down; raises AWS's error for a name that is taken or a model that is not there."""
    kind, stem, word = sort
    method = f"create_{kind.replace('-', '_')}"
    requests.check("sagemaker", method, request)
    name = request[f"{stem}Name"]
    if sort is CONFIG:
        variant(store, method, request)
    else:
        _container(method, request)
    with store.locked():
        if store.read(kind, name):
            raise requests.refusal(
                method, f'Cannot create already existing {word} "{store.arn(kind, name)}".'
            )
        return {f"{stem}Arn": store.create(kind, name, request)["arn"]}


def find(store: Store, sort: Sort, request: dict[str, Any]) -> dict[str, Any]:
    """What was written down (DescribeModel, DescribeEndpointConfig)."""
    kind, stem, _ = sort
    method = f"describe_{kind.replace('-', '_')}"
    requests.check("sagemaker", method, request)
    record = found(store, sort, method, request[f"{stem}Name"])
    return {**record["request"], **_summary(stem, record)}


def search(store: Store, sort: Sort, request: dict[str, Any]) -> dict[str, Any]:
    """All of a kind (ListModels, ListEndpointConfigs)."""
    kind, stem, _ = sort
    requests.check("sagemaker", f"list_{kind.replace('-', '_')}s", request)
    return listed(store.all(kind), request, f"{stem}s", lambda record: _summary(stem, record))


def delete(store: Store, sort: Sort, request: dict[str, Any]) -> dict[str, Any]:
    """Remove it; what was started from it goes on, as on AWS."""
    kind, stem, _ = sort
    method = f"delete_{kind.replace('-', '_')}"
    requests.check("sagemaker", method, request)
    found(store, sort, method, request[f"{stem}Name"])
    store.delete(kind, request[f"{stem}Name"])
    return {}


def found(store: Store, sort: Sort, method: str, name: str) -> Record:
    """The record of a name; raises AWS's error where there is none."""
    record = store.read(sort[0], name)
    if record is None:
        raise requests.refusal(method, f'Could not find {sort[2]} "{store.arn(sort[0], name)}".')
    return record


def container(store: Store, method: str, model: str) -> dict[str, Any]:
    """The container of a model, as it was asked for."""
    return _container(method, found(store, MODEL, method, model)["request"])


def variant(store: Store, method: str, config: dict[str, Any]) -> dict[str, Any]:
    """The one production variant of a configuration whose model is there."""
    variants = config["ProductionVariants"]
    if len(variants) != 1:
        raise requests.refusal(method, f"Local mode runs one production variant, not {len(variants)}.")
    found(store, MODEL, method, variants[0].get("ModelName", ""))
    return dict(variants[0])


def _container(method: str, request: dict[str, Any]) -> dict[str, Any]:
    given = [request["PrimaryContainer"]] if "PrimaryContainer" in request else request.get("Containers", [])
    if len(given) != 1 or "Image" not in given[0]:
        raise requests.refusal(method, "Local mode needs a model of one container that names its Image.")
    return dict(given[0])


def _summary(stem: str, record: Record) -> dict[str, Any]:
    return {
        f"{stem}Name": record["name"], f"{stem}Arn": record["arn"], "CreationTime": moment(record["created"]),
    }  # fmt: skip
