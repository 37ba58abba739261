"""Searches on made-up data: what is evaluated, what is kept, and how an interrupted search is resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import support
from ncf.config import Experiment
from ncf.data import Dataset
from ncf.errors import ConfigError, Interrupted, NcfError, StorageError
from ncf.tuning import Space
from ncf.tuning.study import StudyPlan, StudyResult, search
from ncf.tuning.trials import ProgressListener, Trial
from processes import wait_until

SPACE = {
    "train.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
    "model.tower": {"values": [[16, 8], [8]]},
}


class Heard(ProgressListener):
    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.epochs: list[tuple[int, int]] = []
        self.sentences: list[str] = []

    def epoch(self, number: int, epoch: int, value: float) -> None:
        self.epochs.append((number, epoch))

    def ended(self, trial: Trial) -> None:
        self.trials.append(trial)

    def log(self, sentence: str) -> None:
        self.sentences.append(sentence)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return support.checkerboard()


def run(
    data: Dataset,
    folder: Path,
    space: Any = None,
    heard: Heard | None = None,
    stop: Any = lambda: False,
    recipe: Experiment | None = None,
    **plan: Any,
) -> StudyResult:
    plan = {"trials": 3, "pruner": "none"} | plan
    return search(
        data,
        recipe or support.experiment(epochs=2),
        Space.parse(space or SPACE),
        StudyPlan(folder, **plan),
        data_path=folder,
        watcher=heard,
        stop=stop,
    )


def test_a_folder_of_the_users_is_left_alone(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StorageError, match="holds files that are not a search"):
        run(data, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_studies_do_not_write_to_one_trial(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    with (
        FileLock(tmp_path / "trials" / "0000.lock"),
        pytest.raises(StorageError, match="Another search is writing to"),
    ):
        run(data, tmp_path)


def drawn(result: StudyResult) -> list[tuple[dict[str, Any], float | None]]:
    return [(trial.parameters, trial.value) for trial in result.trials]


def test_the_first_trial_is_the_recipe_and_the_best_has_the_highest_validation_figure(
    data: Dataset, tmp_path: Path
) -> None:
    result = run(data, tmp_path)
    assert [trial.state for trial in result.trials] == ["complete"] * 3
    assert result.trials[0].parameters == {"train.learning_rate": 0.01, "model.tower": [16, 8]}
    values = [trial.value or 0.0 for trial in result.trials]
    assert result.best is not None
    assert result.best.value == max(values)
    for trial in result.trials:
        metrics = json.loads((tmp_path / "trials" / trial.folder / "artifact" / "metrics.json").read_text())
        assert trial.value == metrics["validation"]["metrics"]["ndcg@10"]
        assert not (tmp_path / "trials" / trial.folder / "checkpoints").exists()


def test_the_same_seed_draws_the_same_trials_and_another_one_others(data: Dataset, tmp_path: Path) -> None:
    first, again, other = (
        run(data, tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert drawn(first) == drawn(again)
    assert drawn(first)[1:] != drawn(other)[1:]


def test_a_resumed_study_draws_what_it_would_have_drawn(data: Dataset, tmp_path: Path) -> None:
    whole = run(data, tmp_path / "whole", trials=4)
    run(data, tmp_path / "parts", trials=2)
    heard = Heard()
    assert drawn(run(data, tmp_path / "parts", trials=4, heard=heard)) == drawn(whole)
    assert [trial.number for trial in heard.trials] == [2, 3]


def test_a_stopped_trial_resumes_from_its_checkpoint(data: Dataset, tmp_path: Path) -> None:
    whole = run(data, tmp_path / "whole", trials=2)
    heard = Heard()
    with pytest.raises(Interrupted):
        run(data, tmp_path / "parts", trials=2, heard=heard, stop=lambda: (1, 1) in heard.epochs)
    again = Heard()
    result = run(data, tmp_path / "parts", trials=2, heard=again)
    assert [trial.state for trial in result.trials] == ["complete", "interrupted", "complete"]
    assert drawn(result)[2] == drawn(whole)[1]
    assert "resumes from its checkpoint" in again.sentences[0]
    notes = (tmp_path / "parts" / "trials" / "0001" / "events.jsonl").read_text()
    assert "Resumed after 1 epochs" in notes
    assert again.epochs == [(2, 1), (2, 2)]


def test_a_killed_search_resumes_the_same_trial(data: Dataset, tmp_path: Path) -> None:
    data.save(tmp_path / "data")
    recipe = support.experiment(epochs=150).model_dump_json()
    (tmp_path / "recipe.json").write_text(recipe)
    (tmp_path / "space.toml").write_text('"train.learning_rate" = { low = 1e-3, high = 1e-1, log = true }\n')
    command = [
        sys.executable,
        "-m",
        "ncf",
        "tune",
        "recipe.json",
        "--space",
        "space.toml",
        "--trials",
        "1",
        "--data",
        "data",
        "--output",
        "search",
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        checkpoints = tmp_path / "search" / "trials" / "0000" / "checkpoints"
        wait_until(lambda: process.poll() is not None or any(checkpoints.glob("epoch-*")))
        assert process.poll() is None, process.communicate()
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    heard = Heard()
    space = {"train.learning_rate": SPACE["train.learning_rate"]}
    experiment = Experiment.parse(json.loads(recipe))
    result = run(data, tmp_path / "search", space, heard, recipe=experiment, trials=1, name=experiment.name)
    assert [trial.state for trial in result.trials] == ["interrupted", "complete"]
    assert {trial.folder for trial in result.trials} == {"0000"}
    assert "Resumed after" in (tmp_path / "search" / "trials" / "0000" / "events.jsonl").read_text()
    assert result.trials[0].parameters == result.trials[1].parameters == {"train.learning_rate": 0.01}


def test_a_trial_of_a_living_process_is_left_alone(data: Dataset, tmp_path: Path) -> None:
    heard = Heard()

    class Nested(Heard):
        def epoch(self, number: int, epoch: int, value: float) -> None:
            if not heard.trials:
                run(data, tmp_path, heard=heard, trials=2)

    result = run(data, tmp_path, heard=Nested(), trials=2)
    assert [trial.number for trial in heard.trials] == [1]
    assert [trial.state for trial in result.trials] == ["complete", "complete"]
    assert not heard.sentences


def test_two_processes_share_a_study(data: Dataset, tmp_path: Path) -> None:
    data.save(tmp_path / "data")
    (tmp_path / "recipe.json").write_text(support.experiment(epochs=1).model_dump_json())
    (tmp_path / "space.toml").write_text('"train.learning_rate" = { low = 1e-3, high = 1e-1, log = true }\n')
    command = [
        sys.executable,
        "-m",
        "ncf",
        "tune",
        "recipe.json",
        "--space",
        "space.toml",
        "--trials",
        "6",
        "--data",
        "data",
        "--output",
        "search",
        "--json",
    ]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    trials = max(
        (json.loads(out)["trials"] for out, _ in told),
        key=lambda rows: sum(r["state"] == "complete" for r in rows),
    )
    assert [row["state"] for row in trials] == ["complete"] * 6
    assert len({row["parameters"]["train.learning_rate"] for row in trials}) == 6


def test_a_pruned_trial_has_no_artifact_and_no_checkpoints(data: Dataset, tmp_path: Path) -> None:
    space = {"train.learning_rate": {"values": [0.05, 1e-7]}}
    heard = Heard()
    recipe = support.experiment(epochs=4, learning_rate=0.05)
    result = run(data, tmp_path, space, heard, recipe=recipe, trials=14, pruner="median")
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        folder = tmp_path / "trials" / trial.folder
        assert sorted(path.name for path in folder.iterdir()) == [".lock", "events.jsonl", "run.json"]
        assert trial.epochs < 4
        assert trial.parameters == {"train.learning_rate": 1e-7}


def test_a_trial_that_fails_is_reported_and_the_search_continues(data: Dataset, tmp_path: Path) -> None:
    space = {"train.epochs": {"values": [2, 0]}}
    result = run(data, tmp_path, space, trials=6)
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert failed
    assert all("train.epochs = 0 keeps random tables" in trial.reason for trial in failed)
    assert any(trial.state == "complete" for trial in result.trials)


def test_a_search_in_which_all_fail_is_one_sentence(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NcfError, match="Every one of 2 trials failed; the first: .*train.epochs = 0"):
        run(data, tmp_path, {"train.epochs": {"values": [0]}}, trials=2)


def test_a_recipe_that_trains_on_validation_is_searched_without_and_says_so(
    data: Dataset, tmp_path: Path
) -> None:
    heard = Heard()
    run(data, tmp_path, heard=heard, recipe=support.experiment(epochs=1, validation="include"), trials=1)
    assert "They are held out for the search" in heard.sentences[0]
    settings = json.loads((tmp_path / "trials" / "0000" / "run.json").read_text())["experiment"]
    assert settings["train"]["validation"] == "hold-out"


def test_halves_of_pretraining_do_not_count_as_epochs_of_the_trial(data: Dataset, tmp_path: Path) -> None:
    halves = {kind: support.experiment(kind, epochs=3).model_dump(mode="json") for kind in ("gmf", "mlp")}
    whole = support.experiment(epochs=1).model_dump(mode="json") | {"pretraining": halves}
    heard = Heard()
    space = {"pretraining.alpha": {"low": 0.2, "high": 0.8}}
    result = run(data, tmp_path, space, heard, recipe=Experiment.parse(whole), trials=1)
    assert heard.epochs == [(0, 1)]
    assert result.trials[0].parameters == {"pretraining.alpha": 0.5}
    assert not list((tmp_path / "trials").rglob("checkpoints"))


@pytest.mark.parametrize("part", ["recipe", "space", "data"])
def test_a_study_of_something_else_is_refused(data: Dataset, tmp_path: Path, part: str) -> None:
    run(data, tmp_path, trials=1)
    other = {
        "recipe": lambda: run(data, tmp_path, recipe=support.experiment(epochs=3)),
        "space": lambda: run(data, tmp_path, {"train.epochs": {"low": 1, "high": 2}}),
        "data": lambda: run(support.checkerboard(30), tmp_path),
    }
    with pytest.raises(ConfigError, match=f"started with another {part}"):
        other[part]()


def test_no_trial_starts_after_the_time_limit(data: Dataset, tmp_path: Path) -> None:
    began = time.monotonic()
    result = run(data, tmp_path, trials=1000, timeout=0.5)
    assert 1 <= len(result.trials) < 1000
    assert time.monotonic() - began < 100


def test_data_without_validation_and_bad_plans_are_refused(tmp_path: Path) -> None:
    bare = support.dataset_of([(0, 0), (0, 1), (1, 1)], 2, 3, test=[(0, [2, 1])])
    with pytest.raises(ConfigError, match="no validation positives"):
        run(bare, tmp_path)
    with pytest.raises(ConfigError, match="--trials"):
        StudyPlan(tmp_path, trials=0)
    with pytest.raises(ConfigError, match="--pruner takes one of"):
        StudyPlan(tmp_path, pruner="x")
    with pytest.raises(ConfigError, match="--storage takes the address"):
        run(support.checkerboard(), tmp_path, storage="study.db")
