"""Requests checked against botocore's model of a service, and the errors with which AWS refuses them.

In: a service, an operation and its parameters. Out: AWS's own sentence for a request that it would refuse, or
None. botocore's client checks names, types and required members before it sends. The service checks patterns,
enums and sizes; these constraints are in botocore's model too, so they are checked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from ncf.errors import need

_NEAR = 8
"""How many values of a long enum an error names."""
_JAVA = {
    r"\p{L}": r"\w", r"\p{Z}": r"\s", r"\p{N}": r"\d", r"\p{M}": r"\w", r"\p{P}": r"!-/:-@\[-`{-~",
    r"\p{S}": r"$+<=>^`|~", r"\p{Alnum}": "A-Za-z0-9",
}  # fmt: skip


class Refusal(Exception):
    """An error that AWS answers with: its code, its message, the HTTP status and further members."""

    def __init__(
        self, code: str, message: str, status: int = 400, more: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.more = code, message, status, dict(more or {})


def invalid(message: str) -> Refusal:
    """The error with the code that SageMaker uses most."""
    return Refusal("ValidationException", message)


@cache
def service_model(service: str) -> Any:
    """botocore's model of a service, by botocore's name of it."""
    need("sagemaker", "boto3")
    from botocore.loaders import create_loader
    from botocore.model import ServiceModel

    return ServiceModel(create_loader().load_service_model(service, "service-2"))


def refusal(service: str, operation: str, parameters: Mapping[str, Any], local: bool = False) -> str | None:
    """AWS's message for parameters that it would refuse; None for good ones.

    With `local`, `file://` addresses and the instance types `local` and `local_gpu` pass too.
    """
    from botocore.validate import ParamValidator

    shape = service_model(service).operation_model(operation).input_shape
    if shape is None:
        return None
    report = ParamValidator().validate(parameters, shape)
    if report.has_errors():
        return str(report.generate_report())
    wrong = list(_broken(parameters, shape, "", local))
    plural = "error" if len(wrong) == 1 else "errors"
    return f"{len(wrong)} validation {plural} detected: {'; '.join(wrong)}" if wrong else None


def _broken(value: Any, shape: Any, path: str, local: bool) -> Iterator[str]:
    """A sentence for each constraint that the value or a part of it breaks."""
    if shape.type_name == "structure":
        for name, member in value.items():
            inner = f"{path}.{name[:1].lower()}{name[1:]}".lstrip(".")
            yield from _broken(member, shape.members[name], inner, local)
    elif shape.type_name == "list":
        yield from _size(value, len(value), shape, path)
        for position, member in enumerate(value, start=1):
            yield from _broken(member, shape.member, f"{path}.{position}.member", local)
    elif shape.type_name == "map":
        yield from _size(value, len(value), shape, path)
        for key, member in value.items():
            yield from _broken(key, shape.key, f"{path}.key", local)
            yield from _broken(member, shape.value, f"{path}.{key}.member", local)
    elif shape.type_name == "string":
        yield from _text(value, shape, path, local)
    elif shape.type_name in ("integer", "long", "float", "double"):
        yield from _size(value, value, shape, path)


def _text(value: str, shape: Any, path: str, local: bool) -> Iterator[str]:
    yield from _size(value, len(value), shape, path)
    pattern, allowed = shape.metadata.get("pattern"), shape.metadata.get("enum")
    if pattern and not (local and value.startswith("file://")) and not _compiled(pattern).fullmatch(value):
        yield _failed(value, path, f"satisfy regular expression pattern: {pattern}")
    if allowed and value not in allowed and not (local and value in ("local", "local_gpu")):
        near = get_close_matches(value, allowed, n=_NEAR, cutoff=0) if len(allowed) > _NEAR else allowed
        more = ", …" * (len(allowed) > _NEAR)
        yield _failed(value, path, f"satisfy enum value set: [{', '.join(near)}{more}]")


def _size(value: Any, size: float, shape: Any, path: str) -> Iterator[str]:
    what = "length" if shape.type_name in ("string", "list", "map") else "value"
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if most is not None and size > float(most):
        yield _failed(value, path, f"have {what} less than or equal to {most}")
    if least is not None and size < float(least):
        yield _failed(value, path, f"have {what} greater than or equal to {least}")


def _failed(value: Any, path: str, constraint: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {constraint}"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """A pattern of the model, which is written for Java, in Python's words."""
    for java, python in _JAVA.items():
        pattern = pattern.replace(java, python)
    for java, python in ((r"\p{Print}", r"\x20-\x7e"), (r"\p{ASCII}", r"\x00-\x7f")):
        pattern = pattern.replace(f"[{java}]", f"[{python}]").replace(java, f"[{python}]")
    pattern = pattern.replace(r"\z", r"\Z")
    pattern = pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")
    # The pattern of CustomerMetadataKey repeats its bounds after the end of the text.
    return re.compile(re.sub(r"\$\{\d+,\d+\}$", "$", pattern), re.DOTALL)
