"""`ncf leaderboard`: what is printed and written, and how it ends."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import support
from ncf.cli import app
from ncf.errors import ConfigError

GMF = """
title = "GMF"
[recipe.model]
kind = "gmf"
factors = 8
[recipe.train]
epochs = 1
batch_size = 512
threads = 1
[space]
"train.epochs" = { low = 1, high = 2 }
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    support.planted(users=80, items=50, each=12).save(folder / "data")
    (folder / "entries").mkdir()
    (folder / "entries" / "gmf.toml").write_text(GMF)
    return folder


def command(project: Path, *more: str) -> list[str]:
    return [
        "leaderboard", str(project / "data"), "--output", str(project / "board"), "--entries",
        str(project / "entries"), "--only", "gmf", "--only", "popularity", *more,
    ]  # fmt: skip


def test_a_leaderboard_tells_how_it_goes_and_writes_page_table_and_json(project: Path) -> None:
    done = CliRunner().invoke(app, command(project, "--trials", "2", "--seeds", "1"))
    assert done.exit_code == 0, done.output + repr(done.exception)
    for words in ("1/2  GMF", "2/2  Popularity", "trial  2/2", "left", "seed 0", "sampled"):
        assert words in done.stderr
    assert "share first place" in done.stdout
    for name in ("index.html", "leaderboard.md", "leaderboard.json"):
        assert (project / "board" / name).is_file()

    (project / "board" / "index.html").unlink()
    again = CliRunner().invoke(app, command(project, "--page-only", "--json"))
    assert again.exit_code == 0, again.output + repr(again.exception)
    document = json.loads(again.stdout)
    assert {entry["name"] for entry in document["entries"]} == {"gmf", "popularity"}
    assert Path(document["page"]).is_file()
    assert again.stderr == ""


def test_one_that_fails_makes_the_exit_code_1_and_quiet_says_only_why(project: Path) -> None:
    (project / "hopeless").mkdir()
    (project / "hopeless" / "gmf.toml").write_text(
        GMF.replace("epochs = 1\n", "epochs = 1\nlearning_rate = 1e30\n")
    )
    arguments = command(project, "--trials", "1", "--quiet")
    arguments[3], arguments[5] = str(project / "failing"), str(project / "hopeless")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("GMF: Every one of 1 trials failed")
    assert "Popularity" in done.stdout


def test_options_that_contradict_each_other_are_refused(project: Path) -> None:
    done = CliRunner().invoke(app, command(project, "--page-only", "--overwrite"))
    assert isinstance(done.exception, ConfigError)
    nothing = CliRunner().invoke(
        app, ["leaderboard", "data", "--output", str(project / "none"), "--page-only"]
    )
    assert isinstance(nothing.exception, ConfigError)
