"""A search that ends with the clock: `ncf train RECIPE --minutes M`.

In: data, a recipe, and how long it may take. Out: the recipe with the settings that were best on validation.
Trials are pruned by successive halving (Hyperband, Li et al., JMLR'18). The decision worth knowing: the first
trial is the recipe itself, so the result is never behind it on validation, and the time of one more training
is kept back for the run that follows.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ncf.config import Experiment
from ncf.data import Dataset
from ncf.runtime import Workers
from ncf.tracking.tracker import Tracker
from ncf.training.start_search import choose_start
from ncf.tuning.recipe import best_recipe
from ncf.tuning.space import Space
from ncf.tuning.study import SearchTime, StudyPlan, search
from ncf.tuning.trials import ProgressListener

_MOST_TRIALS = 10_000
_RANGES: dict[str, tuple[float, float]] = {
    "train.learning_rate": (3e-4, 1e-2),
    "train.l2_gmf": (1e-3, 1e-1),
}
_TOWER_RANGES: dict[str, tuple[float, float]] = {"train.l2_mlp": (1e-4, 3e-2)}


def space_around(recipe: Experiment) -> Space:
    """Settings around those of `recipe`, which the space holds: rates, penalties, negatives, width, batch."""
    values: dict[str, dict[str, Any]] = {}
    ranges = _RANGES | (_TOWER_RANGES if recipe.model.kind.endswith(("mlp", "neumf")) else {})
    for name, (low, high) in ranges.items():
        own = float(getattr(recipe.train, name.removeprefix("train.")))
        if own:
            values[name] = {"low": min(low, own), "high": max(high, own), "log": True}
        else:  # a range over a logarithm has no zero
            values[name] = _choices(own, low, (low * high) ** 0.5, high)
    values["train.negatives"] = _choices(recipe.train.negatives, 2, 4, 8)
    values["train.batch_size"] = _choices(recipe.train.batch_size, 1024, 4096)
    if recipe.model.kind != "mlp":
        width = recipe.model.width
        values["model.factors"] = _choices(width, max(1, width // 2), 2 * width)
    if recipe.train.init != "random":
        l2 = recipe.train.init_l2
        values["train.init_l2"] = _choices(l2, *((l2 / 3, l2 * 3) if l2 else (70.0, 600.0)))
    return Space.parse(values)


def _choices(own: Any, *others: Any) -> dict[str, Any]:
    return {"values": sorted({own, *others})}


def search_for(
    minutes: float,
    dataset: Dataset,
    recipe: Experiment,
    folder: Path,
    *,
    data_path: Path,
    workers: Workers,
    tracker: Tracker,
    watcher: ProgressListener,
    stop: Callable[[], bool],
) -> Experiment:
    """The recipe to train after a search of so many `minutes`, less the time of one training.

    Args:
        minutes: how long the search and the training after it may take.
        dataset: what the trials train on and are evaluated on.
        recipe: where the search begins; "auto" becomes a number first.
        folder: where the study and its trials are kept. A study of the same recipe goes on.
        data_path: where `dataset` is.
        workers: threads for the choice of the start.
        tracker: hears of that choice.
        watcher: hears of the trials.
        stop: asked between steps; once it returns True, `Interrupted` is raised.

    Raises `ConfigError` for data without validation rows.
    """
    ends = time.monotonic() + 60.0 * minutes
    recipe = choose_start(dataset, recipe, workers, tracker).experiment
    space = space_around(recipe)
    plan = StudyPlan(folder, _MOST_TRIALS, recipe.name, seed=recipe.train.seed, pruner="hyperband")
    outcome = search(
        dataset, recipe, space, plan, data_path=data_path, watcher=watcher, stop=stop, budget=SearchTime(ends)
    )
    if outcome.best is None:
        watcher.log("The time was over before a trial had ended: training the recipe as it is.")
        return recipe
    best, _ = best_recipe(recipe, space.overrides(outcome.best.parameters), None)
    watcher.log(
        f"{len(outcome.trials)} trials; the best on validation is trial {outcome.best.number} with NDCG@10 "
        f"{outcome.best.value:.4f}, where the recipe has {outcome.trials[0].value or 0.0:.4f}."
    )
    return best
