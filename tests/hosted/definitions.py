"""Pipeline definitions (schema version 2020-12-01): checked as at CreatePipeline, values resolved, conditions decided.

Source: "Pipeline definition JSON schema"; Developer Guide, "Pipelines steps" (condition, property files, join).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from hosted.store import invalid

Step = dict[str, Any]
_CASTS: dict[str, Callable[[Any], Any]] = {
    "String": str, "Integer": int, "Float": float, "Boolean": lambda text: str(text).lower() == "true",
}  # fmt: skip
_PART = re.compile(r"([^.\[\]]+)|\['([^']+)'\]|\[(\d+)\]")
_TYPES = ("Processing", "Training", "Transform", "Condition", "RegisterModel", "Model", "Fail", "Tuning")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": lambda left, right: bool(left == right),
    "GreaterThan": lambda left, right: bool(left > right),
    "GreaterThanOrEqualTo": lambda left, right: bool(left >= right),
    "LessThan": lambda left, right: bool(left < right),
    "LessThanOrEqualTo": lambda left, right: bool(left <= right),
}


def parsed(text: str) -> dict[str, Any]:
    """The definition; raises what CreatePipeline answers for a wrong one."""
    try:
        definition = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise invalid(f"Unable to parse pipeline definition: {error}") from None
    if definition.get("Version") != "2020-12-01":
        raise invalid(f"Invalid pipeline definition: Version {definition.get('Version')} is not supported.")
    steps = list(every(definition["Steps"]))
    names = [step["Name"] for step in steps]
    if len(set(names)) != len(names):
        raise invalid("Invalid pipeline definition: step names must be unique.")
    parameters = {one["Name"] for one in definition.get("Parameters", ())}
    for step in steps:
        if step["Type"] not in _TYPES:
            raise invalid(f"The double has no steps of the type {step['Type']}.")
        _check_references(step, names, parameters, step)
    return definition


def every(steps: list[Step]) -> Iterator[Step]:
    """All steps, those in conditions too."""
    for step in steps:
        yield step
        if step["Type"] == "Condition":
            yield from every([*step["Arguments"].get("IfSteps", ()), *step["Arguments"].get("ElseSteps", ())])


def arguments(definition: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
    """Values of the parameters; raises for a missing or unknown one."""
    known = {one["Name"]: one for one in definition.get("Parameters", ())}
    if unknown := sorted(set(given) - set(known)):
        raise invalid(f"Parameters {unknown} are not defined in the pipeline definition.")
    values = {}
    for name, one in known.items():
        if name not in given and "DefaultValue" not in one:
            raise invalid(f"Parameter {name} has no default value and must be given.")
        value = given.get(name, one.get("DefaultValue"))
        if one.get("EnumValues") and value not in one["EnumValues"]:
            raise invalid(f"Parameter {name} must be one of {one['EnumValues']}.")
        values[name] = _CASTS[one["Type"]](value)
    return values


def needs(step: Step) -> set[str]:
    """Names of the steps that must have ended before."""
    inner = {one["Name"] for one in every([step])}
    direct = {name for one in every([step]) for name in one.get("DependsOn", ())}
    return (direct | {get.split(".")[1] for get in _gets(step) if get.startswith("Steps.")}) - inner


def resolved(value: Any, get: Callable[[str], Any]) -> Any:
    """The value with its functions replaced."""
    if isinstance(value, dict):
        if set(value) == {"Get"}:
            return get(value["Get"])
        if set(value) == {"Std:Join"}:
            return value["Std:Join"]["On"].join(
                str(resolved(one, get)) for one in value["Std:Join"]["Values"]
            )
        if set(value) == {"Std:JsonGet"}:
            return at(get(value["Std:JsonGet"]["PropertyFile"]["Get"]), value["Std:JsonGet"]["Path"])
        return {name: resolved(one, get) for name, one in value.items()}
    return [resolved(one, get) for one in value] if isinstance(value, list) else value


def at(value: Any, path: str) -> Any:
    """What lies at `a.b[0].c['d']`; outputs of a processing job go by their names."""
    for name, quoted, index in _PART.findall(path):
        if isinstance(value, list) and not index:
            value = next(
                one for one in value if (name or quoted) in (one.get("OutputName"), one.get("InputName"))
            )
        else:
            value = value[int(index)] if index else value[name or quoted]
    return value


def holds(condition: dict[str, Any], get: Callable[[str], Any]) -> bool:
    """Whether a condition is true."""
    kind = condition["Type"]
    if kind == "Not":
        return not holds(condition["Expression"], get)
    if kind in ("Or", "And"):
        return (any if kind == "Or" else all)(holds(one, get) for one in condition["Conditions"])
    if kind == "In":
        return resolved(condition["QueryValue"], get) in resolved(condition["Values"], get)
    return _COMPARISONS[kind](resolved(condition["LeftValue"], get), resolved(condition["RightValue"], get))


def _gets(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if set(value) == {"Get"}:
            yield value["Get"]
        for one in value.values():
            yield from _gets(one)
    elif isinstance(value, list):
        for one in value:
            yield from _gets(one)


def _check_references(step: Step, names: list[str], parameters: set[str], within: Step) -> None:
    for get in _gets(step):
        root, _, rest = get.partition(".")
        known = {"Parameters": parameters, "Steps": set(names), "Execution": {rest}}.get(root, set())
        if rest.split(".")[0] not in known:
            raise invalid(f"Invalid pipeline definition: unable to resolve {get} in step {within['Name']}.")
