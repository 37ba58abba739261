"""`ncf experiments import` and `ncf train --track`."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import support
from ncf.cli import app
from ncf.errors import ConfigError
from ncf.tracking.mlflow import MLflowStore, resolve


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and one run that was recorded while it trained; tests only read it."""
    folder = tmp_path_factory.mktemp("project")
    support.checkerboard().save(folder / "data")
    (folder / "small.json").write_text(support.experiment(epochs=1).model_dump_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        invoke(
            "train",
            "small.json",
            "--data",
            "data",
            "--output",
            "runs/a",
            "--track",
            "sqlite:///mlflow.db",
            "--quiet",
        )
    return folder


@pytest.fixture(autouse=True)
def _there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    for name in ("NCF_TRACK", "MLFLOW_TRACKING_URI", "NCF_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def parsed(*arguments: str) -> Any:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output + repr(result.exception)
    return json.loads(result.stdout)


def test_a_run_is_recorded_while_it_trains() -> None:
    [run] = MLflowStore(resolve("sqlite:///mlflow.db"), "ncf").runs()
    assert (run.status, run.experiment) == ("FINISHED", "ncf")
    assert run.metrics["test_ndcg@10"] > 0


def test_a_run_without_tracking_is_sent_later(tmp_path: Path) -> None:
    sent = parsed("experiments", "import", "runs/a", "--track", str(tmp_path / "t"), "--experiment", "later")
    [run] = MLflowStore(resolve(str(tmp_path / "t")), "later").runs()
    assert (run.run_id, run.experiment) == (sent["run_id"], "later")


def test_an_address_that_cannot_work_is_refused_before_training(tmp_path: Path) -> None:
    result = invoke(
        "train", "small.json", "--data", "data", "--output", str(tmp_path / "r"), "--track", "ftp://x"
    )
    assert isinstance(result.exception, ConfigError), result.output
    assert "is not a tracking address" in str(result.exception)
    assert not (tmp_path / "r").exists()
