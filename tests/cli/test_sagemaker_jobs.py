"""`ncf sagemaker train` and its companions as processes, against the double."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

import programs
from aws import Aws
from ncf.serving.artifact import write_artifact
from ncf.tracking.mlflow import MLflowStore, resolve
from processes import free_port
from support import checkerboard, experiment, model_of, planted

if TYPE_CHECKING:
    from hosted.inline import Spec

RECIPE = """
name = "small"
[model]
kind = "gmf"
factors = 8
[train]
epochs = 2
batch_size = 256
threads = 1
[evaluation]
bootstrap = 0
"""
IMAGE = "999999999999.dkr.ecr.us-east-1.amazonaws.com/ncf:1"
TRAIN = ("sagemaker", "train", "small.toml", "--data", "data/mine", "--image", IMAGE)


@pytest.fixture
def folder(tmp_path: Path, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe and prepared data, and the role in the environment."""
    (tmp_path / "small.toml").write_text(RECIPE)
    planted(users=60, items=50).save(tmp_path / "data" / "mine")
    monkeypatch.setenv("NCF_ROLE", aws.role)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "ncf", *map(str, arguments)]


def ncf(folder: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=folder, timeout=120, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_train_fetch_and_evaluate(aws: Aws, folder: Path) -> None:
    aws.run(programs.train)
    done = ncf(folder, *TRAIN, "--name", "one", "--output", "runs/one")
    assert re.search(r"Test, weights of .*HR@10 0\.\d{4}, NDCG@10 0\.\d{4}", done.stdout)
    assert done.stderr.index("Cost: 1 x ml.c7i.xlarge: $0.214 an hour") < done.stderr.index(
        "Job ncf-one was started"
    )
    assert len(re.findall(r"epoch +\d  loss", done.stderr)) == 2
    judged = json.loads(ncf(folder, "evaluate", "runs/one", "--json").stdout)
    listed = json.loads(ncf(folder, "sagemaker", "jobs", "--json").stdout)["jobs"][0]
    assert listed["job"] == "ncf-one"
    assert listed["metrics"]["test_ndcg@10"] == pytest.approx(judged["metrics"]["ndcg@10"], rel=1e-4)
    assert listed["cost"] > 0
    assert "ncf-one" in ncf(folder, "sagemaker", "jobs").stdout
    assert "epoch=1 " in ncf(folder, "sagemaker", "logs", "ncf-one").stdout
    again = json.loads(ncf(folder, "sagemaker", "fetch", "ncf-one", "--json").stdout)
    assert again["run"] == "runs/ncf-one"


def test_a_job_is_recorded_in_a_database_of_this_machine_once(aws: Aws, folder: Path) -> None:
    aws.run(programs.train)
    track = ("--track", "sqlite:///mlflow.db", "--experiment", "jobs")
    told = ncf(folder, *TRAIN, "--name", "one", "--output", "runs/one", "--json", *track)
    assert json.loads(told.stdout)["job"] == "ncf-one"
    assert re.search(r"ncf-one is run \w{8} of jobs at sqlite:///mlflow.db\.", told.stderr)
    assert aws.calls("CreateTrainingJob")[0].parameters.get("Environment", {}) == {}
    ncf(folder, "sagemaker", "fetch", "ncf-one", *track)
    [run] = MLflowStore(resolve(f"sqlite:///{folder}/mlflow.db"), "jobs").runs()
    assert run.tags["ncf.sagemaker_job"] == "ncf-one"
    assert float(run.tags["ncf.cost_usd"]) >= 0


def test_a_server_that_nobody_reaches_is_a_warning_after_the_fetch(
    aws: Aws, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    address = f"http://127.0.0.1:{free_port()}"

    def unreached(spec: "Spec") -> int:
        spec.log(f"[ncf] Warning: MLflow at {address} failed (x); training goes on")
        return programs.train(spec)

    aws.run(unreached)
    done = ncf(folder, *TRAIN, "--name", "one", "--output", "runs/one", "--track", address)
    assert aws.calls("CreateTrainingJob")[0].parameters["Environment"]["MLFLOW_EXPERIMENT_NAME"] == "ncf"
    assert "Warning: ncf-one is not recorded: MLflow at" in done.stderr
    later = f"ncf sagemaker fetch ncf-one --output runs/one --track {address} --experiment ncf"
    assert f"'{later}' does it later." in done.stderr
    assert "Test, weights of" in done.stdout


def test_who_does_not_wait_is_told_how_to_record_later(aws: Aws, folder: Path) -> None:
    told = ncf(folder, *TRAIN, "--name", "one", "--no-wait", "--track", "sqlite:///m.db").stdout
    assert "'ncf sagemaker fetch ncf-one --track sqlite:///m.db --experiment ncf'" in told
    assert not (folder / "m.db").exists()


def test_an_address_that_cannot_work_starts_nothing(aws: Aws, folder: Path) -> None:
    assert "is not a tracking address" in ncf(folder, *TRAIN, "--track", "ftp://x", code=2).stderr
    assert aws.calls() == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--max-cost", "0.1"), "more than --max-cost 0.1"),
        (("--max-cost", "9", "--instance-type", "ml.trn1.2xlarge"), "is unknown, so --max-cost"),
    ],
)
def test_a_limit_of_cost_starts_and_sends_nothing(
    aws: Aws, folder: Path, options: tuple[str, ...], sentence: str
) -> None:
    done = ncf(folder, *TRAIN, *options, code=2)
    assert "Cost: " in done.stderr
    assert sentence in done.stderr
    assert aws.calls() == []


