"""The space of a search: which settings vary and between which bounds, read from a TOML file.

    "train.learning_rate" = { low = 1e-4, high = 1e-2, log = true }
    "model.factors" = { values = [8, 16, 32] }
    "train.epochs" = { low = 4, high = 20, step = 4 }

In: a file or a mapping. Out: a `Space` of `Parameter`s, whose bounds and values are all valid for their
settings. The setting, not the file, decides whether a range is of integers or of floats.
"""

import json
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ncf.config import Experiment, ModelConfig, PretrainingConfig, TrainConfig, types_of
from ncf.errors import ConfigError
from ncf.recipe_files import or_packaged, packaged_recipes

Kind = Literal["integer", "float", "categorical"]
_KEYS = {"low", "high", "log", "step", "values"}
_SECTIONS: dict[str, type[BaseModel]] = {"model": ModelConfig, "train": TrainConfig}
_NOT_TUNED = {
    "validation", "seed", "threads", "device", "evaluate_every", "checkpoint_every", "keep_checkpoints",
}  # fmt: skip
"""Settings of [train] that decide how a trial is run or evaluated, not how good it is."""


@dataclass(frozen=True)
class Parameter:
    """One setting that varies: a range with `low` and `high`, both included, or a choice among `values`.

    `values` holds JSON values (numbers, strings, booleans, lists) and is empty for a range. `low`, `high` and
    `step` are None for a choice; `step` is also None for a range without one.
    """

    name: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    values: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Space:
    """The parameters of a search, in the order of the file."""

    parameters: tuple[Parameter, ...]

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The space in the file `path`, or the package's of this name; raises `ConfigError` for the first
        mistake."""
        try:
            values = tomllib.loads(or_packaged(Path(path), "spaces").read_text("utf-8"))
        except FileNotFoundError:
            known = ", ".join(packaged_recipes("spaces"))
            raise ConfigError(
                f"There is no space file {path}: check the path, or take one of the package ({known})."
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The space file {path} cannot be read ({error}): check the path and its permissions."
            ) from None
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"The space file {path} is not valid: {error}.") from None
        return cls.parse(values, str(path))

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "space") -> Self:
        """The space of `values`, nested tables or dotted names; `source` names it in a `ConfigError`."""
        parameters = tuple(_parameter(name, entry, source) for name, entry in _entries(values, ""))
        if not parameters:
            raise ConfigError(
                f"{source} has no settings to search: add one, as in recipes/spaces/default.toml."
            )
        names = [parameter.name for parameter in parameters]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ConfigError(f"{source}: {twice} is given twice: keep one of the two.")
        return cls(parameters)

    @classmethod
    def of_defaults(cls, values: Mapping[str, Any], defaults: Mapping[str, Any], source: str) -> Self:
        """The space of settings that have `defaults` instead of a recipe; it may be empty.

        A range is of integers where the default of its setting is one. `source` names it in a `ConfigError`.
        """
        parameters = []
        for name, entry in values.items():
            where = f"{source}: {name}"
            if name not in defaults:
                raise ConfigError(f"{where} is not a setting; the settings are {', '.join(defaults)}.")
            _shaped(entry, where)
            if "values" in entry:
                parameters.append(Parameter(name, "categorical", values=tuple(entry["values"])))
                continue
            low, high, log, step = (entry.get(key) for key in ("low", "high", "log", "step"))
            _sound_range(low, high, step, log or False, where)
            kind: Kind = "integer" if isinstance(defaults[name], int) else "float"
            parameters.append(Parameter(name, kind, low, high, log or False, step))
        return cls(tuple(parameters))

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def check(self, experiment: Experiment) -> None:
        """Raise `ConfigError` where a parameter names a half of pre-training and `experiment` has no pre-
        training.
        """
        for parameter in self:
            if parameter.name.startswith("pretraining.") and experiment.pretraining is None:
                raise ConfigError(f"{parameter.name}: the recipe has no [pretraining] table to vary.")

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Chosen values as `Experiment.parse` takes them: `["train.epochs=8"]`."""
        return [f"{parameter.name}={json.dumps(values[parameter.name])}" for parameter in self]


