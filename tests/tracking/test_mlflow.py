"""Runs recorded in MLflow: what is there, under which names, and that no trouble of a server ends a
training."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import support
from ncf.config import Experiment
from ncf.errors import ConfigError, Interrupted, StorageError, TrackingError
from ncf.experiment import Run, RunOptions, train
from ncf.tracking.mlflow import MLflowStore, Record, inward, outward, resolve, shown
from ncf.tracking.mlflow_run import import_run, open_tracker, parameters
from processes import free_port


def store(folder: Path, experiment: str = "ncf") -> MLflowStore:
    return MLflowStore(resolve(str(folder / "mlflow.db.d")), experiment)


def recorded(folder: Path, experiment: str = "ncf") -> list[Record]:
    return store(folder, experiment).runs()


def run(folder: Path, settings: Experiment | None = None, *, resume: bool = False, stop: Any = lambda: False,
        address: str | None = None, messages: list[str] | None = None) -> Run:  # fmt: skip
    """Train on made-up data in `folder`/run, recorded in `folder`/mlflow.db.d."""
    messages = [] if messages is None else messages
    with open_tracker(address or str(folder / "mlflow.db.d"), log=messages.append) as tracker:
        options = RunOptions(resume=resume, tracker=tracker, stop=stop)
        return train(
            support.checkerboard(), settings or support.experiment(epochs=3), folder / "run", options=options
        )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run, Record]:
    """One recorded run; tests only read it."""
    folder = tmp_path_factory.mktemp("one")
    finished = run(folder)
    [record] = recorded(folder)
    return folder, finished, record


@pytest.mark.parametrize("live", [True, False])
def test_numbers_that_a_run_chose_are_recorded(tmp_path: Path, live: bool) -> None:
    settings = support.experiment(epochs=1)
    train_config = settings.train.model_copy(update={"init": "auto"})
    model = settings.model.model_copy(update={"kind": "gmf", "factors": "auto"})
    settings = settings.model_copy(update={"train": train_config, "model": model})
    if live:
        run(tmp_path, settings)
    else:
        train(support.checkerboard(), settings, tmp_path / "run")
        import_run(store(tmp_path), tmp_path / "run")
    [record] = recorded(tmp_path)
    chosen = json.loads((tmp_path / "run" / "artifact" / "config.json").read_text())
    assert record.parameters["model.factors"] == str(chosen["model"]["factors"]) != "auto"
    assert record.parameters["train.init"] == chosen["train"]["init"] != "auto"
    assert import_run(store(tmp_path), tmp_path / "run") == record.run_id, (
        "nothing is changed by another import"
    )


def test_a_run_is_recorded_with_settings_figures_and_where_it_came_from(
    watched: tuple[Path, Run, Record],
) -> None:
    folder, finished, record = watched
    settings = support.experiment(epochs=3)
    assert (record.name, record.status, record.experiment) == ("small-neumf", "FINISHED", "ncf")
    assert record.parameters["train.epochs"] == "3"
    assert record.parameters["model.tower"] == "[16, 8]"
    assert record.parameters["train.negatives"] == "4"  # a default, but an important one
    assert "train.popularity_exponent" not in record.parameters
    assert record.tags["ncf.experiment_digest"] == settings.digest()
    assert record.tags["ncf.data"] == "made-up"
    assert record.tags["ncf.data_digest"] == support.checkerboard().digest
    assert "artifact" in record.tags["mlflow.note.content"] or "# " in record.tags["mlflow.note.content"]
    test = finished.metrics["test"]
    assert record.metrics["test_ndcg@10"] == test["metrics"]["ndcg@10"]
    assert record.metrics["test_ndcg@10_low"] == test["intervals"]["ndcg@10"][0]
    assert record.metrics["validation_ndcg@10"] == finished.metrics["validation"]["metrics"]["ndcg@10"]
    assert record.metrics["loss"] == finished.metrics["history"][-1]["loss"]
    assert store(folder).resume(record.run_id) == {1, 2, 3}


def test_the_artifact_and_the_two_documents_are_uploaded_whole(watched: tuple[Path, Run, Record]) -> None:
    _, finished, record = watched
    artifacts = Path(record.artifacts.removeprefix("file://"))
    assert {path.name for path in (artifacts / "artifact").iterdir()} == {
        p.name for p in finished.artifact.iterdir()
    }
    assert json.loads((artifacts / "run.json").read_text())["data"]["name"] == "made-up"
    assert '"event": "finish"' in (artifacts / "events.jsonl").read_text()


def test_a_run_with_an_identity_is_recorded_once(watched: tuple[Path, Run, Record], tmp_path: Path) -> None:
    assert watched[2].tags["mlflow.source.type"] == "LOCAL"
    for name in ("run", "copy"):
        shutil.copytree(watched[0] / "run", tmp_path / name)
        (tmp_path / name / "mlflow.json").unlink()
        import_run(store(tmp_path), tmp_path / name, identity=lambda _: {"ncf.job": "job-1"})
    [record] = store(tmp_path).runs({"ncf.job": "job-1"})
    assert recorded(tmp_path) == [record]
    assert record.tags["mlflow.source.type"] == "JOB"
    assert store(tmp_path).runs({"ncf.job": "job-2"}) == []


def test_a_resumed_run_goes_on_in_the_same_record(tmp_path: Path) -> None:
    epochs = iter([False, True])
    with pytest.raises(Interrupted):
        run(tmp_path, stop=lambda: next(epochs, True))
    [stopped] = recorded(tmp_path)
    assert stopped.status == "KILLED"
    assert "--resume" in stopped.tags["ncf.reason"]
    run(tmp_path, resume=True)
    [finished] = recorded(tmp_path)
    assert (finished.run_id, finished.status) == (stopped.run_id, "FINISHED")
    assert store(tmp_path).resume(finished.run_id) == {1, 2, 3}


def test_a_run_that_breaks_is_marked_failed_with_its_sentence(tmp_path: Path) -> None:
    settings = support.experiment(epochs=2, device="cuda:99")
    with pytest.raises(ConfigError):
        run(tmp_path, settings)
    [record] = recorded(tmp_path)
    assert record.status == "FAILED"
    assert "cuda:99" in record.tags["ncf.reason"]


def test_halves_of_a_pretrained_model_are_nested(tmp_path: Path) -> None:
    halves = {kind: support.experiment(kind, epochs=1).model_dump(mode="json") for kind in ("gmf", "mlp")}
    whole = support.experiment(epochs=1).model_dump(mode="json") | {"pretraining": halves}
    run(tmp_path, Experiment.parse(whole))
    records = {record.name: record for record in recorded(tmp_path)}
    assert {record.status for record in records.values()} == {"FINISHED"}
    assert records["small-neumf"].parent is None
    assert records["small-gmf"].parent == records["small-mlp"].parent == records["small-neumf"].run_id
    assert records["small-neumf"].parameters["pretraining.gmf.model.kind"] == "gmf"


def test_a_server_that_is_down_is_told_once_and_the_run_is_sent_later(tmp_path: Path) -> None:
    messages: list[str] = []
    finished = run(tmp_path, address=f"http://127.0.0.1:{free_port()}", messages=messages)
    assert (finished.artifact / "manifest.json").is_file()
    assert len(messages) == 1
    assert "Connection refused" in messages[0]
    assert f"ncf experiments import {tmp_path / 'run'}" in messages[0]
    run_id = import_run(store(tmp_path), tmp_path / "run")
    assert import_run(store(tmp_path), tmp_path / "run") == run_id
    [record] = recorded(tmp_path)
    assert record.status == "FINISHED"
    assert store(tmp_path).resume(run_id) == {1, 2, 3}
    assert record.metrics["test_ndcg@10"] == finished.metrics["test"]["metrics"]["ndcg@10"]


def test_an_imported_run_has_what_a_watched_one_has(
    watched: tuple[Path, Run, Record], tmp_path: Path
) -> None:
    folder, _, original = watched
    shutil.copytree(folder / "run", tmp_path / "run")
    import_run(store(tmp_path, "later"), tmp_path / "run")
    [imported] = recorded(tmp_path, "later")
    assert imported.metrics == original.metrics
    assert imported.parameters == original.parameters


def test_what_is_no_run_is_not_imported(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no run"):
        import_run(store(tmp_path), tmp_path)


def test_a_database_that_breaks_in_the_middle_does_not_end_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise TrackingError("MLflow is gone")

    monkeypatch.setattr(MLflowStore, "log_metrics", broken)
    messages: list[str] = []
    finished = run(tmp_path, messages=messages)
    assert finished.artifact.is_dir()
    assert len(messages) == 1
    assert messages[0].startswith("Warning: MLflow is gone; training goes on")


def test_names_are_mapped_there_and_back() -> None:
    assert outward("validation_ndcg@10") == "validation_ndcg_at_10"
    assert inward(outward("test_hr@1_low")) == "test_hr@1_low"
    assert inward("samples_per_second") == "samples_per_second"


def test_addresses_are_taken_as_people_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve(None) == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve("sqlite:///a/b.db") == f"sqlite:///{tmp_path}/a/b.db"
    assert resolve("tracked") == f"sqlite:///{tmp_path}/tracked/mlflow.db"
    assert resolve("https://mlflow.example.org") == "https://mlflow.example.org"
    for kind in ("mlflow-tracking-server", "mlflow-app"):
        arn = f"arn:aws:sagemaker:eu-west-1:123456789012:{kind}/mine"
        assert resolve(arn) == arn


def test_addresses_that_cannot_work_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old" / "0").mkdir(parents=True)
    (tmp_path / "old" / "0" / "meta.yaml").write_text("")
    (tmp_path / "file").write_text("")
    for address, words in (
        ("ftp://x", "is not a tracking address"),
        ("arn:aws:sagemaker:eu-west-1:1:endpoint/x", "is not the ARN of a tracking server"),
        (str(tmp_path / "old"), "mlflow migrate-filestore"),
        (str(tmp_path / "file"), "is a file"),
    ):
        with pytest.raises(ConfigError, match=words):
            resolve(address)
    monkeypatch.setitem(sys.modules, "sagemaker_mlflow", None)
    with pytest.raises(ConfigError, match=r"mlflow, not installed here: pip install 'ncf\[mlflow\]'"):
        resolve("arn:aws:sagemaker:eu-west-1:123456789012:mlflow-tracking-server/mine")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match=r"in an image: make image EXTRAS=mlflow"):
        open_tracker(None)


def test_passwords_are_not_shown() -> None:
    assert shown("https://me:secret@mlflow.example.org/x") == "https://me:…@mlflow.example.org/x"


def test_telemetry_is_off_outside_of_tests_too(tmp_path: Path) -> None:
    code = (
        "from ncf.tracking.mlflow import MLflowStore; MLflowStore('sqlite:///x.db', 'ncf');"
        "from mlflow.telemetry.utils import is_telemetry_disabled; print(is_telemetry_disabled())"
    )
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=tmp_path, env=environment)
    assert output.strip() == "True"


def test_parameters_leave_out_where_the_data_lie() -> None:
    given = Experiment.parse({"data": {"path": "/somewhere"}, "train": {"epochs": 3}})
    assert not any("somewhere" in value for value in parameters(given).values())


def test_mlflow_is_not_imported_before_a_run_is_recorded() -> None:
    code = (
        "import sys; from ncf.tracking.mlflow_run import open_tracker; open_tracker('x');"
        "print([m for m in ('mlflow', 'optuna', 'boto3') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
