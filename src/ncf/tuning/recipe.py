"""Recipes of a search: what a trial trains, and the complete TOML of the best one.

The one decision worth knowing: trials are judged on validation positives that they did not train on, so a recipe that
trains on them (`validation = "include"`) is held to hold-out while it is searched; the best recipe has it back.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ncf.config import Experiment
from ncf.errors import ConfigError


def for_trials(recipe: Experiment) -> tuple[Experiment, bool]:
    """The recipe as trials train it, and whether its validation positives had to be held out for that."""
    values = recipe.model_dump(mode="json")
    held = [prefix for prefix in _parts(recipe) if _at(values, f"{prefix}train.validation") == "include"]
    cutoffs = sorted({*recipe.evaluation.cutoffs, 10})
    changes = [f"{prefix}train.validation=hold-out" for prefix in held]
    changes += [f"evaluation.cutoffs={cutoffs}", "evaluation.bootstrap=0"]
    return Experiment.parse(values, changes), bool(held)


def _parts(recipe: Experiment, prefix: str = "") -> Iterator[str]:
    """Prefixes of the settings of a recipe, of the halves it is made of, and of theirs."""
    yield prefix
    if recipe.pretraining is not None:
        for half, inner in (("gmf", recipe.pretraining.gmf), ("mlp", recipe.pretraining.mlp)):
            yield from _parts(inner, f"{prefix}pretraining.{half}.")


def best_recipe(recipe: Experiment, overrides: list[str], data_path: str | None) -> tuple[Experiment, bool]:
    """The recipe with the best values, and whether it trains on validation positives as the recipe did.

    A searched `patience` needs them held out, so there the best recipe holds them out as well.
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
    """A setting by its dotted name, as a JSON value."""
    return _at(recipe.model_dump(mode="json"), name)


def to_toml(recipe: Experiment, comment: str = "") -> str:
    """A recipe with every setting written out; reading it gives the same recipe."""
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += _tables(recipe.model_dump(mode="json", exclude_none=True), "")
    return "\n".join(lines) + "\n"


def _tables(values: Mapping[str, Any], name: str) -> Iterator[str]:
    """Settings first and then the tables in them, as TOML wants it."""
    inner = {key: value for key, value in values.items() if isinstance(value, dict)}
    plain = {key: value for key, value in values.items() if key not in inner}
    if name and plain:
        yield from ("", f"[{name}]")
    for key, value in plain.items():
        yield f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}"
    for key, value in inner.items():
        yield from _tables(value, f"{name}.{_key(key)}" if name else _key(key))


def _key(name: str) -> str:
    bare = name.replace("_", "").replace("-", "")
    return name if bare.isascii() and bare.isalnum() else json.dumps(name)


def _at(values: Mapping[str, Any], name: str) -> Any:
    found: Any = values
    for part in name.split("."):
        found = found[part]
    return found
