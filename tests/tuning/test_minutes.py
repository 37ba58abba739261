"""A search by the clock: what it varies, when it ends, and that it is never behind its recipe."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ncf.config import Experiment
from ncf.errors import ConfigError, Interrupted
from ncf.runtime import Workers
from ncf.tracking.tracker import Silent
from ncf.tuning.minutes import search_for, space_around
from ncf.tuning.optuna import holds
from ncf.tuning.recipe import value_of
from ncf.tuning.trials import ProgressListener, Trial
from support import checkerboard, experiment


class Heard(ProgressListener):
    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.sentences: list[str] = []

    def ended(self, trial: Trial) -> None:
        self.trials.append(trial)

    def log(self, sentence: str) -> None:
        self.sentences.append(sentence)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A second passes at each look at the clock, however busy the machine is."""
    seconds = itertools.count()
    for module in ("study", "minutes"):
        monkeypatch.setattr(f"ncf.tuning.{module}.time", SimpleNamespace(monotonic=seconds.__next__))
    return seconds


def searched(
    minutes: float, folder: Path, recipe: Experiment, stop: Callable[[], bool] = lambda: False
) -> tuple[Experiment, Heard]:
    heard, data = Heard(), checkerboard()
    best = search_for(
        minutes, data, recipe, folder, data_path=folder / "data", workers=Workers(1), tracker=Silent(),
        watcher=heard, stop=stop,
    )  # fmt: skip
    return best, heard


@pytest.mark.parametrize("kind", ["gmf", "mlp", "neumf", "history-gmf"])
@pytest.mark.parametrize("settings", [{"init": "spectral"}, {"l2_gmf": 0.0, "negatives": 5}])
def test_the_space_holds_the_recipe_itself(kind: str, settings: dict[str, object]) -> None:
    recipe = experiment(kind, **settings)
    space = space_around(recipe)
    assert all(holds(parameter, value_of(recipe, parameter.name)) for parameter in space)
    assert ("train.l2_mlp" in [parameter.name for parameter in space]) == (kind in ("mlp", "neumf"))


@pytest.mark.usefixtures("clock")
def test_the_result_is_the_best_trial_and_the_first_is_the_recipe(tmp_path: Path) -> None:
    recipe = experiment("gmf", epochs=2, batch_size=1024)
    best, heard = searched(1.0, tmp_path, recipe)
    assert heard.trials[0].parameters["train.learning_rate"] == recipe.train.learning_rate
    complete = [trial for trial in heard.trials if trial.state == "complete" and trial.value is not None]
    winner = max(complete, key=lambda trial: (trial.value or 0.0, -trial.number))
    assert {name: value_of(best, name) for name in winner.parameters} == winner.parameters
    assert heard.sentences[-1].startswith(f"{len(heard.trials)} trials; the best on validation is trial ")


def test_the_time_of_one_training_is_kept_back(tmp_path: Path, clock: Iterator[int]) -> None:
    _, heard = searched(1.0, tmp_path, experiment("gmf", epochs=2, batch_size=1024))
    longest = max(trial.seconds for trial in heard.trials if trial.state == "complete")
    assert longest > 2
    # The trial that runs when the time is over ends with its step, not with its epochs.
    assert 60 - 2 * longest <= next(clock) <= 60 - longest + 5


def test_without_time_the_recipe_stays(tmp_path: Path) -> None:
    recipe = experiment("gmf", init="auto")
    best, heard = searched(1e-9, tmp_path, recipe)
    assert heard.trials == []
    assert (best.train.init, best.model.factors) == ("spectral", recipe.model.factors)
    assert "as it is" in heard.sentences[-1]


def test_a_person_may_stop_it(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        searched(1.0, tmp_path, experiment("gmf"), stop=lambda: True)


def test_it_needs_validation_rows(tmp_path: Path) -> None:
    none = checkerboard().validation.take(np.zeros(0, np.int64))
    with pytest.raises(ConfigError, match="validation"):
        search_for(
            1.0, replace(checkerboard(), validation=none), experiment("gmf"), tmp_path, data_path=tmp_path,
            workers=Workers(1), tracker=Silent(), watcher=Heard(), stop=lambda: False,
        )  # fmt: skip
