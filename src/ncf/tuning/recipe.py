"""Recipes of a search: what a trial trains, and the complete TOML of the best recipe.

The decision worth knowing: trials are evaluated on validation positives that they did not train on. A recipe
that trains on them (`validation = "include"`) holds them out during the search, and the best recipe includes
them again.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ncf.config import Experiment
from ncf.errors import ConfigError, imported
from ncf.training.start_search import USUAL_WIDTH


def for_trials(recipe: Experiment) -> tuple[Experiment, bool]:
    """The recipe as trials train it, and whether validation positives had to be held out for it."""
    values = recipe.model_dump(mode="json")
    held = [prefix for prefix in _parts(recipe) if _at(values, f"{prefix}train.validation") == "include"]
    cutoffs = sorted({*recipe.evaluation.cutoffs, 10})
    changes = [f"{prefix}train.validation=hold-out" for prefix in held]
    changes += [f"evaluation.cutoffs={cutoffs}", "evaluation.bootstrap=0"]
    return Experiment.parse(values, [*changes, *_without_auto(recipe)]), bool(held)


def _without_auto(recipe: Experiment) -> list[str]:
    """Numbers for what is "auto": a trial should not search on its own."""
    if recipe.train.init != "auto":
        return []
    return [
        "train.init=spectral",
        *([f"model.factors={USUAL_WIDTH}"] if recipe.model.factors == "auto" else []),
    ]


def _parts(recipe: Experiment, prefix: str = "") -> Iterator[str]:
    """The prefixes of the settings of a recipe, of the halves that it is made of, and of their halves."""
    yield prefix
    if recipe.pretraining is not None:
        for half, inner in (("gmf", recipe.pretraining.gmf), ("mlp", recipe.pretraining.mlp)):
            yield from _parts(inner, f"{prefix}pretraining.{half}.")


def best_recipe(recipe: Experiment, overrides: list[str], data_path: str | None) -> tuple[Experiment, bool]:
    """The recipe with the best values, and whether it trains on validation positives as `recipe` does.

    `overrides` are the best values as `Experiment.parse` takes them, and `data_path` is the prepared folder,
    if one was given. A searched `patience` needs held-out validation positives, so the best recipe then holds
    them out.
    """
    values = recipe.model_dump(mode="json")
    if data_path is not None:
        values["data"] = {"path": str(Path(data_path).resolve()), "catalog": None}
    try:
        return Experiment.parse(values, overrides), True
    except ConfigError:
        trial, _ = for_trials(recipe)
        kept = trial.model_dump(mode="json") | {"data": values["data"], "evaluation": values["evaluation"]}
        return Experiment.parse(kept, overrides), False


def value_of(recipe: Experiment, name: str) -> Any:
    """The setting of `recipe` with the dotted `name`, as a JSON value."""
    return _at(recipe.model_dump(mode="json"), name)


def to_toml(recipe: Experiment, comment: str = "") -> str:
    """A recipe as TOML with every setting, below the lines of `comment`; reading it gives the same recipe."""
    lines = [f"# {line}\n" for line in comment.splitlines()]
    text: str = imported("tune", "tomli_w").dumps(recipe.model_dump(mode="json", exclude_none=True))
    return "".join(lines) + text


def _at(values: Mapping[str, Any], name: str) -> Any:
    value: Any = values
    for part in name.split("."):
        value = value[part]
    return value
