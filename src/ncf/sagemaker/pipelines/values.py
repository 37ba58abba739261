"""The functions of a pipeline definition: written and read in one place, so that local mode and AWS agree.

| function | JSON |
| --- | --- |
| a parameter, a step, the execution | `{"Get": "Parameters.X" \\| "Steps.X.Y" \\| "Execution.X"}` |
| texts joined | `{"Std:Join": {"On": "/", "Values": […]}}` |
| a value of a JSON file that a step wrote | `{"Std:JsonGet": {"PropertyFile": {"Get": …}, "Path": "a.b"}}` |

Source: "Pipeline definition JSON schema", version 2020-12-01.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ncf.errors import CloudError

Value = Any
_STEP = re.compile(r"([^.\[\]]+)|\['([^']+)'\]|\[(\d+)\]")


def parameter(name: str) -> Value:
    """A parameter of the pipeline."""
    return {"Get": f"Parameters.{name}"}


def of_step(step: str, path: str) -> Value:
    """A property of an earlier step: the path in what Describe… answers about its job."""
    return {"Get": f"Steps.{step}.{path}"}


def of_execution(name: str) -> Value:
    """A fact of the execution: `PipelineExecutionId`, `PipelineName`, `StartDateTime`, …"""
    return {"Get": f"Execution.{name}"}


def joined(on: str, *values: Value) -> Value:
    """Texts and values joined by `on`."""
    return {"Std:Join": {"On": on, "Values": list(values)}}


def from_file(step: str, file: str, path: str) -> Value:
    """The value at `path` in a property file of a step."""
    return {"Std:JsonGet": {"PropertyFile": {"Get": f"Steps.{step}.PropertyFiles.{file}"}, "Path": path}}


def resolve(value: Value, get: Callable[[str], Value]) -> Value:
    """The value with every function replaced by its result; `get` returns what a `Get` names."""
    if isinstance(value, Mapping):
        if set(value) == {"Get"}:
            return get(value["Get"])
        if set(value) == {"Std:Join"}:
            parts = resolve(value["Std:Join"]["Values"], get)
            return str(value["Std:Join"]["On"]).join(text_of(part) for part in parts)
        if set(value) == {"Std:JsonGet"}:
            inner = value["Std:JsonGet"]
            return at_path(get(inner["PropertyFile"]["Get"]), inner["Path"])
        return {name: resolve(inner, get) for name, inner in value.items()}
    return [resolve(item, get) for item in value] if isinstance(value, list) else value


def references(value: Value) -> Iterator[str]:
    """Yield every name that a `Get` within the value asks for."""
    if isinstance(value, Mapping):
        if set(value) == {"Get"}:
            yield value["Get"]
        else:
            for inner in value.values():
                yield from references(inner)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def at_path(value: Value, path: str) -> Value:
    """The value at a path such as `a.b[0]['c']`; raises `CloudError` where there is none."""
    for name, quoted, index in _STEP.findall(path):
        value = _entry(value, int(index) if index else name or quoted, path)
    return value


def _entry(value: Value, key: str | int, path: str) -> Value:
    """An entry of a mapping or a list; of a list of named things, such as outputs, the one of that name."""
    try:
        if isinstance(value, list) and isinstance(key, str):
            return next(item for item in value if key in (item.get("OutputName"), item.get("InputName")))
        return value[key]
    except (KeyError, IndexError, TypeError, StopIteration):
        raise CloudError(f"The step left no {path}: see its log.") from None


def text_of(value: Value) -> str:
    """A value as part of a text; booleans as JSON writes them."""
    return str(value).lower() if isinstance(value, bool) else str(value)
