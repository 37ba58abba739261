"""`ncf recipes`, and recipes by name."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import ncf
import support
from ncf.cli import app
from ncf.config import Experiment
from ncf.errors import ConfigError, StorageError
from ncf.recipe_files import packaged_recipes


def ran(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_recipe_is_listed_with_what_it_is() -> None:
    listed = ran("recipes", "list")
    for name in packaged_recipes():
        assert name in listed
        assert Experiment.load(name).name == name
    assert "A recipe for your own table." in listed


def test_a_copy_has_its_halves_and_replaces_nothing(tmp_path: Path) -> None:
    ran("recipes", "copy", "ml-1m-neumf-pretrained", "--output", str(tmp_path / "own" / "mine.toml"))
    copied = Experiment.load(tmp_path / "own" / "mine.toml")
    assert copied == Experiment.load("ml-1m-neumf-pretrained")
    with pytest.raises(StorageError, match="exists already"):
        ran("recipes", "copy", "ml-1m-gmf", "--output", str(tmp_path / "own" / "mine.toml"))
    assert ran("recipes", "show", "default") == packaged_recipes()["default"].read_text("utf-8")
    with pytest.raises(ConfigError, match="There is no recipe zzz: 'ncf recipes list'"):
        ran("recipes", "show", "zzz")


def test_a_file_of_ones_own_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("default").write_text('name = "own"\n')
    assert Experiment.load("default").name == "own"
    with pytest.raises(ConfigError, match="There is no recipe absent.toml"):
        Experiment.load("absent.toml")
    with pytest.raises(ConfigError, match="There is no recipe recipes/neumf"):
        Experiment.load("recipes/neumf")


@pytest.mark.parametrize("model", [ncf.MLP, ncf.NeuMF, ncf.HistoryGMF])
def test_a_recipe_of_a_kind_is_what_the_model_of_that_name_fits(model: type[ncf.MLP]) -> None:
    assert Experiment.load(model.kind).digest() == model().experiment(support.planted()).digest()


def test_train_takes_a_name_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    support.checkerboard().save("data")
    quick = ("--data", "data", "--quiet", "--set", "train.epochs=1")
    ran("train", *quick)
    ran("train", "--recipe", "neumf", *quick, "--set", "model.factors=8")
    assert (tmp_path / "runs" / "default" / "run.json").is_file()
    assert (tmp_path / "runs" / "neumf" / "run.json").is_file()
    with pytest.raises(ConfigError, match="Two recipes are given, mlp and --recipe neumf"):
        ran("train", "mlp", "--recipe", "neumf", *quick)


def test_the_version_is_printed() -> None:
    assert ran("--version") == f"ncf {ncf.__version__}\n"
