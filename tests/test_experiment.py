"""What a training says, and what it refuses before it begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ncf.analysis.evaluated_run import open_run
from ncf.errors import ConfigError
from ncf.experiment import RunOptions, train
from ncf.serving.artifact import open_artifact
from ncf.tracking.tracker import Silent
from support import checkerboard, dataset_of, experiment


class Logged(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, sentence: str) -> None:
        self.lines.append(sentence)


def test_what_training_leaves_out_or_cannot_watch_is_told(tmp_path: Path) -> None:
    pairs = [(0, item) for item in range(6)] + [(user, item) for user in range(1, 5) for item in range(3)]
    tracker = Logged()
    options = RunOptions(tracker=tracker, serves=False, verdict=False)
    train(
        dataset_of(pairs, users=5, items=6), experiment("gmf", patience=1), tmp_path / "run", options=options
    )
    said = " ".join(tracker.lines)
    assert "1 users have used every item: no negative exists for them" in said
    assert "leaves out their 6 positives" in said
    assert "train.patience has nothing to watch" in said


def test_a_half_life_draws_what_is_new(tmp_path: Path) -> None:
    """An age of 40 half-lives takes all but one item out of training; without times nothing begins."""
    data = checkerboard()
    with pytest.raises(ConfigError, match=r"train\.half_life needs the times of interactions"):
        train(data, experiment("mf", half_life="1h"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    new = data.train.item_rows == 4
    times = np.where(new, 1_700_000_000, 1_700_000_000 - 40 * 3600)
    data = replace(data, train=replace(data.train, timestamps=times), digest="times")
    options = RunOptions(serves=False, verdict=False)
    recipe = experiment("mf", half_life="1h", trending="2h")
    run = train(data, recipe, tmp_path / "run", options=options)
    artifact = open_artifact(run.artifact)
    trending = artifact.item_columns["trending"]
    assert trending.sum() == trending[4] == new.sum()
    data.save(tmp_path / "data")
    judged = open_run(tmp_path / "run", tmp_path / "data").trained_on
    assert judged.weights is not None
    np.testing.assert_allclose(judged.weights, np.where(new, 1.0, 2.0**-40), rtol=1e-5)
    taken = data.item_columns.with_columns(trending=pl.lit("yes"))
    with pytest.raises(ConfigError, match="The items have a column 'trending': give it another name"):
        train(replace(data, item_columns=taken), recipe, tmp_path / "other")
    biases = artifact.weights["item_bias"]
    assert biases.argmax() == 4
    assert (biases[np.arange(len(biases)) != 4] < 0).all()


@pytest.mark.parametrize("init", ["spectral", "auto"])
def test_starts_know_weights_and_age(tmp_path: Path, init: str) -> None:
    """The first values follow the weights that decay gives, as if the data had come with them."""
    data, options = checkerboard(), RunOptions(serves=False, verdict=False)
    ages = np.random.default_rng(0).integers(0, 10, len(data.train))
    ages[0] = 0
    weights = np.exp2(-ages).astype(np.float32)
    timed = replace(data, train=replace(data.train, timestamps=1_700_000_000 - ages * 3600), digest="timed")
    weighted = replace(data, train=replace(data.train, weights=weights), digest="weighted")
    tables = []
    for name, given, half_life in (("a", timed, "1h"), ("b", weighted, ""), ("c", data, "")):
        recipe = experiment("gmf", init=init, epochs=0, half_life=half_life)
        run = train(given, recipe, tmp_path / name, options=options)
        tables.append(open_artifact(run.artifact).weights["item_table"])
    np.testing.assert_array_equal(tables[0], tables[1])
    assert not np.allclose(tables[0], tables[2])
