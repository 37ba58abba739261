"""Local mode without containers: a `docker` that agrees to everything and does nothing, and workers that pretend."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ncf.sagemaker.local import SageMaker, process
from ncf.sagemaker.local.state import Store
from processes import wait_until

REGION = "eu-west-1"
FAKE = Path(__file__).with_name("fake_worker.py")
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
def home(tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose workers pretend; those that are left at the end are ended."""
    program("docker", 'if [ "$1" = context ]; then echo none >&2; exit 1; fi')
    monkeypatch.setattr(process, "_COMMAND", (sys.executable, "-P", str(FAKE)))
    folder = tmp_path / "home"
    yield folder
    workers = [lock.parent for lock in folder.glob(f"*/*/{process._LOCK}")]
    for worker in workers:
        process.terminate(worker)
    wait_until(lambda: not any(process.alive(worker) for worker in workers))


@pytest.fixture
def client(home: Path) -> SageMaker:
    return SageMaker(home, REGION)


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home, REGION)


@pytest.fixture
def training(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The request of a training job."""

    def make(name: str, **more: Any) -> dict[str, Any]:
        return {
            "TrainingJobName": name,
            "RoleArn": "arn:aws:iam::000000000000:role/local",
            "AlgorithmSpecification": {
                "TrainingImage": "ncf:local",
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "loss", "Regex": r"loss=([0-9.]+)"}],
            },
            "OutputDataConfig": {"S3OutputPath": f"file://{tmp_path}/output"},
            "ResourceConfig": {"InstanceType": "ml.c5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
            "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
            "Tags": [{"Key": "ncf:project", "Value": "ncf"}],
            **more,
        }

    return make


@pytest.fixture
def config(client: SageMaker) -> Callable[..., str]:
    """Makes a model and an endpoint configuration of the same name."""

    def make(name: str, **variables: str) -> str:
        client.create_model(
            ModelName=name,
            ExecutionRoleArn="arn:aws:iam::000000000000:role/local",
            PrimaryContainer={"Image": "ncf:local", "Environment": variables},
        )
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": name,
            "InstanceType": "ml.c5.large",
            "InitialInstanceCount": 1,
        }
        client.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        return name

    return make
