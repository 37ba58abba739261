"""Jobs of the double recorded in MLflow: by themselves or from here, once, with what they cost."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import programs
from aws import Aws
from ncf.errors import ConfigError, TrackingError
from ncf.sagemaker.container.environment import job_identity
from ncf.sagemaker.jobs import launch, training
from ncf.sagemaker.jobs import mlflow as recorded
from ncf.sagemaker.jobs.fetch import Fetched, fetch
from ncf.sagemaker.jobs.mlflow import Tracking, facts, record
from ncf.sagemaker.jobs.requests import TrainingOptions
from ncf.sagemaker.jobs.training import TrainingJob
from ncf.sagemaker.session import Session
from ncf.tracking import mlflow
from ncf.tracking.mlflow import MLflowStore, Record, resolve
from ncf.tracking.mlflow_run import import_run
from processes import free_port
from support import experiment

if TYPE_CHECKING:
    from hosted.inline import Spec

IMAGE = "999999999999.dkr.ecr.us-east-1.amazonaws.com/ncf:1"
WITHOUT = (
    "[ncf] Warning: this run is not recorded in MLflow: This needs mlflow, not installed here: pip "
    "install 'ncf[mlflow]'."
)
SERVER = "http://mlflow.example.org"


def database(folder: Path, experiment: str = "ncf") -> Tracking:
    return Tracking(f"sqlite:///{folder}/mlflow.db", experiment)


def runs(folder: Path, experiment: str = "ncf") -> list[Record]:
    return MLflowStore(resolve(database(folder).address), experiment).runs()


def fetched(session: Session, aws: Aws, data: Path, folder: Path, tracking: Tracking) -> Fetched:
    """A job of one epoch that was given the tracking, and its run in `folder`."""
    recipe = experiment("gmf", epochs=1)
    options = TrainingOptions("ncf-one", data="", image="", environment=tracking.environment)
    launch.launch(session, recipe, launch.Inputs(data, image=IMAGE), options)
    aws.wait("TrainingJob", "ncf-one")
    return fetch(session, "ncf-one", folder, data)


def without_mlflow(spec: "Spec") -> int:
    """The training program in an image that has no MLflow."""
    spec.log(WITHOUT)
    return programs.train(spec)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database, which takes MLflow seconds to make."""
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        unset(patch)
        MLflowStore(resolve(database(folder).address), "ncf")
    return folder / "mlflow.db"


def unset(patch: pytest.MonkeyPatch) -> None:
    """No tracking by the environment, in which MLflow leaves its address for the processes that it is the
    parent of."""
    for name in ("NCF_TRACK", "MLFLOW_TRACKING_URI", "NCF_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME"):
        patch.setenv(name, "")
        patch.delenv(name)


