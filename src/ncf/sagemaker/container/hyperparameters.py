"""An experiment as SageMaker's hyperparameters, and back: `{"train.epochs": "5", "model.tower": "[128,
64]"}`.

SageMaker admits 100 strings of at most 2,500 characters. Only settings that differ from their defaults are
sent, so the console shows what matters, and a pre-trained NeuMF, which is three experiments, fits. Values are
read as `--set` reads them, with or without the extra quotes that some toolkits add.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any

from ncf.config import Experiment
from ncf.errors import ConfigError

MOST = 100
LONGEST = 2500
TUNED = "_tuning_objective_metric"
"""The name that SageMaker's tuner adds to the jobs that it starts."""
_NOT_OURS = ("sagemaker_", "_")
"""Prefixes of names that toolkits and SageMaker's tuner add."""


def to_hyperparameters(experiment: Experiment) -> dict[str, str]:
    """The settings that are not defaults, without the data's path, which is a channel's.

    Raises `ConfigError` where SageMaker would refuse them.
    """
    values = experiment.model_dump(mode="json", exclude_defaults=True, exclude={"data"})
    flat = {name: _write(value) for name, value in _flatten(values, "")}
    if len(flat) > MOST or any(len(value) > LONGEST for value in flat.values()):
        raise ConfigError(
            f"SageMaker takes {MOST} hyperparameters of {LONGEST} characters and this recipe has "
            f"{len(flat)}: leave out what equals the default, or pre-train GMF and MLP in jobs of their own "
            "(--gmf, --mlp)."
        )
    return flat


def from_hyperparameters(values: Mapping[str, str]) -> Experiment:
    """The experiment; names that toolkits add are ignored, any other unknown name raises `ConfigError`."""
    ours = sorted((name, text) for name, text in values.items() if not name.startswith(_NOT_OURS))
    overrides = [f"{name}={_unwrapped(text)}" for name, text in ours]
    return Experiment.parse({}, overrides, source="hyperparameters")


def _flatten(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _unwrapped(text: str) -> str:
    """A list or quoted word without the quotes that a toolkit added; numbers read the same either way."""
    try:
        inner = json.loads(text)
    except ValueError:
        return text
    return inner if isinstance(inner, str) and inner.startswith(("[", '"')) else text


def _write(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return value
    return json.dumps(value)
