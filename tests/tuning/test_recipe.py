"""Recipes of a search: validation is held out for trials, and the best recipe is complete and reads back the
same.
"""

import tomllib
from pathlib import Path

import pytest

from ncf.config import Experiment
from ncf.tuning.recipe import best_recipe, for_trials, to_toml

RECIPES = sorted(path for path in (Path(__file__).parents[2] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_written_out_reads_back_the_same(path: Path) -> None:
    recipe = Experiment.load(path)
    text = to_toml(recipe, "a comment")
    assert Experiment.parse(tomllib.loads(text)) == recipe
    assert text.startswith("# a comment\n")
    assert f"seed = {recipe.train.seed}" in text


def test_a_recipe_that_trains_on_validation_is_held_to_hold_out_with_its_halves() -> None:
    recipe = Experiment.load(next(path for path in RECIPES if path.stem == "ml-1m-neumf-pretrained"))
    trial, held = for_trials(recipe)
    assert held
    assert trial.pretraining is not None
    halves = (trial, trial.pretraining.gmf, trial.pretraining.mlp)
    assert {half.train.validation for half in halves} == {"hold-out"}
    best, as_it_was = best_recipe(recipe, ["train.learning_rate=0.5"], None)
    assert as_it_was
    assert best.train.validation == "include"
    assert best.train.learning_rate == 0.5


def test_the_halves_of_a_half_are_held_to_hold_out_too() -> None:
    recipe = Experiment.load(next(path for path in RECIPES if path.stem == "ml-1m-neumf-distilled"))
    trial, held = for_trials(recipe)
    assert held
    assert "include" not in trial.model_dump_json()


def test_trials_are_evaluated_at_ten_whatever_the_recipe_prints() -> None:
    trial, held = for_trials(Experiment.parse({"evaluation": {"cutoffs": [5]}}))
    assert not held
    assert trial.evaluation.cutoffs == (5, 10)


def test_a_searched_patience_keeps_validation_held_out() -> None:
    recipe = Experiment.parse({"train": {"validation": "include"}, "evaluation": {"bootstrap": 7}})
    best, as_it_was = best_recipe(recipe, ["train.patience=3"], None)
    assert not as_it_was
    assert (best.train.validation, best.train.patience, best.evaluation.bootstrap) == ("hold-out", 3, 7)


def test_given_data_are_in_the_best_recipe(tmp_path: Path) -> None:
    best, _ = best_recipe(Experiment.parse({"data": {"catalog": "ml-100k"}}), [], str(tmp_path))
    assert best.data.path == str(tmp_path)
    assert best.data.catalog is None


def test_a_trial_has_numbers_for_auto() -> None:
    recipe = Experiment.parse({"model": {"kind": "gmf", "factors": "auto"}, "train": {"init": "auto"}})
    trial, _ = for_trials(recipe)
    assert (trial.train.init, trial.model.factors) == ("spectral", 128)