@pytest.fixture(autouse=True)
def _there(tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unset(monkeypatch)
    shutil.copy(tables, tmp_path / "mlflow.db")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tracking:
    """An address that jobs get, whose place a database takes here."""
    place = resolve(database(tmp_path).address)
    monkeypatch.setattr(mlflow, "resolve", lambda address: place if address == SERVER else resolve(address))
    return Tracking(SERVER, "ncf")


def test_a_database_is_no_business_of_the_job_and_the_run_is_sent_from_here(
    aws: Aws, prepared: Path, tmp_path: Path
) -> None:
    aws.run(programs.train)
    session, tracking = aws.session(), database(tmp_path, "jobs")
    run = fetched(session, aws, prepared, tmp_path / "run", tracking)
    assert aws.calls("CreateTrainingJob")[0].parameters.get("Environment", {}) == {}
    said = record(session, "ncf-one", run.folder, tracking)
    [found] = runs(tmp_path, "jobs")
    assert said == f"ncf-one is run {found.run_id[:8]} of jobs at {tracking.address}."
    job = training.describe(session, "ncf-one")
    assert found.status == "FINISHED"
    assert found.tags["ncf.sagemaker_job"] == "ncf-one"
    assert found.tags["ncf.data"]
    assert found.tags["mlflow.source.type"] == "JOB"
    assert {name: found.tags[name] for name in facts(job)} == facts(job)
    assert facts(job)["ncf.instance_type"] == "ml.c7i.xlarge"
    assert found.metrics["test_ndcg@10"] == run.metrics["test"]["metrics"]["ndcg@10"]


def test_a_job_is_recorded_once_however_often_and_whence_it_is_fetched(
    aws: Aws, prepared: Path, tmp_path: Path
) -> None:
    aws.run(programs.train)
    session, tracking = aws.session(), database(tmp_path)
    run = fetched(session, aws, prepared, tmp_path / "run", tracking)
    record(session, "ncf-one", run.folder, tracking)
    record(session, "ncf-one", run.folder, tracking)
    again = fetch(session, "ncf-one", tmp_path / "again", prepared)
    said = record(session, "ncf-one", again.folder, database(tmp_path, "other"))
    import_run(MLflowStore(resolve(tracking.address), "ncf"), again.folder, identity=job_identity)
    [found] = runs(tmp_path)
    assert f"run {found.run_id[:8]} of ncf" in said


def test_a_server_is_the_jobs_to_record_at_and_only_the_cost_is_added(
    aws: Aws, prepared: Path, tmp_path: Path, server: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.run(programs.train)
    session = aws.session()
    run = fetched(session, aws, prepared, tmp_path / "run", server)
    [call] = aws.calls("CreateTrainingJob")
    assert call.parameters["Environment"] == {"MLFLOW_TRACKING_URI": SERVER, "MLFLOW_EXPERIMENT_NAME": "ncf"}
    container = tmp_path / "container"
    container.mkdir()
    (container / "run.json").write_text((run.folder / "run.json").read_text())
    (container / "artifact").symlink_to(run.artifact)
    with monkeypatch.context() as patch:
        patch.setenv("TRAINING_JOB_NAME", "ncf-one")
        (container / "events.jsonl").write_text((run.folder / "events.jsonl").read_text())
        run_id = import_run(
            MLflowStore(resolve(database(tmp_path).address), "ncf"), container, identity=job_identity
        )
    assert (
        record(session, "ncf-one", run.folder, server) == f"ncf-one is run {run_id[:8]} of ncf at {SERVER}."
    )
    [found] = runs(tmp_path)
    assert found.tags["ncf.instance_count"] == "1"
    assert not (run.folder / "mlflow.json").exists()  # nothing was sent again


def test_what_the_job_could_not_record_is_sent_from_here_and_said(
    aws: Aws, prepared: Path, tmp_path: Path, server: Tracking
) -> None:
    aws.run(without_mlflow)
    session = aws.session()
    run = fetched(session, aws, prepared, tmp_path / "run", server)
    said = record(session, "ncf-one", run.folder, server)
    [found] = runs(tmp_path)
    assert (
        f"run {found.run_id[:8]} of ncf at {SERVER}; from here, since the job could not: This needs" in said
    )


def test_a_record_that_broke_off_is_gone_on_with(
    aws: Aws, prepared: Path, tmp_path: Path, server: Tracking
) -> None:
    aws.run(without_mlflow)
    session = aws.session()
    run = fetched(session, aws, prepared, tmp_path / "run", server)
    half = MLflowStore(resolve(database(tmp_path).address), "ncf").begin(
        "x", {"ncf.sagemaker_job": "ncf-one"}, {}
    )
    record(session, "ncf-one", run.folder, server)
    [found] = runs(tmp_path)
    assert (found.run_id, found.status) == (half, "FINISHED")


def test_a_server_that_is_not_reached_from_here_takes_nothing_from_what_the_job_recorded(
    aws: Aws, prepared: Path, tmp_path: Path
) -> None:
    aws.run(programs.train)
    session, tracking = aws.session(), Tracking(f"http://127.0.0.1:{free_port()}", "ncf")
    run = fetched(session, aws, prepared, tmp_path / "run", database(tmp_path))
    assert "recorded itself" in record(session, "ncf-one", run.folder, tracking)


def test_a_run_that_neither_could_record_is_an_error(aws: Aws, prepared: Path, tmp_path: Path) -> None:
    aws.run(without_mlflow)
    session = aws.session()
    run = fetched(session, aws, prepared, tmp_path / "run", database(tmp_path))
    with pytest.raises(TrackingError, match="MLflow at http://127.0.0.1:.* failed"):
        record(session, "ncf-one", run.folder, Tracking(f"http://127.0.0.1:{free_port()}", "ncf"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (WITHOUT, "This needs mlflow, not installed here: pip install 'ncf[mlflow]'."),
        (
            "[ncf] Warning: MLflow at http://m failed (refused); training goes on, and 'x' sends …",
            "MLflow at http://m failed (refused)",
        ),
        (
            "[ncf] Warning: this run is not recorded in MLflow: ftp://x is not a tracking address.",
            "ftp://x is not a tracking address.",
        ),
        ("[ncf] epoch=1 loss=0.4", None),
    ],
)
def test_trouble_is_read_from_the_log(line: str, why: str | None) -> None:
    found = recorded._TROUBLE.search(line)
    assert (found and (found[1] or found[2])) == why


def test_facts_are_those_that_are_known() -> None:
    described = {
        "ResourceConfig": {"InstanceType": "ml.c7i.xlarge", "InstanceCount": 2},
        "BillableTimeInSeconds": 90,
    }
    assert json.loads(json.dumps(facts(TrainingJob(described)))) == {
        "ncf.instance_type": "ml.c7i.xlarge",
        "ncf.instance_count": "2",
        "ncf.billable_seconds": "90",
        "ncf.cost_usd": "0.0107",
    }
    assert facts(TrainingJob({"ResourceConfig": {"InstanceType": "ml.none"}})) == {
        "ncf.instance_type": "ml.none"
    }


def test_an_address_that_cannot_work_is_told_before_anything_starts() -> None:
    for address in ("ftp://x", "arn:aws:sagemaker:eu-west-1:1:endpoint/x"):
        with pytest.raises(ConfigError):
            Tracking(address, "ncf")
