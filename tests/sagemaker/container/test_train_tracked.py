"""A training job is recorded where its environment says so, and trains all the same where that cannot be."""

from pathlib import Path

import pytest

import support
from ncf.experiment import RunOptions, train
from ncf.sagemaker.container.train import tracked
from ncf.tracking.mlflow import MLflowStore, resolve
from ncf.tracking.tracker import Silent


class HostFailure(Silent):
    def __init__(self) -> None:
        self.sentences: list[str] = []

    def log(self, sentence: str) -> None:
        self.sentences.append(sentence)


@pytest.fixture(autouse=True)
def _no_tracking(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NCF_TRACK", "MLFLOW_TRACKING_URI", "NCF_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


def run(folder: Path) -> HostFailure:
    said = HostFailure()
    with tracked(said) as tracker:
        train(
            support.checkerboard(),
            support.experiment(epochs=1),
            folder / "run",
            options=RunOptions(tracker=tracker),
        )
    return said


def test_nothing_is_recorded_where_nothing_is_asked_for(tmp_path: Path) -> None:
    said = HostFailure()
    with tracked(said) as tracker:
        assert tracker is said


def test_the_environment_names_server_and_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/jobs.db")
    monkeypatch.setenv("NCF_EXPERIMENT", "jobs")
    monkeypatch.setenv("TRAINING_JOB_NAME", "ncf-1")
    run(tmp_path)
    [record] = MLflowStore(resolve(f"sqlite:///{tmp_path}/jobs.db"), "jobs").runs()
    assert (record.status, record.tags["ncf.sagemaker_job"]) == ("FINISHED", "ncf-1")


def test_an_address_that_cannot_work_is_a_line_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NCF_TRACK", "ftp://nowhere")
    said = run(tmp_path)
    assert said.sentences[0].startswith("Warning: this run is not recorded in MLflow: ftp://nowhere")
    assert (tmp_path / "run" / "artifact" / "manifest.json").is_file()
