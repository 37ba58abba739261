"""`ncf update`: new events join the data of a run, and what cannot be used leaves everything as it was."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ncf import experiment
from ncf.cli import app
from ncf.data import Dataset, PrepareOptions, prepare_file
from ncf.errors import NcfError
from ncf.serving.artifact import open_artifact
from support import experiment as small

USERS, ITEMS = 30, 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run `run`, its data `data`, and its table `events.csv`."""
    folder = tmp_path_factory.mktemp("update")
    random = np.random.default_rng(5)
    users, items = np.nonzero(random.random((USERS, ITEMS)) < 0.4)
    times = random.permutation(len(users)) + 1_000
    pl.DataFrame({"user": users, "item": items, "time": times}).write_csv(folder / "events.csv")
    dataset, _ = prepare_file(folder / "events.csv", PrepareOptions(negatives=5))
    dataset.save(folder / "data")
    experiment.train(dataset, small("gmf", epochs=1), folder / "run", data_path=folder / "data")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def events(rows: list[tuple[int, int, int]], path: str = "new.csv") -> str:
    pl.DataFrame(rows, schema=["user", "item", "time"], orient="row").write_csv(path)
    return path


def update(run: Path | str, file: object, *more: str) -> Result:
    words = ["update", str(run), "--events", str(file), "--set", "train.epochs=1", "--quiet", *more]
    return CliRunner().invoke(app, words)


def parsed(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.output + repr(done.exception)
    return dict(json.loads(done.stdout))


def test_new_users_and_items_are_in_the_new_run_and_the_old_one_stays(made: Path, here: Path) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}
    known = pl.read_csv(made / "events.csv").row(0)
    file = events([(777, 3, 5_000), (777, 888, 5_001), (777, 4, 4_999), (2, 888, 5_002), known])
    document = parsed(update(made / "run", file, "--output", "next", "--json"))
    assert document["warm"]["users"] == {"kept": USERS, "folded_in": 1, "dropped": 0}
    assert document["warm"]["items"]["dropped"] == 0
    artifact = open_artifact("next")
    assert artifact.users.row(777) >= 0 <= artifact.items.row(888)
    dataset = Dataset.open("next-data")
    assert len(dataset.known.columns) == len(Dataset.open(made / "data").known.columns) + 4
    assert json.loads(Path("next/run.json").read_text())["data"]["path"] == str(here / "next-data")
    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before


def test_a_second_update_goes_on_from_the_first(made: Path, here: Path) -> None:
    parsed(update(made / "run", events([(777, 3, 5_000), (777, 5, 5_001)]), "--output", "one", "--json"))
    again = events([(777, 3, 5_000), (777, 6, 6_000), (778, 6, 6_001)], "more.csv")
    done = update("one", again, "--output", "two")
    assert done.exit_code == 0, repr(done.exception)
    assert "1 of 3 rows of more.csv were in the data already, and were left out." in done.stdout
    assert json.loads(Path("two/artifact/metrics.json").read_text())["warm"]["from"] == str(here / "one")
    assert Dataset.open("two-data").description["source"]["updates"] == ["new.csv", "more.csv"]


def test_nothing_new_writes_nothing(made: Path, here: Path) -> None:
    file = made / "events.csv"
    done = update(made / "run", file, "--output", "next")
    assert done.exit_code == 0, repr(done.exception)
    assert "nothing to do" in done.stdout
    document = parsed(update(made / "run", file, "--output", "next", "--json"))
    assert document["run"] is None
    assert document["rows"] == document["already"]
    assert not list(here.glob("next*"))


def test_what_cannot_be_used_leaves_no_trace(made: Path, here: Path) -> None:
    new, run = events([(777, 3, 5_000), (777, 4, 5_001)]), made / "run"
    Path("broken.parquet").write_bytes(b"PAR1 is not all that makes a table PAR1")
    Path("empty.csv").write_text("")
    Path("words.csv").write_text("user,item,time\n1,2,yesterday\n")
    events([], "rowless.csv")
    Path("photos-data").mkdir()
    Path("photos-data/1.jpg").write_text("x")
    there = {path.name for path in here.iterdir()}
    for file, more, sentence in (
        ("missing.csv", [], "missing.csv"),
        ("broken.parquet", [], "broken.parquet"),
        ("empty.csv", [], "empty.csv"),
        ("rowless.csv", [], "rowless.csv has no rows"),
        ("words.csv", [], "words.csv.*(row|line) "),
        (new, ["--user", "who"], "There is no column 'who'"),
        (new, ["--items", "titles.csv"], "titles.csv"),
        (new, ["--set", "train.epoch=3"], "train.epoch"),
        (new, ["--set", "model.factors=99"], "has model.factors = 8 and the recipe 99"),
        (new, ["--output", "photos"], "photos-data holds other files"),
        (new, ["--output", str(run)], "holds a run already"),
    ):
        given = [] if "--output" in more else ["--output", "next"]
        done = update(run, file, *given, *more)
        assert isinstance(done.exception, NcfError), (sentence, done.output)
        with pytest.raises(NcfError, match=sentence):
            raise done.exception
        assert {path.name for path in here.iterdir()} == there, sentence


def test_data_that_another_run_was_trained_on_are_not_replaced(made: Path, here: Path) -> None:
    """The run of `next-data` may have moved; its data must stay what it was trained on."""
    parsed(update(made / "run", events([(777, 3, 5_000), (777, 5, 5_001)]), "--output", "next", "--json"))
    Path("next").rename("kept")
    digest = Dataset.open("next-data").digest
    done = update(made / "run", events([(778, 3, 5_000), (778, 5, 5_001)]), "--output", "next")
    assert isinstance(done.exception, NcfError)
    assert "next-data holds other data, which stay" in str(done.exception)
    assert Dataset.open("next-data").digest == digest