def test_no_wait_and_stop(aws: Aws, folder: Path) -> None:
    aws.run(lambda spec: int(not spec.stop.wait(60)))
    job = json.loads(ncf(folder, *TRAIN, "--no-wait", "--json").stdout)["job"]
    assert "Stop" in ncf(folder, "sagemaker", "stop", job).stdout
    assert aws.wait("TrainingJob", job)["TrainingJobStatus"] == "Stopped"
    done = ncf(folder, "sagemaker", "fetch", job, code=2)
    assert f"--resume {job}" in done.stderr
    assert not (folder / "runs").exists()


def failing(spec: "Spec") -> int:
    spec.log("[ncf] reading", "[ncf] The data are not those.")
    (spec.root / "output" / "failure").write_text("The data are not those.")
    return 1


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_a_failed_job_is_its_sentence_and_its_last_lines(
    aws: Aws, folder: Path, quiet: tuple[str, ...]
) -> None:
    aws.run(failing)
    done = ncf(folder, *TRAIN, "--name", "bad", *quiet, code=2)
    assert done.stderr.splitlines()[-1] == "ncf: The job ncf-bad failed: The data are not those."
    assert "reading" in done.stderr
    assert done.stdout == ""


def test_ctrl_c_leaves_the_job_and_says_how_to_go_on(aws: Aws, folder: Path) -> None:
    aws.run(lambda spec: (spec.log("[ncf] waiting"), int(not spec.stop.wait(60)))[1])
    with subprocess.Popen(
        command(*TRAIN, "--name", "long"),
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "waiting" in line:
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    for word in ("The job is still running", "logs ncf-long --follow", "stop ncf-long", "fetch ncf-long"):
        assert word in said
    assert aws.records("TrainingJob")[0].status == "InProgress"


def test_logs_follow_to_the_end(aws: Aws, folder: Path) -> None:
    aws.run(lambda spec: (spec.log("first"), time.sleep(3), spec.log("last"), 0)[-1])
    ncf(folder, *TRAIN, "--name", "one", "--no-wait")
    assert ncf(folder, "sagemaker", "logs", "ncf-one", "--follow").stdout.splitlines() == ["first", "last"]


def test_a_job_that_is_not_there(folder: Path) -> None:
    for words in (("fetch", "nothing"), ("logs", "nothing"), ("stop", "nothing")):
        assert "There is no training job 'nothing'" in ncf(folder, "sagemaker", *words, code=2).stderr


def test_transform_writes_what_batch_writes(aws: Aws, folder: Path) -> None:
    model = model_of("neumf", 40, 30, tower=[16, 8])
    write_artifact(folder / "artifact", model, experiment("neumf"), checkerboard(), {"test": {}}, "")
    aws.serve(programs.serve)
    done = ncf(
        folder, "sagemaker", "transform", "artifact", "--image", IMAGE, "-k", 4, "--output", "there.parquet"
    )
    assert "160 rows for 40 users" in done.stdout
    assert "at most $0.21 in 1 h" in done.stderr
    ncf(folder, "batch", "artifact", "-k", 4, "--output", "here.parquet")
    there, here = pl.read_parquet(folder / "there.parquet"), pl.read_parquet(folder / "here.parquet")
    assert there.drop("score").equals(here.drop("score"))
    assert there["score"].to_numpy() == pytest.approx(here["score"].to_numpy(), abs=1e-6)
    (folder / "users.csv").write_text("user_id\n101\nnew\n")
    done = ncf(
        folder,
        "sagemaker",
        "transform",
        "artifact",
        "--image",
        IMAGE,
        "--users",
        "users.csv",
        "--output",
        "some.csv",
    )
    assert "1 unknown users got popular items" in done.stdout
    assert aws.records("Model") == []


def test_tune_tells_its_trials_and_fetches_the_best(aws: Aws, folder: Path) -> None:
    aws.run(programs.train)
    (folder / "space.toml").write_text('"train.negatives" = { low = 2, high = 8 }\n')
    tune = (
        "sagemaker",
        "tune",
        "small.toml",
        "--data",
        "data/mine",
        "--image",
        IMAGE,
        "--space",
        "space.toml",
    )
    refused = ncf(folder, *tune, "--trials", 20, "--max-cost", 4, code=2)
    assert "20 trials of 1 x ml.c7i.xlarge may cost $4.28" in refused.stderr
    assert aws.calls() == []
    done = ncf(folder, *tune, "--trials", 2, "--strategy", "Random", "--output", "runs/best")
    assert re.search(r"Best: ncf-\S+, NDCG@10 0\.\d{4} on validation \(in runs/best\)", done.stdout)
    assert "train.negatives" in done.stdout
    assert "ndcg@10" in ncf(folder, "evaluate", "runs/best").stdout


def test_local_mode_without_docker_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    done = ncf(folder, "sagemaker", "train", "small.toml", "--data", "data/mine", "--local", code=2)
    assert "Docker is not installed" in done.stderr
    assert "Cost" not in done.stderr


def test_push_image_without_docker_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert "Docker" in ncf(folder, "sagemaker", "push-image", code=2).stderr


def test_a_terminal_is_asked_first(aws: Aws, folder: Path) -> None:
    main, other = os.openpty()
    with subprocess.Popen(
        command(*TRAIN), cwd=folder, stdin=other, stderr=subprocess.PIPE, text=True
    ) as process:
        os.write(main, b"n\n")
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 2
    assert "Start?" in said
    assert "Nothing was started." in said
    assert aws.calls() == []
    os.close(main)
    os.close(other)


def test_instances_train_together_as_the_options_say(aws: Aws, folder: Path) -> None:
    aws.run(lambda _: 1)
    together = ("--instances", 2, "--distributed", "torchrun", "--processes-per-host", 3, "--timeout", 90)
    ncf(folder, *TRAIN, *together, "--no-wait")
    request = json.loads(aws.calls("CreateTrainingJob")[0].body)
    assert request["ResourceConfig"]["InstanceCount"] == 2
    assert request["Environment"] == {"NCF_PROCESSES": "3", "NCF_TIMEOUT": "90"}
    refused = ncf(folder, *TRAIN, "--distributed", "smddp", "--script-mode", code=2)
    assert "does not run on ml.c7i.xlarge" in refused.stderr
    assert len(aws.calls("CreateTrainingJob")) == 1
