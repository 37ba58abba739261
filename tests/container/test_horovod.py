"""Horovod over MPI in real containers: two instances, started by ncf and by the SDK's MPI driver."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from sagemaker.core.modules import constants, templates
from sagemaker.core.modules.configs import Channel
from sagemaker.core.modules.distributed import MPI
from sagemaker.core.modules.local_core.local_container import _LocalContainer
from sagemaker.core.shapes import DataSource, FileSystemDataSource

from containers import docker, script
from local_mode import PATIENCE, channel, containers, ended, local_session, log, training_request
from ncf.sagemaker.session import Session
from processes import wait_until

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]

GROUP = "/aws/sagemaker/TrainingJobs"
HOROVOD = {"NCF_DISTRIBUTED": "horovod"}
TWO = {"InstanceType": "ml.c5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 30}
SETTINGS = {
    "name": "ml-100k",
    "model.kind": "neumf", "model.factors": "32", "model.embedding": "16", "model.tower": "[32, 16]",
    "train.init": "spectral", "train.epochs": "1", "train.threads": "1", "train.precision": "float32",
    "evaluation.cutoffs": "[10]", "evaluation.bootstrap": "0",
}  # fmt: skip
LONG = {"train.epochs": "2000"}


@pytest.fixture(scope="session")
def horovod_image(image: str) -> str:
    """The tag of an image with Horovod; NCF_TEST_HOROVOD_IMAGE names one that is built already."""
    if built := os.environ.get("NCF_TEST_HOROVOD_IMAGE"):
        return built
    script("image", "ncf-horovod:local", "--build-arg", "HOROVOD=1", seconds=2400)
    return "ncf-horovod:local"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with local_session(tmp_path / "home") as made:
        yield made


@pytest.fixture(scope="module")
def host(ml_100k: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The weights that two processes on this machine make."""
    made = tmp_path_factory.mktemp("host")
    (made / "recipe.toml").write_text('name = "ml-100k"\n[model]\nkind = "neumf"\n')
    words = [f"{name}={value}" for name, value in SETTINGS.items() if "." in name]
    command = [
        sys.executable,
        "-m",
        "ncf",
        "train",
        "recipe.toml",
        "--data",
        str(ml_100k),
        "--output",
        "run",
        "--nproc",
        "2",
    ]
    command += [word for one in words for word in ("--set", one)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=made, timeout=300, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return load_file(made / "run" / "artifact" / "model.safetensors")


def start(session: Session, name: str, image: str, settings: Mapping[str, str], *channels: Any) -> None:
    request = training_request(
        session, name, image, settings, *channels, ResourceConfig=TWO, Environment=HOROVOD
    )
    session.client("sagemaker").create_training_job(**request)


def weights(archive: Path) -> dict[str, Any]:
    """Those in a model.tar.gz."""
    folder = archive.parent / "opened"
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    return load_file(next(folder.rglob("model.safetensors")))


def assert_equal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert abs(ours[name] - value).max() <= 1e-5, name


def path_of(job: Mapping[str, Any]) -> Path:
    return Path(job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("file://"))


def long_job(session: Session, name: str, image: str, data: Path, kept: Path) -> None:
    """Start a job that would go on for long, and wait for its first checkpoint in `kept`."""
    channels = channel("train", data), channel("checkpoints", kept)
    start(session, name, image, SETTINGS | LONG, *channels)
    wait_until(lambda: any(kept.glob("run/checkpoints/epoch-00001-*")), PATIENCE)


def test_two_instances_train_the_model_of_two_processes(
    session: Session, horovod_image: str, ml_100k: Path, host: dict[str, Any]
) -> None:
    start(session, "pair", horovod_image, SETTINGS, channel("train", ml_100k))
    job = ended(session, "pair")
    assert job["TrainingJobStatus"] == "Completed", (job, log(session, GROUP, "pair/"))
    assert_equal(weights(path_of(job)), host)
    assert sum("epoch=1 " in line for line in log(session, GROUP, "pair/")) == 1  # rank 0 alone reports


def test_a_stopped_job_has_saved_a_checkpoint(
    session: Session, horovod_image: str, ml_100k: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    long_job(session, "stop", horovod_image, ml_100k, kept)
    session.client("sagemaker").stop_training_job(TrainingJobName="stop")
    job = ended(session, "stop")
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    said = log(session, GROUP, "stop/")
    assert any("checkpoint" in line for line in said), said
    assert containers(session.home) == []


def test_a_mistake_is_one_sentence(session: Session, horovod_image: str, ml_100k: Path) -> None:
    start(session, "wrong", horovod_image, SETTINGS | {"train.nonsense": "3"}, channel("train", ml_100k))
    job = ended(session, "wrong")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("train.nonsense is not a setting of ncf; did you mean train.seed?")


def test_a_process_that_is_killed_ends_the_job(
    session: Session, horovod_image: str, ml_100k: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    long_job(session, "dies", horovod_image, ml_100k, kept)
    second = next(row.split()[0] for row in containers(session.home) if "algo-2" in row)
    docker("exec", second, "sh", "-c", "pkill -9 -P $(pgrep -x orted)")
    job = ended(session, "dies")
    assert job["TrainingJobStatus"] == "Failed"
    assert any(
        word in job["FailureReason"] for word in ("lost process 1", "lost another one", "no error message")
    ), job


def test_an_image_without_horovod_says_so(session: Session, image: str, ml_100k: Path) -> None:
    start(session, "plain", image, SETTINGS, channel("train", ml_100k))
    job = ended(session, "plain")
    assert job["TrainingJobStatus"] == "Failed"
    assert "--build-arg HOROVOD=1" in job["FailureReason"]


class Local(_LocalContainer):
    """The SDK's own local mode, but for the interface `ethwe`, which neither Docker nor AWS has."""

    def _write_config_files(self, host: str, *arguments: Any) -> None:
        super()._write_config_files(host, *arguments)
        file = Path(self.container_root, host, "input", "config", "resourceconfig.json")
        file.write_text(file.read_text().replace("ethwe", "eth0"))


def given(name: str, path: Path) -> Channel:
    source = FileSystemDataSource.model_construct(directory_path=str(path), file_system_type="EFS")
    return Channel(
        channel_name=name, data_source=DataSource(file_system_data_source=source), input_mode="File"
    )


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the SDK closes no pipe of compose
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_sdks_mpi_driver_works_in_the_image(
    horovod_image: str, ml_100k: Path, host: dict[str, Any], tmp_path: Path
) -> None:
    """What `ModelTrainer(distributed=MPI(…))` puts into a job.

    Settings lie in the script, since the driver cannot export names with dots.
    It starts as many processes as one host has, so it is told of both, one on each.
    """
    mpi = MPI(process_count_per_node=2, mpi_additional_options=["--map-by", "node"])
    code, drivers = tmp_path / "code", tmp_path / "drivers"
    code.mkdir()
    words = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    (code / "job.py").write_text(
        f"import sys\nfrom ncf.sagemaker.container.train import main\nsys.exit(main(arguments={words!r}))\n"
    )
    shutil.copytree(constants.SM_DRIVERS_LOCAL_PATH, drivers)
    execute = templates.EXEUCTE_DISTRIBUTED_DRIVER.format(driver_name="MPI", driver_script=mpi.driver_script)
    (drivers / constants.TRAIN_SCRIPT).write_text(
        templates.TRAIN_SCRIPT_TEMPLATE.format(
            working_dir=f"cd {constants.SM_CODE_CONTAINER_PATH}",
            install_requirements="",
            execute_driver=execute,
        )
    )
    (drivers / constants.SOURCE_CODE_JSON).write_text(json.dumps({"entry_script": "job.py"}))
    (drivers / constants.DISTRIBUTED_JSON).write_text(json.dumps(mpi.model_dump()))
    job = Local(
        training_job_name="sdk", instance_type="local_cpu", instance_count=2, image=horovod_image,
        container_root=str(tmp_path / "sdk-job"), environment=dict(HOROVOD), hyper_parameters={},
        input_data_config=[given("code", code), given("sm_drivers", drivers), given("train", ml_100k)],
        container_entrypoint=constants.DEFAULT_CONTAINER_ENTRYPOINT,
        container_arguments=constants.DEFAULT_CONTAINER_ARGUMENTS,
    )  # fmt: skip
    compose = tmp_path / "sdk-job" / "docker-compose.yaml"
    try:
        archive = Path(job.train(wait=True).removeprefix("file://"))
    finally:
        subprocess.run(
            [*job._get_compose_cmd_prefix(), "-f", str(compose), "down", "--volumes"],
            capture_output=True,
            check=False,
        )
    assert_equal(weights(archive), host)
