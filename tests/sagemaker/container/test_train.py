"""The container's training program over a folder: success, resuming, failure in one sentence, stops."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import support
from ncf.errors import DataError, Interrupted
from ncf.sagemaker.container import train
from ncf.sagemaker.container.environment import Job
from ncf.serving.artifact import open_artifact
from ncf.serving.recommender import Recommender

SMALL = {
    "name": "small", "model.kind": "gmf", "model.factors": "4", "train.epochs": "2", "train.threads": "1",
    "train.batch_size": "64", "evaluation.cutoffs": "[10]", "evaluation.bootstrap": "0",
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    config = tmp_path / "input" / "config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(SMALL), "utf-8")
    support.checkerboard().save(tmp_path / "input" / "data" / "train")
    return tmp_path


def failing_with(error: BaseException) -> Any:
    def fail(job: Job, stop: object) -> None:
        raise error

    return fail


def failure_of(root: Path) -> str:
    return (root / "output" / "failure").read_text("utf-8")


def test_a_job_leaves_the_artifact_and_what_happened(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(root) == 0
    assert len(open_artifact(root / "model").metrics["history"]) == 2
    assert {path.name for path in (root / "output" / "data").iterdir()} == {"run.json", "events.jsonl"}
    assert "[ncf] epoch=2 loss=" in capsys.readouterr().out
    assert not (root / "output" / "failure").exists()


@pytest.mark.parametrize("tuned", [False, True])
def test_a_trial_of_a_tuner_leaves_what_serving_prepares_to_the_endpoint(root: Path, tuned: bool) -> None:
    added = {"_tuning_objective_metric": "validation_ndcg@10"} if tuned else {}
    file = root / "input" / "config" / "hyperparameters.json"
    file.write_text(json.dumps(SMALL | added), "utf-8")
    assert train.main(root) == 0
    assert (root / "model" / "retrieval.json").is_file() is not tuned
    assert len(Recommender.open(root / "model").recommend(100, k=2)) == 2


def test_a_job_that_starts_again_does_not_train_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(root) == 0
    before = (root / "model" / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert train.main(root) == 0
    assert "epoch=1 " not in capsys.readouterr().out
    assert (root / "model" / "model.safetensors").read_bytes() == before


def test_a_mistake_of_the_caller_is_one_sentence(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "input" / "config" / "hyperparameters.json").write_text('{"train.epochs": "many"}', "utf-8")
    assert train.main(root) == 1
    assert "train.epochs" in failure_of(root)
    assert capsys.readouterr().err == f"[ncf] {failure_of(root)}\n"


def test_our_mistake_is_told_with_its_traceback_in_the_log(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "train", failing_with(ZeroDivisionError("by zero")))
    assert train.main(root) == 1
    assert (
        failure_of(root)
        == "ncf has a defect (ZeroDivisionError: by zero); its traceback is in the job's log."
    )
    assert "Traceback" in capsys.readouterr().err


def test_a_reason_is_cut_where_sagemaker_cuts_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "train", failing_with(ZeroDivisionError("x" * 5000)))
    assert train.main(root) == 1
    assert len(failure_of(root)) == train.LONGEST_REASON


def test_a_reason_that_cannot_be_written_is_in_the_log(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "output").write_text("a file where a folder belongs", "utf-8")
    monkeypatch.setattr(train, "train", failing_with(DataError("Something is missing.")))
    assert train.main(root) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "[ncf] Something is missing."
    assert "could not be written" in second


def test_a_stop_is_no_failure(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "train", failing_with(Interrupted("Stopped; a checkpoint is saved.")))
    assert train.main(root) == 0
    assert capsys.readouterr().out == "[ncf] Stopped; a checkpoint is saved.\n"
    assert not (root / "output" / "failure").exists()


def test_a_stopped_job_goes_on_to_the_same_weights(root: Path, tmp_path: Path) -> None:
    job = train.read_job(root)
    with pytest.raises(Interrupted):
        train.train(job, stop=lambda: True)
    assert not (root / "model").exists()
    train.train(job)
    stopped = (root / "model" / "model.safetensors").read_bytes()
    for path in sorted((root / "checkpoints").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    train.train(job)
    assert (root / "model" / "model.safetensors").read_bytes() == stopped


def test_signals_are_caught_before_torch_is_imported() -> None:
    code = "import sys, ncf.sagemaker.container.train; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
