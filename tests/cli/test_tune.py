"""`ncf tune`: what is printed and written."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import support
from ncf.cli import app
from ncf.config import Experiment
from ncf.errors import ConfigError
from ncf.tracking import console


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    support.checkerboard().save(folder / "data")
    (folder / "small.json").write_text(support.experiment(epochs=1).model_dump_json())
    (folder / "space.toml").write_text(
        '"train.learning_rate" = { low = 1e-4, high = 1e-1, log = true }\n'
        '"model.tower" = { values = [[8], [16, 8]] }\n'
    )
    return folder


def test_a_search_prints_its_trials_and_writes_recipe_and_page(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(console.OUT, "width", 80)
    command = [
        "tune",
        "small.json",
        "--space",
        "space.toml",
        "--data",
        "data",
        "--trials",
        "4",
        "--output",
        "search",
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "small-neumf: 4 complete" in done.stdout
    assert "search/best.toml" in done.stdout
    assert done.stderr.count("trial ") >= 4
    report = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert [trial["state"] for trial in report["trials"]] == ["complete"] * 4
    assert report["best"]["value"] == max(trial["value"] for trial in report["trials"])
    best = Experiment.load(project / "search" / "best.toml")
    assert best.train.learning_rate == report["best"]["parameters"]["train.learning_rate"]
    assert best.data.path == str(project / "data")
    page = (project / "search" / "study.html").read_text()
    assert "Plotly.newPlot" in page
    assert "plotly.js v" in page
    assert '<script src="http' not in page
    for title in (
        "How the search went",
        "Which settings mattered",
        "Settings of the complete trials",
        "The best trials",
    ):
        assert title in page


def test_a_mistake_is_told_before_anything_is_made(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    command = ["tune", "small.json", "--space", "space.toml", "--data", "data", "--output", "none"]
    for wrong in (
        ["--trials", "0"],
        ["--space", "absent.toml"],
        ["--set", "train.epoch=1"],
    ):
        done = CliRunner().invoke(app, [*command, *wrong])
        assert isinstance(done.exception, ConfigError), done.output
    done = CliRunner().invoke(app, [*command, "--pruner", "x"])
    assert done.exit_code == 2
    assert "'x' is not one of 'median', 'hyperband', 'none'" in done.stderr
    assert not (project / "none").exists()


def test_train_searches_by_the_clock_and_does_not_again_when_resumed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    command = ["train", "small.json", "--data", "data", "--output", "timed", "--minutes", "0.03"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output + repr(done.exception)
    told = r"trials; the best on validation is trial|The time was over before a trial had ended"
    assert re.search(told, done.stderr)
    assert (
        "settings search"
        in json.loads((project / "timed" / "artifact" / "metrics.json").read_text())["phases"]
    )
    chosen = json.loads((project / "timed" / "run.json").read_text())["experiment"]
    refused = CliRunner().invoke(app, command)
    assert "holds a run already" in str(refused.exception)
    assert "trial " not in refused.stderr
    again = CliRunner().invoke(app, [*command, "--resume"])
    assert again.exit_code == 0, again.output + repr(again.exception)
    assert "trial " not in again.stderr
    assert json.loads((project / "timed" / "run.json").read_text())["experiment"] == chosen


@pytest.mark.parametrize("option", [["--nproc", "2"], ["--set", "pretraining.alpha=0.5"]])
def test_a_search_by_the_clock_is_of_one_process_and_one_model(
    option: list[str], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    recipe = "small.json"
    if option[0] == "--set":
        recipe = str(Path(__file__).parents[2] / "recipes" / "ml-1m-neumf-pretrained.toml")
    done = CliRunner().invoke(app, ["train", recipe, "--data", "data", "--minutes", "1", *option])
    assert isinstance(done.exception, ConfigError)
    assert "--minutes searches in one process" in str(done.exception)
