"""Requests against botocore's service model: what botocore checks, and what it leaves to AWS (patterns, enums, maxima).

In: a service, an operation and its parameters as they came over the wire. Out: the sentence with which AWS refuses
them, or None. The wording is AWS's own ("1 validation error detected: Value …").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any


@cache
def service_model(service: str) -> Any:
    """The model of a service, as botocore names it."""
    import botocore.session

    return botocore.session.get_session().get_service_model(service)


def refusal(service: str, operation: str, parameters: dict[str, Any]) -> str | None:
    """AWS's message for parameters that it would refuse; None for good ones."""
    from botocore.validate import ParamValidator

    shape = service_model(service).operation_model(operation).input_shape
    if shape is None:
        return None
    report = ParamValidator().validate(parameters, shape)
    if report.has_errors():
        return str(report.generate_report())
    wrong = list(_constraints(parameters, shape, ""))
    plural = "error" if len(wrong) == 1 else "errors"
    return f"{len(wrong)} validation {plural} detected: {'; '.join(wrong)}" if wrong else None


def _constraints(value: Any, shape: Any, where: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for name, member in value.items():
            yield from _constraints(member, shape.members[name], f"{where}.{_lower(name)}".lstrip("."))
    elif shape.type_name == "list":
        yield from _size(value, len(value), shape, where)
        for position, member in enumerate(value, start=1):
            yield from _constraints(member, shape.member, f"{where}.{position}.member")
    elif shape.type_name == "map":
        yield from _size(value, len(value), shape, where)
        for key, member in value.items():
            yield from _constraints(key, shape.key, f"{where}.key")
            yield from _constraints(member, shape.value, f"{where}.{key}.member")
    elif shape.type_name == "string":
        yield from _text(value, shape, where)
    elif shape.type_name in ("integer", "long", "float", "double"):
        yield from _size(value, value, shape, where)


def _text(value: str, shape: Any, where: str) -> Iterator[str]:
    yield from _size(value, len(value), shape, where)
    pattern = shape.metadata.get("pattern")
    if pattern and not _compiled(pattern).fullmatch(value):
        yield _failed(value, where, f"Member must satisfy regular expression pattern: {pattern}")
    choices = shape.metadata.get("enum")
    if choices and value not in choices:
        yield _failed(value, where, f"Member must satisfy enum value set: [{', '.join(choices)}]")


def _size(value: Any, size: float, shape: Any, where: str) -> Iterator[str]:
    what = "have length" if shape.type_name in ("string", "list", "map") else "have value"
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if most is not None and size > float(most):
        yield _failed(value, where, f"Member must {what} less than or equal to {most}")
    if least is not None and size < float(least):
        yield _failed(value, where, f"Member must {what} greater than or equal to {least}")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """The models' patterns are Java's; these are the only words of it that Python has not."""
    for java, python in ((r"\p{L}", r"\w"), (r"\p{Z}", r"\s"), (r"\p{N}", r"\d"), (r"\p{M}", r"\w"),
                         (r"\p{P}", r"!-/:-@\[-`{-~"), (r"\p{S}", r"$+<=>^`|~"), (r"\p{Alnum}", "A-Za-z0-9")):  # fmt: skip
        pattern = pattern.replace(java, python)
    for java, python in ((r"\p{Print}", r"\x20-\x7e"), (r"\p{ASCII}", r"\x00-\x7f")):
        pattern = pattern.replace(f"[{java}]", f"[{python}]").replace(java, f"[{python}]")
    pattern = pattern.replace(r"\z", r"\Z")
    pattern = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")
    return re.compile(re.sub(r"\$\{\d+,\d+\}$", "$", pattern))  # CustomerMetadataKey repeats the end


def _failed(value: Any, where: str, constraint: str) -> str:
    return f"Value '{value}' at '{where}' failed to satisfy constraint: {constraint}"


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]
