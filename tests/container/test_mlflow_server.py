"""A real MLflow server over HTTP: runs go there, and MLflow's own client reads them.

It needs no Docker; it is here because MLflow takes half a minute to start one.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

import support
from ncf.experiment import RunOptions, train
from ncf.tracking.mlflow_run import open_tracker
from processes import free_port, wait_until

pytestmark = pytest.mark.container


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address; it has one worker, a database and a folder of artifacts."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [
        sys.executable, "-m", "mlflow", "server",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/server.db",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    address, log = f"http://127.0.0.1:{port}", folder / "log"

    def up() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.read() == b"OK")
        return False

    with log.open("w") as stream, subprocess.Popen(
        command, stdout=stream, stderr=stream, env=quiet, cwd=folder, start_new_session=True
    ) as process:  # fmt: skip
        try:
            wait_until(lambda: process.poll() is not None or up(), 180)
            assert process.poll() is None, log.read_text()
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def ncf(*arguments: str) -> Any:
    """What a command answers with `--json`, and nothing else on standard output."""
    command = [sys.executable, "-m", "ncf", *arguments, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def runs_of(server: str, experiment: str) -> list[Any]:
    """The runs of an experiment, the newest first."""
    client = MlflowClient(server)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time DESC"]))


def test_runs_are_recorded_over_http(server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    messages: list[str] = []
    for epochs in (1, 2):
        with open_tracker(server, "http", messages.append) as tracker:
            settings = support.experiment(epochs=epochs)
            options = RunOptions(tracker=tracker)
            finished = train(support.checkerboard(), settings, tmp_path / str(epochs), options=options)
    assert messages == []
    assert capfd.readouterr().out == ""
    runs = runs_of(server, "http")
    assert [(run.info.status, run.data.params["train.epochs"]) for run in runs] == [
        ("FINISHED", "2"),
        ("FINISHED", "1"),
    ]
    assert runs[0].data.metrics["test_ndcg_at_10"] == finished.metrics["test"]["metrics"]["ndcg@10"]
    assert {key for key in runs[0].data.params if runs[0].data.params[key] != runs[1].data.params[key]} == {
        "train.epochs"
    }


def test_a_run_that_is_imported_twice_is_there_once_with_its_files(server: str, tmp_path: Path) -> None:
    run = train(support.checkerboard(), support.experiment(epochs=1), tmp_path / "run")
    (run.folder / "job.json").write_text('{"job": "ncf-once"}')
    imported = []
    for _ in range(2):
        where = ("--track", server, "--experiment", "jobs")
        imported.append(ncf("experiments", "import", str(run.folder), *where)["run_id"])
        (run.folder / "mlflow.json").unlink(missing_ok=True)
    [recorded] = runs_of(server, "jobs")
    assert imported == [recorded.info.run_id] * 2
    files = {file.path for file in MlflowClient(server).list_artifacts(recorded.info.run_id)}
    assert files == {"artifact", "run.json", "events.jsonl"}
