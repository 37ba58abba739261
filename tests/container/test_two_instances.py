"""Jobs of two instances in local mode: their model, and a host that is cut off."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from containers import OptMl, container, docker
from local_mode import PATIENCE, channel, ended, local_session, log, training_request
from ncf.sagemaker.local.docker import FOLDER_LABEL
from ncf.sagemaker.session import Session
from processes import wait_until

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]

GROUP = "/aws/sagemaker/TrainingJobs"
TWO = {"InstanceType": "ml.c5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 30}
RECIPE = """
name = "ml-100k"
[model]
kind = "neumf"
factors = 32
embedding = 16
tower = [32, 16]
[train]
init = "spectral"
epochs = 1
threads = 1
precision = "float32"
[evaluation]
cutoffs = [10]
bootstrap = 0
"""
SILENCE = 15
"""Seconds after which a host that does not answer ends the job."""


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with local_session(tmp_path / "home") as made:
        yield made


@pytest.fixture(scope="module")
def folder(ml_100k: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, the data, and in `host` what two processes on this machine make of them."""
    made = tmp_path_factory.mktemp("two")
    (made / "recipe.toml").write_text(RECIPE)
    (made / "data").symlink_to(ml_100k)
    ncf(made, "train", "recipe.toml", "--data", "data", "--output", "host", "--nproc", 2, "--quiet")
    return made


def ncf(folder: Path, *arguments: object, **variables: str) -> str:
    command = [sys.executable, "-m", "ncf", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**os.environ, **variables}, timeout=600,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def start(
    session: Session, name: str, image: str, settings: Mapping[str, str], *channels: Any, **variables: str
) -> None:
    request = training_request(
        session, name, image, settings, *channels, ResourceConfig=TWO, Environment=variables
    )
    session.client("sagemaker").create_training_job(**request)


@pytest.mark.parametrize("each", [1, 2])
def test_two_instances_train_what_two_processes_train_here(image: str, folder: Path, each: int) -> None:
    """Their number is no part of the model: also two processes on each instance train the same one."""
    variables = {"NCF_HOME": str(folder / "home"), "NCF_IMAGE": image}
    together = ("--instances", 2, "--distributed", "torchrun", "--processes-per-host", each, "--local")
    output = ("--output", f"job-{each}")
    said = ncf(folder, "sagemaker", "train", "recipe.toml", "--data", "data", *together, *output, **variables)
    assert said.count("epoch   1  loss") == 1  # process 0 alone reports
    here, there = (folder / run / "artifact" for run in ("host", f"job-{each}"))
    ours, theirs = (load_file(artifact / "model.safetensors") for artifact in (here, there))
    assert ours.keys() == theirs.keys()
    for name, weights in ours.items():
        assert theirs[name] == pytest.approx(weights, abs=1e-5), name
    judged = [json.loads((artifact / "metrics.json").read_text()) for artifact in (here, there)]
    assert judged[1]["test"]["metrics"] == pytest.approx(judged[0]["test"]["metrics"], abs=1e-9)
    assert judged[1]["history"][0]["loss"] == pytest.approx(judged[0]["history"][0]["loss"], rel=1e-5)


def test_a_host_that_is_cut_off_ends_the_job_which_then_goes_on(
    session: Session, image: str, ml_100k: Path, two_epochs: dict[str, str], tmp_path: Path
) -> None:
    settings = two_epochs | {"train.epochs": "6", "train.batch_size": "192"}
    kept = tmp_path / "kept"
    channels = (channel("train", ml_100k), channel("checkpoints", kept))
    start(session, "cut", image, settings, *channels, NCF_TIMEOUT=str(SILENCE))
    wait_until(lambda: any(kept.glob("run/checkpoints/epoch-00002-*")), PATIENCE)
    cut = container_of(session, "cut", "algo-2")
    network = docker("inspect", "--format", "{{.HostConfig.NetworkMode}}", cut).stdout.strip()
    docker("network", "disconnect", "--force", network, cut)
    began = time.monotonic()
    job = ended(session, "cut")
    assert time.monotonic() - began < SILENCE + 60
    assert job["TrainingJobStatus"] == "Failed"
    assert "Process 1 of 2 (host " in job["FailureReason"]
    assert "last phase: training, step" in job["FailureReason"]
    start(session, "again", image, settings, *channels)
    assert ended(session, "again")["TrainingJobStatus"] == "Completed"
    said = log(session, GROUP, "again/")
    assert any("Resumed after" in line for line in said)
    assert not any("epoch=1 " in line for line in said)
    assert any("epoch=6 " in line for line in said)


def container_of(session: Session, job: str, host: str) -> str:
    """The name of the container of a host."""
    label = f"label={FOLDER_LABEL}={session.home / 'TrainingJob' / job / 'run'}"
    names = docker("ps", "--filter", label, "--format", "{{.Names}}").stdout.split()
    return next(name for name in names if f"-{host}-" in name)


def test_an_instance_that_waits_for_another_hears_a_stop(
    image: str, ml_100k: Path, two_epochs: dict[str, str], tmp_path: Path
) -> None:
    job = OptMl.make(tmp_path, two_epochs, ml_100k)
    config = {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]}
    (job.root / "input" / "config" / "resourceconfig.json").write_text(json.dumps(config))
    with container(image, ("train",), *job.mount, "--hostname", "algo-1") as alone:
        time.sleep(5)
        alone.signal("TERM")
        assert alone.wait(seconds=20) == 0
        assert "algo-1 was stopped before all hosts had started" in alone.log
    assert not (job.root / "output" / "failure").exists()
