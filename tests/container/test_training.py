"""Training in the image, with the layout that SageMaker gives a container: success, stops, kills, faults."""

import json
import re
from pathlib import Path

import pytest

from containers import Container, OptMl, container, docker
from ncf.data.files import sha256_of
from ncf.sagemaker.container import train
from ncf.sagemaker.container.metric_lines import metric_definitions
from ncf.serving.artifact import open_artifact

pytestmark = pytest.mark.container

SLOWLY = {"train.epochs": "3", "train.batch_size": "512"}
"""About a second an epoch, so that there is a half-way."""


def weights(job: OptMl) -> str:
    return sha256_of(job.model / "model.safetensors")


def losses(job: OptMl) -> list[float]:
    lines = (job.root / "output" / "data" / "events.jsonl").read_text("utf-8").splitlines()
    return [row["loss"] for row in map(json.loads, lines) if "loss" in row]


@pytest.fixture(scope="module")
def undisturbed(
    image: str, ml_100k: Path, two_epochs: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> OptMl:
    job = OptMl.make(tmp_path_factory.mktemp("undisturbed"), two_epochs | SLOWLY, ml_100k)
    done = job.train(image)
    assert done.returncode == 0, done.stderr
    return job


def test_the_model_folder_is_an_artifact(trained: OptMl) -> None:
    artifact = open_artifact(trained.model)
    assert artifact.experiment.name == "ml-100k"
    assert len(artifact.metrics["history"]) == 2
    assert {path.name for path in (trained.root / "output" / "data").iterdir()} == {
        "run.json",
        "events.jsonl",
    }


def test_the_weights_are_those_of_this_machine_to_the_bit(
    trained: OptMl, ml_100k: Path, two_epochs: dict[str, str], tmp_path: Path
) -> None:
    """Both sides have the versions of constraints.txt: other versions of torch may round otherwise."""
    here = OptMl.make(tmp_path, two_epochs, ml_100k)
    assert train.main(here.root) == 0
    assert losses(here) == losses(trained)
    assert weights(here) == weights(trained)


def test_sagemaker_finds_the_figures_in_what_is_printed(trained: OptMl) -> None:
    log = (trained.root / "log").read_text("utf-8")
    found = {one["Name"]: re.findall(one["Regex"], log) for one in metric_definitions()}
    assert [float(loss) for loss in found["loss"]] == pytest.approx(losses(trained), rel=1e-5)
    assert len(found["test_hr@10"]) == 1
    assert all(found.values()), found


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"train.epochs": "many"}, "train.epochs"),
        ({"train.epoch": "2"}, "train.epoch"),
        ({"model.kind": "svd"}, "model.kind"),
    ],
)
def test_a_bad_hyperparameter_is_one_sentence(
    image: str, ml_100k: Path, wrong: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    job = OptMl.make(tmp_path, wrong, ml_100k)
    done = job.train(image)
    assert done.returncode == 1
    assert sentence in job.failure
    assert len(job.failure.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_missing_channel_is_one_sentence(image: str, two_epochs: dict[str, str], tmp_path: Path) -> None:
    job = OptMl.make(tmp_path, two_epochs, None)
    assert job.train(image).returncode == 1
    assert job.failure == ("The channel 'train' is missing: give it the folder that 'ncf prepare' wrote.")


@pytest.mark.parametrize("full", ["model", "checkpoints"])
def test_a_full_disk_is_one_sentence(
    image: str, ml_100k: Path, two_epochs: dict[str, str], full: str, tmp_path: Path
) -> None:
    job = OptMl.make(tmp_path, two_epochs | {"train.epochs": "1"}, ml_100k)
    done = job.train(image, "--tmpfs", f"/opt/ml/{full}:size=100k")
    assert done.returncode == 1
    assert job.failure.startswith("There is no space left to write")
    assert full in job.failure
    assert len(job.failure.splitlines()) == 1


def test_killed_half_way_it_resumes_to_the_same_weights(
    image: str, ml_100k: Path, two_epochs: dict[str, str], undisturbed: OptMl, tmp_path: Path
) -> None:
    job = OptMl.make(tmp_path, two_epochs | SLOWLY, ml_100k)
    with container(image, ("train",), *job.mount) as first:
        job.wait_for_checkpoint(first, epoch=1)
        first.signal("KILL")
        assert first.wait() == 137
    assert not any(job.model.iterdir())
    done = job.train(image)
    assert done.returncode == 0, done.stderr
    assert "epoch=1 " not in done.stdout
    assert losses(job)[-1] == losses(undisturbed)[-1]
    assert weights(job) == weights(undisturbed)


def test_sigterm_saves_a_checkpoint_and_is_no_failure(
    image: str, ml_100k: Path, two_epochs: dict[str, str], undisturbed: OptMl, tmp_path: Path
) -> None:
    job = OptMl.make(tmp_path, two_epochs | SLOWLY, ml_100k)
    with container(image, ("train",), *job.mount) as first:
        job.wait_for_checkpoint(first, epoch=1)
        first.signal("TERM")
        assert first.wait(seconds=120) == 0
        assert "checkpoint" in first.log.splitlines()[-1]
    assert not (job.root / "output" / "failure").exists()
    assert job.train(image).returncode == 0
    assert weights(job) == weights(undisturbed)


def test_sigterm_before_the_first_step_is_not_lost(
    image: str, ml_100k: Path, two_epochs: dict[str, str], tmp_path: Path
) -> None:
    """As early as the program can know of it, which is before torch is there."""
    job = OptMl.make(tmp_path, two_epochs | SLOWLY, ml_100k)
    with container(image, ("train",), *job.mount) as first:
        wait_for_handler(first)
        first.signal("TERM")
        assert first.wait(seconds=120) == 0
        assert "epoch=2" not in first.log


def wait_for_handler(of: Container) -> None:
    """Until the first process catches SIGTERM (bit 15 of SigCgt)."""
    look = "until [ $(( 0x$(sed -n 's/^SigCgt:.//p' /proc/1/status) >> 14 & 1 )) = 1 ]; do :; done"
    docker("exec", of.name, "sh", "-c", look)
