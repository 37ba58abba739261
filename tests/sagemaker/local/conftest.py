"""Local mode without containers: a `docker` that agrees to everything and does nothing, and workers that
pretend.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ncf.sagemaker.local import local_client, process
from ncf.sagemaker.local.plane import ControlPlane
from processes import wait_until
from sagemaker.local.fake_worker import COMMAND, fake_plane

REGION, ROLE = "eu-west-1", "arn:aws:iam::000000000000:role/local"
Program = Callable[[str, str], Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Makes a shell program that is found first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, script: str) -> Path:
        file = folder / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    return make


@pytest.fixture
def plane(tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[ControlPlane]:
    """A control plane whose workers pretend; those that are left at the end are asked to end."""
    program("docker", "exit 0")
    monkeypatch.setattr(process, "_COMMAND", COMMAND)
    made = fake_plane(tmp_path / "home", REGION)
    yield made
    for record in made.store.all():
        status = "Deleting" if record.kind.name == "Endpoint" else "Stopping"
        if record.state.get("tasks"):
            record.set(**{record.kind.status: status})
    # Unlike Path.rglob, os.walk passes over a folder that a worker removes meanwhile.
    walked = os.walk(made.store.home)
    workers = [Path(folder) for folder, _, files in walked if process.LOCK in files]
    wait_until(lambda: not any(process.alive(worker) for worker in workers))


@pytest.fixture
def client(plane: ControlPlane) -> Any:
    """boto3's client of SageMaker."""
    return local_client("sagemaker", plane.store.home, REGION, plane)


@pytest.fixture
def training(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The request of a training job."""

    def make(name: str, **more: Any) -> dict[str, Any]:
        metrics = [{"Name": "loss", "Regex": r"loss=([0-9.]+)"}]
        program = {"TrainingImage": "ncf:local", "TrainingInputMode": "File", "MetricDefinitions": metrics}
        return {
            "TrainingJobName": name,
            "RoleArn": ROLE,
            "AlgorithmSpecification": program,
            "OutputDataConfig": {"S3OutputPath": f"file://{tmp_path}/output"},
            "ResourceConfig": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
            "Tags": [{"Key": "ncf:project", "Value": "ncf"}],
            **more,
        }

    return make


@pytest.fixture
def config(client: Any) -> Callable[..., str]:
    """Makes a model and an endpoint configuration of the same name."""

    def make(name: str, **variables: str) -> str:
        container = {"Image": "ncf:local", "Environment": variables}
        client.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.c5.large"}
        variants = [variant | {"InitialInstanceCount": 1}]
        client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
        return name

    return make
