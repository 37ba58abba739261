"""The suggested recipe: it follows the shape of the data, says why, and trains as it is."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ncf.cli import app
from ncf.config import Experiment
from ncf.errors import ConfigError
from ncf.tuning.defaults import DataShape, suggest
from support import dataset_of

ML1M = DataShape(6_040, 3_706, 994_169, 164.6, 271.0, 0.45, 0.044, False, 6_040)


def test_notes_name_what_else_to_try() -> None:
    """Long histories suggest a tower, times a model of sequences; the recipe is the same."""
    plain, dense = suggest(replace(ML1M, per_user=99.0)), suggest(ML1M)
    assert plain.choices == dense.choices
    assert plain.notes == []
    assert ["'neumf'" in note for note in dense.notes] == [True]
    assert ["sasrec" in note for note in suggest(replace(ML1M, times=True)).notes] == [True, False]


@given(
    st.builds(
        DataShape,
        st.integers(0, 10**8),
        st.integers(0, 10**7),
        st.integers(0, 10**10),
        st.floats(0, 1e6),
        st.floats(0, 1e6),
        st.floats(0, 1),
        st.floats(0, 1),
        st.booleans(),
        st.integers(0, 10**8),
    )
)
def test_every_shape_has_a_valid_recipe_whose_text_is_the_same(shape: DataShape) -> None:
    made = suggest(shape)
    text = made.to_toml("mine", 'data/"mine"', shape.line)
    assert Experiment.parse(tomllib.loads(text)) == made.experiment("mine", 'data/"mine"')
    for choice in made.choices:
        assert f"# {choice.reason}\n{choice.setting.partition('.')[2]} = " in text
    train = made.experiment("mine", "x").train
    assert (train.patience > 0) == bool(shape.validation)
    assert shape.validation or train.epochs <= 10, "nothing would stop it"


def test_a_shape_counts_what_training_has() -> None:
    data = dataset_of([(0, 0), (0, 1), (1, 0), (1, 2), (1, 3)], 4, 20, [(0, [5, 6])])
    shape = DataShape.of(data)
    assert (shape.users, shape.items, shape.interactions) == (4, 20, 5)
    assert shape.per_user == 2.5, "of the two users who have any"
    assert shape.per_item == 1.25
    assert shape.skew == pytest.approx(3 / 5), "items 0 and one more are the top tenth of 20"
    assert shape.density == pytest.approx(5 / 80)
    assert not shape.times


def test_the_written_recipe_trains_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    users, items = np.nonzero(random.random((60, 40)) < 0.3)
    pl.DataFrame({"user": users, "item": items, "time": range(len(users))}).write_csv("events.csv")
    run = CliRunner()
    assert (
        run.invoke(
            app, ["prepare", "--input", "events.csv", "--negatives", "15", "--output", "mine"]
        ).exit_code
        == 0
    )
    done = run.invoke(app, ["suggest", "mine"])
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert "60 users, 40 items" in done.stdout
    assert "audit     test: 60 lists of 1 +" in done.stdout
    assert "From the closed form it is the best default" in done.stdout
    assert "recipes/sasrec.toml" in Path("recipe.toml").read_text()
    trained = run.invoke(app, ["train", "recipe.toml", "--output", "run", "--quiet"])
    assert trained.exit_code == 0, trained.output + repr(trained.exception)
    assert json.loads(Path("run/run.json").read_text())["experiment"]["model"]["kind"] == "gmf"
    again = run.invoke(app, ["suggest", "mine"])
    assert isinstance(again.exception, ConfigError)
    document = json.loads(run.invoke(app, ["suggest", "mine", "--overwrite", "--json"]).stdout)
    assert document["shape"]["users"] == 60
    assert document["choices"][0]["setting"] == "model.kind"