def _entries(values: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    """Dotted names with their range or choice; a table without low, high or values is a section."""
    for name, value in values.items():
        if isinstance(value, dict) and value and not _KEYS & set(value):
            yield from _entries(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _parameter(name: str, entry: Any, source: str) -> Parameter:
    where = f"{source}: {name}"
    setting = _setting(name, source)
    _shaped(entry, where)
    return _choice(name, entry, setting, where) if "values" in entry else _range(name, entry, setting, where)


def _shaped(entry: Any, where: str) -> None:
    """Raise `ConfigError` unless an entry has the keys of a range or of a choice."""
    if not isinstance(entry, dict) or not ({"values"} <= set(entry) or {"low", "high"} <= set(entry)):
        raise ConfigError(
            f"{where} takes {{ low = …, high = … }}, with log or step if wanted, or {{ values = […] }}."
        )
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise ConfigError(
            f"{where} has the unknown key {unknown[0]!r}: the keys are low, high, log, step and values."
        )


def _setting(name: str, source: str) -> FieldInfo:
    """The field of a recipe that a dotted name means."""
    *sections, key = name.split(".")
    halves = sections[:2] in (["pretraining", "gmf"], ["pretraining", "mlp"])
    inner = sections[2:] if halves else sections
    fields: Mapping[str, FieldInfo] = {}
    if len(inner) == 1 and inner[0] in _SECTIONS:
        fields = _SECTIONS[inner[0]].model_fields
        if inner[0] == "train" and key in _NOT_TUNED:
            raise ConfigError(
                f"{source}: {name} is not searched over, because it decides how a trial is run or evaluated: "
                "set it in the recipe."
            )
    elif sections == ["pretraining"] and key == "alpha":
        fields = PretrainingConfig.model_fields
    if key not in fields or (halves and inner == ["model"] and key == "kind"):
        raise ConfigError(
            f"{source}: {name} is not a setting that can be searched. Those of model, train and "
            "pretraining.alpha can: see docs/training.md for the list."
        )
    return fields[key]


def _choice(name: str, entry: Mapping[str, Any], setting: FieldInfo, where: str) -> Parameter:
    values = entry["values"]
    if set(entry) != {"values"}:
        raise ConfigError(f"{where} has values and a range: keep one of the two.")
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}: values must be a list of at least one value, such as [8, 16, 32].")
    for value in values:
        _admitted(setting, value, where)
    if len({json.dumps(value) for value in values}) < len(values):
        raise ConfigError(f"{where}: a value is given twice: remove one.")
    return Parameter(name, "categorical", values=tuple(values))


def _range(name: str, entry: Mapping[str, Any], setting: FieldInfo, where: str) -> Parameter:
    number = _number_of(setting)
    if number is None:
        raise ConfigError(f"{where} is not a number, so it takes {{ values = […] }} instead of a range.")
    low, high, step, log = entry["low"], entry["high"], entry.get("step"), entry.get("log", False)
    for value in (low, high):
        _admitted(setting, value, where)
    _sound_range(low, high, step, log, where)
    if number is int:
        if step is not None and not isinstance(step, int):
            raise ConfigError(f"{where} is an integer, but its step {step} is not.")
        return Parameter(name, "integer", low, high, log, step)
    return Parameter(name, "float", float(low), float(high), log, None if step is None else float(step))


def _number_of(setting: FieldInfo) -> type | None:
    """int or float, of a setting that is a number or may be one; else None."""
    return next((kind for kind in (int, float) if kind in types_of(setting.annotation)), None)


def _sound_range(low: float, high: float, step: Any, log: Any, where: str) -> None:
    if low > high:
        raise ConfigError(f"{where}: low is {low} and high is {high}: low must not exceed high.")
    if not isinstance(log, bool):
        raise ConfigError(f"{where}: log must be true or false, not {log!r}.")
    if log and low <= 0:
        raise ConfigError(f"{where}: a logarithmic range must start above zero, but low is {low}.")
    if step is None:
        return
    if log:
        raise ConfigError(f"{where}: a logarithmic range cannot have a step: leave out log or step.")
    if isinstance(step, bool) or not isinstance(step, int | float) or not math.isfinite(step) or step <= 0:
        raise ConfigError(f"{where}: step must be a number above zero, not {step!r}.")
    steps = (high - low) / step
    if abs(steps - round(steps)) > 1e-6:
        last = low + math.floor(steps) * step
        raise ConfigError(f"{where}: steps of {step} from {low} do not reach {high}: set high to {last:g}.")


def _admitted(setting: FieldInfo, value: Any, where: str) -> None:
    """Raise `ConfigError` unless the setting takes the value."""
    try:
        if isinstance(value, bool) and _number_of(setting):
            raise ConfigError(f"{where}: {value!r} is not a number.")
        kind: Any = Annotated[setting.annotation, setting]
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise ConfigError(f"{where}: {message}, not {value!r}.") from None
