"""`ncf experiments` and `ncf train --track`: what is printed, and how it fits a terminal."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import support
from ncf.cli import app, console
from ncf.errors import ConfigError


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, two recorded runs of one recipe, and one of other data; tests only read it."""
    folder = tmp_path_factory.mktemp("project")
    support.checkerboard().save(folder / "data")
    support.checkerboard(30).save(folder / "other")
    (folder / "small.json").write_text(support.experiment(epochs=2).model_dump_json())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for run, data, epochs in (("a", "data", 2), ("b", "data", 1), ("c", "other", 2)):
            ncf("train", "small.json", "--data", data, "--output", f"runs/{run}", "--set", f"train.epochs={epochs}",
                "--set", f"name={run}", "--track", "sqlite:///mlflow.db", "--quiet")  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def _there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    for name in ("NCF_TRACK", "MLFLOW_TRACKING_URI", "NCF_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def ncf(*arguments: str) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def parsed(*arguments: str) -> Any:
    return json.loads(ncf(*arguments, "--json"))


def refused(*arguments: str) -> str:
    result = invoke(*arguments)
    assert isinstance(result.exception, ConfigError), result.output
    return str(result.exception)


def test_the_newest_run_comes_first_or_the_best() -> None:
    newest = parsed("experiments", "list")["runs"]
    assert [run["name"] for run in newest] == ["c", "b", "a"]
    best = parsed("experiments", "list", "--sort", "ndcg@10")["runs"]
    figures = [run["metrics"]["test_ndcg@10"] for run in best]
    assert figures == sorted(figures, reverse=True)
    least = parsed("experiments", "list", "--sort", "loss")["runs"]
    losses = [run["metrics"]["loss"] for run in least]
    assert losses == sorted(losses)
    assert "No run has a figure 'x'" in refused("experiments", "list", "--sort", "x")


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_list_fits_the_terminal_with_ids_and_figures_whole(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.OUT, "width", width)
    text = ncf("experiments", "list")
    runs = parsed("experiments", "list")["runs"]
    assert max(map(len, text.splitlines())) <= width
    for run in runs:
        assert run["run_id"][:8] in text
        assert f"{run['metrics']['test_ndcg@10']:.4f}" in text
    assert ("started" in text) == (width == 140)


def test_a_comparison_has_what_differs_and_says_whether_the_data_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(console.OUT, "width", 100)
    same = parsed("experiments", "compare", "a", "b")
    assert same["same_data"]
    assert same["parameters"] == {"train.epochs": ["2", "1"]}
    assert len(same["metrics"]["test_ndcg@10"]) == 2
    text = ncf("experiments", "compare", "a", "b")
    assert "train.epochs" in text
    assert "cannot be compared" not in text
    assert "cannot be compared" in ncf("experiments", "compare", "a", "c")
    assert "two runs or more" in refused("experiments", "compare", "a")


def test_a_run_is_shown_by_its_name_or_the_first_characters_of_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(console.OUT, "width", 100)
    run = parsed("experiments", "show", "a")
    assert parsed("experiments", "show", run["run_id"][:10]) == run
    text = ncf("experiments", "show", "a")
    assert f"({run['metrics']['test_hr@10_low']:.4f} – " in text
    assert "test_hr@10_low" not in text
    assert "No run is called 'nope'" in refused("experiments", "show", "nope")


def test_a_run_without_tracking_is_sent_later(tmp_path: Path) -> None:
    sent = parsed("experiments", "import", "runs/a", "--track", str(tmp_path / "t"), "--experiment", "later")
    [run] = parsed("experiments", "list", "--track", str(tmp_path / "t"), "--experiment", "later")["runs"]
    assert run["run_id"] == sent["run_id"]


def test_an_address_that_cannot_work_is_refused_before_training(tmp_path: Path) -> None:
    sentence = refused(
        "train", "small.json", "--data", "data", "--output", str(tmp_path / "r"), "--track", "ftp://x"
    )
    assert "cannot be tracked to" in sentence
    assert not (tmp_path / "r").exists()
