"""Items that nobody has used: held out whole, placed from their columns, ranked among others."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ncf import analysis
from ncf.cli import app
from ncf.data import Dataset
from ncf.errors import ConfigError, DataError
from ncf.experiment import Run, RunOptions, train
from ncf.renewal.warm import warm_recipe
from ncf.serving.artifact import open_artifact
from ncf.tracking.tracker import Silent
from support import checkerboard, experiment

QUICK = RunOptions(serves=False, verdict=False)
USERS, ITEMS = 40, 60


def coloured() -> Dataset:
    """Even users use even items and odd users odd ones, and a column says which an item is."""
    made = checkerboard(USERS, ITEMS)
    colours = pl.Series("colour", ["odd" if row % 2 else "even" for row in range(ITEMS)])
    return replace(made, item_columns=made.item_columns.with_columns(colours), digest="")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("cold")
    coloured().save(folder / "data")
    return train(
        coloured(), experiment("gmf", epochs=12), folder / "run", data_path=folder / "data", options=QUICK
    )


@pytest.fixture(scope="module")
def cold(run: Run) -> analysis.ColdItems:
    return analysis.evaluate_cold_items(analysis.open_run(run.folder), Silent(), lambda _: None)


def test_a_column_that_says_it_all_ranks_them_right(cold: analysis.ColdItems) -> None:
    assert list(cold.results) == ["all items", "cold items"]
    for kind, results in cold.results.items():
        assert results["by columns"].means["hr@1"] > 0.95, kind
    floor = cold.results["cold items"]["popularity"]
    assert floor.means["hr@1"] == pytest.approx(1 / floor.longest), "no better than chance"
    assert cold.results["all items"]["popularity"].means["hr@1"] == 0


def test_training_does_not_know_them(run: Run, cold: analysis.ColdItems) -> None:
    """Not even as negatives; and each row that is ranked is one of theirs."""
    assert cold.items == ITEMS // 5
    artifact, dataset = open_artifact(cold.folder), coloured()
    assert len(artifact.items) == ITEMS - cold.items
    absent = [row for row, item in enumerate(dataset.items.ids) if artifact.items.row(item) < 0]
    known = [set(dataset.known.row(user).tolist()) for user in range(USERS)]
    ranked = cold.results["all items"]["by columns"]
    assert len(ranked.user_rows) == sum(len(own & set(absent)) for own in known)
    assert f"of these interactions {len(ranked.user_rows)} among all items" in cold.remark


def test_the_command_shows_them_and_trains_once(run: Run, cold: analysis.ColdItems) -> None:
    before = (cold.folder / "artifact" / "manifest.json").stat().st_mtime_ns
    done = CliRunner().invoke(app, ["evaluate", str(run.folder), "--split", "items", "--json"])
    assert done.exit_code == 0, repr(done.exception)
    document = json.loads(done.stdout)
    assert (document["items"], document["items_run"]) == (cold.items, str(cold.folder))
    figures = document["lists"]["cold items"]["by columns"]["metrics"]
    assert figures == pytest.approx(cold.results["cold items"]["by columns"].means)
    done = CliRunner().invoke(app, ["evaluate", str(run.folder), "--split", "items"])
    for words in ("cold items among all items", "cold items among cold items", cold.remark):
        assert words in done.stdout
    assert (cold.folder / "artifact" / "manifest.json").stat().st_mtime_ns == before
    done = CliRunner().invoke(app, ["evaluate", str(run.folder), "--split", "items", "--cold"])
    assert "--split items always shows candidate lists" in str(done.exception)


def test_what_cannot_be_held_out_is_refused(run: Run, tmp_path: Path) -> None:
    def refusal(dataset: Dataset, path: Path) -> str:
        dataset.save(tmp_path / "data")
        train(dataset, experiment("gmf", epochs=1), path, data_path=tmp_path / "data", options=QUICK)
        with pytest.raises(DataError) as refused:
            analysis.evaluate_cold_items(analysis.open_run(path), Silent(), lambda _: None)
        return str(refused.value)

    plain = coloured()
    bare = replace(plain, item_columns=plain.item_columns.select("id", "popularity"), digest="")
    assert "The items of made-up have no columns to place them by" in refusal(bare, tmp_path / "bare")
    few = checkerboard(4, 8)
    named = few.item_columns.with_columns(pl.Series("colour", ["even", "odd"] * 4))
    tiny = replace(few, item_columns=named, digest="")
    assert "made-up has too few items to hold some out" in refusal(tiny, tmp_path / "tiny")
    warm = tmp_path / "warm"
    data = run.folder.parent / "data"
    settings = warm_recipe(run.folder, None, ["train.epochs=1"])
    train(plain, settings, warm, data_path=data, warm=run.folder, options=QUICK)
    with pytest.raises(ConfigError, match="is a warm start, and its few epochs alone train no model"):
        analysis.evaluate_cold_items(analysis.open_run(warm), Silent(), lambda _: None)


def test_more_rows_than_are_needed_are_drawn(
    run: Run, cold: analysis.ColdItems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncf.analysis.cold_items._MOST_ROWS", 20)
    again = [
        analysis.evaluate_cold_items(analysis.open_run(run.folder), Silent(), lambda _: None).results
        for _ in range(2)
    ]
    rows = [results["cold items"]["by columns"].user_rows for results in again]
    assert len(rows[0]) == 20
    assert np.array_equal(*rows)
