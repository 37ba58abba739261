"""The SDK's local mode, and requests as it wants them: a subset of AWS's, with `FileDataSource` for `file://`.

The SDK is given a fresh root for every job, a region, and for its containers a label by which they are found again and
time to end. It writes results below that root, from where `ncf.sagemaker.local.training` takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ncf.errors import CloudError
from ncf.sagemaker.aws_errors import missing_extra
from ncf.sagemaker.local import docker

GRACE = 120
"""Seconds between SIGTERM and the end, as on AWS (StopTrainingJob)."""
CHECKPOINTS = "checkpoints"
SERVED = "served"
"""The SDK's name of the one model and endpoint of a worker."""
_INSTANCE = "local"


def session(
    root: Path, folder: Path, region: str, port: int | None = None, startup: float | None = None
) -> Any:
    """A `LocalSession` that works below `root`; `folder` is the worker's, by which its containers are labelled."""
    try:
        import boto3
        from sagemaker.core.local import LocalSession
    except ImportError:
        raise missing_extra("sagemaker-core") from None
    root.mkdir(parents=True, exist_ok=True)
    made = LocalSession(boto3.Session(region_name=region))
    containers = {"labels": {docker.LABEL: str(folder)}, "stop_grace_period": f"{GRACE}s"}
    settings: dict[str, Any] = {
        "local_code": True,
        "container_root": str(root),
        "container_config": containers,
    }
    if port is not None:
        settings["serving_port"] = port
    made.config = {"local": settings}
    if startup is not None:
        settings["health_check_timeout"] = startup
    return made


def training_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """What `create_training_job` of the SDK takes; results stay below its root."""
    return {
        "TrainingJobName": request["TrainingJobName"],
        "AlgorithmSpecification": _literal(request["AlgorithmSpecification"]),
        "HyperParameters": request.get("HyperParameters", {}),
        "Environment": _literal(request.get("Environment", {})),
        "InputDataConfig": [_channel(one) for one in _channels(request)],
        "OutputDataConfig": {"S3OutputPath": ""},
        "ResourceConfig": _hardware(request["ResourceConfig"]),
    }


def processing_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """What `create_processing_job` of the SDK takes."""
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    resources = request["ProcessingResources"]["ClusterConfig"]
    return {
        "ProcessingJobName": request["ProcessingJobName"],
        "AppSpecification": _literal(_program(request["AppSpecification"])),
        "ProcessingResources": {"ClusterConfig": _hardware(resources)},
        "Environment": _literal(request.get("Environment", {})),
        "ProcessingInputs": request.get("ProcessingInputs", []),
        "ProcessingOutputConfig": {
            "Outputs": [
                {**one, "S3Output": {**one["S3Output"], "S3UploadMode": "EndOfJob"}} for one in outputs
            ]
        },
    }


def serve(made: Any, container: Mapping[str, Any], model: str, more: Mapping[str, str]) -> None:
    """Make the SDK's model and configuration and start its endpoint; returns when /ping answers."""
    client = made.sagemaker_client
    variables = _literal({**container.get("Environment", {}), **more})
    client.create_model(SERVED, {**container, "ModelDataUrl": model, "Environment": variables})
    variant = {"ModelName": SERVED, "InstanceType": _INSTANCE, "InitialInstanceCount": 1}
    client.create_endpoint_config(SERVED, [variant])
    client.create_endpoint(SERVED, SERVED)


def compose_error(made: Any) -> str | None:
    """What compose complained of when it ended, where it has; the SDK reads this of no endpoint, and waits on."""
    endpoint = made.sagemaker_client._endpoints.get(SERVED)
    hosting = getattr(getattr(endpoint, "container", None), "container", None)
    process = getattr(hosting, "process", None)
    if process is None or process.poll() is None:
        return None
    lines = [line.strip() for line in process.stderr.read().decode("utf-8", "replace").splitlines()]
    return " ".join([line for line in lines if line.startswith(("ERROR", "Error"))][-1:])[-400:]


def keep_what_containers_wrote() -> None:
    """From now on the SDK of this process leaves /opt/ml of each container where it is: the worker reads there why it
    failed, or its message, and removes all of it later.
    """
    from sagemaker.core.local.image import _SageMakerContainer

    _SageMakerContainer._cleanup = lambda *_: None


def path_of(uri: str) -> Path | None:
    """The path of a `file://` address; None for another one."""
    parts = urlparse(uri)
    return Path(parts.netloc + parts.path) if parts.scheme == "file" else None


def written_by_containers(request: Mapping[str, Any]) -> list[Path]:
    """Folders outside the root that containers of a training job write to: the checkpoints."""
    uris = [_uri(one) for one in _channels(request) if one["ChannelName"] == CHECKPOINTS]
    return [path for path in map(path_of, uris) if path is not None]


def _channels(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The channels, and the checkpoint folder as one: local mode mounts nothing else."""
    channels = list(request.get("InputDataConfig", []))
    uri = request.get("CheckpointConfig", {}).get("S3Uri")
    if uri and all(one["ChannelName"] != CHECKPOINTS for one in channels):
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}
        channels.append({"ChannelName": CHECKPOINTS, "DataSource": source})
    return channels


def _channel(channel: Mapping[str, Any]) -> dict[str, Any]:
    uri = _uri(channel)
    path = path_of(uri)
    if path is None:
        return dict(channel)
    if channel["ChannelName"] == CHECKPOINTS:
        path.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        raise CloudError(f"The channel {channel['ChannelName']!r} is not there: {path}.")
    source = {"FileDataSource": {"FileDataDistributionType": "FullyReplicated", "FileUri": f"file://{path}"}}
    return {**channel, "DataSource": source}


def _uri(channel: Mapping[str, Any]) -> str:
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise CloudError(
            f"Local mode reads channels from S3Uri only: {channel['ChannelName']!r} has another source."
        )
    return str(source["S3Uri"])


def _hardware(given: Mapping[str, Any]) -> dict[str, Any]:
    kind = given.get("InstanceType", _INSTANCE)
    return {
        "InstanceType": kind if kind.startswith(_INSTANCE) else _INSTANCE,
        "InstanceCount": given.get("InstanceCount", 1),
    }


def _program(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments without a program go to the image's own; the SDK takes them only together."""
    if given.get("ContainerArguments") and not given.get("ContainerEntrypoint"):
        words = [*docker.entrypoint(given["ImageUri"]), *given["ContainerArguments"]]
        return {"ImageUri": given["ImageUri"], "ContainerEntrypoint": words}
    return dict(given)


def _literal(value: Any) -> Any:
    """Texts of which compose takes nothing for a variable: the SDK writes them into its file as they are."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [_literal(one) for one in value]
    if isinstance(value, Mapping):
        return {key: _literal(one) for key, one in value.items()}
    return value
