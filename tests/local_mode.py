"""Local mode with real containers: requests as the tests make them, and waiting for what becomes of them."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from containers import docker
from ncf.errors import CloudError
from ncf.sagemaker.container.metric_lines import metric_definitions
from ncf.sagemaker.local import process
from ncf.sagemaker.local.docker import FOLDER_LABEL
from ncf.sagemaker.session import Session, Settings
from processes import wait_until

PATIENCE = 240


@contextmanager
def local_session(home: Path) -> Iterator[Session]:
    """A session whose workers and containers must be gone at the end."""
    session = Session(Settings(local=True, home=home))
    yield session
    wait_until(lambda: workers(home) == containers(home) == [], PATIENCE)


def workers(home: Path) -> list[str]:
    """Names of what has a living worker."""
    # Unlike Path.rglob, os.walk passes over a folder that a worker removes meanwhile.
    folders = (Path(folder) for folder, _, files in os.walk(home) if process.LOCK in files)
    return [str(folder) for folder in folders if process.alive(folder)]


def containers(home: Path) -> list[str]:
    """Containers of this home, ended ones too."""
    format = '{{.Names}} {{.Label "' + FOLDER_LABEL + '"}}'
    rows = docker("ps", "--all", "--format", format).stdout.splitlines()
    return [row for row in rows if f" {home}/" in row]


def processes(home: Path) -> list[str]:
    """Command lines that name the home: workers, compose, followers of logs."""
    said = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if str(home) in line]


def channel(name: str, path: Path) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"file://{path}"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def training_request(
    session: Session,
    name: str,
    image: str,
    settings: Mapping[str, str],
    *channels: dict[str, Any],
    **more: Any,
) -> dict[str, Any]:
    """CreateTrainingJob; a channel `checkpoints` is where the job keeps them."""
    kept = [
        one["DataSource"]["S3DataSource"]["S3Uri"] for one in channels if one["ChannelName"] == "checkpoints"
    ]
    if kept:
        more["CheckpointConfig"] = {"S3Uri": kept[0]}
        channels = tuple(one for one in channels if one["ChannelName"] != "checkpoints")
    return {
        "TrainingJobName": name,
        "RoleArn": session.role,
        "AlgorithmSpecification": {
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "MetricDefinitions": metric_definitions(),
        },
        "HyperParameters": dict(settings),
        **({"InputDataConfig": list(channels)} if channels else {}),
        "OutputDataConfig": {"S3OutputPath": session.uri("jobs")},
        "ResourceConfig": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "Tags": session.tags(),
        **more,
    }


def ended(session: Session, name: str) -> dict[str, Any]:
    """A training job once it has ended."""
    return _ended(session, "TrainingJob", name)


def transformed(session: Session, name: str) -> dict[str, Any]:
    """A transform job once it has ended."""
    return _ended(session, "TransformJob", name)


def _ended(session: Session, stem: str, name: str) -> dict[str, Any]:
    call = {"TrainingJob": "describe_training_job", "TransformJob": "describe_transform_job"}[stem]

    def look() -> dict[str, Any]:
        answer: dict[str, Any] = getattr(session.client("sagemaker"), call)(**{f"{stem}Name": name})
        return answer

    wait_until(lambda: look()[f"{stem}Status"] not in ("InProgress", "Stopping"), PATIENCE)
    return look()


def make_config(session: Session, name: str, image: str, model: Path, **variables: str) -> str:
    """A model and an endpoint configuration of one name."""
    container = {
        "Image": image,
        "ModelDataUrl": f"file://{model}",
        "Environment": {"NCF_WORKERS": "1", **variables},
    }
    client = session.client("sagemaker")
    client.create_model(ModelName=name, ExecutionRoleArn=session.role, PrimaryContainer=container)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InstanceType": "ml.c5.large",
        "InitialInstanceCount": 1,
    }
    client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    return name


def settled(session: Session, name: str) -> dict[str, Any]:
    """An endpoint once nothing is under way."""

    def look() -> dict[str, Any]:
        answer: dict[str, Any] = session.client("sagemaker").describe_endpoint(EndpointName=name)
        return answer

    wait_until(lambda: look()["EndpointStatus"] in ("InService", "Failed"), PATIENCE)
    return look()


def delete_endpoint(session: Session, name: str) -> None:
    """Delete it and wait until it is gone."""
    session.client("sagemaker").delete_endpoint(EndpointName=name)

    def gone() -> bool:
        try:
            session.client("sagemaker").describe_endpoint(EndpointName=name)
        except CloudError as error:
            return error.code == "ValidationException"
        return False

    wait_until(gone, PATIENCE)


def log(session: Session, group: str, prefix: str) -> list[str]:
    """Every line of the streams that begin so."""
    client = session.client("logs")
    streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix=prefix)["logStreams"]
    pages = [
        client.get_log_events(logGroupName=group, logStreamName=one["logStreamName"], startFromHead=True)
        for one in streams
    ]
    return [event["message"] for page in pages for event in page["events"]]
