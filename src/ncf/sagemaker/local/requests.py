"""Requests as AWS would judge them, and what it says to those it refuses.

In: a service, a method's name as boto3 has it, the request. Out: nothing, or an exception of botocore. botocore itself
checks names, types and what must be there; the constraints that only the service checks (patterns, longest values,
lists of values) are in botocore's model too and are checked here. Addresses may be `file://`, instance types `local`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from ncf.errors import ConfigError
from ncf.sagemaker.aws_errors import missing_extra

_NEAR = 8
"""Values that are named where more are admitted."""


def check(service: str, method: str, request: Mapping[str, Any]) -> None:
    """Raise what boto3 or AWS would for a request that cannot be."""
    from botocore.exceptions import ParamValidationError
    from botocore.validate import ParamValidator

    shape = _model(service).operation_model(_operations(service)[method]).input_shape
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        raise ParamValidationError(report=report.generate_report())
    for broken in _broken(shape, request, ""):
        raise refusal(method, f"1 validation error detected: {broken}")


def refusal(method: str, message: str, code: str = "ValidationException", **more: Any) -> Exception:
    """The `ClientError` that boto3 raises where AWS says no."""
    from botocore.exceptions import ClientError

    name = "".join(part.title() for part in method.split("_"))
    error: Exception = ClientError({"Error": {"Code": code, "Message": message}, **more}, name)
    return error


def absent(service: str, method: str) -> Exception:
    """For a method that a local client has not."""
    if method.startswith("_") or method not in _operations(service):
        return AttributeError(f"The client of {service} has no {method}.")
    return ConfigError(f"Local mode has no {method}: leave out --local, or do without it.")


def _broken(shape: Any, value: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if name in value:
                yield from _broken(member, value[name], f"{path}.{name}" if path else name)
    elif shape.type_name == "list":
        yield from _too_many(shape, value, path)
        for number, one in enumerate(value, 1):
            yield from _broken(shape.member, one, f"{path}.{number}.member")
    elif shape.type_name == "map":
        yield from _too_many(shape, value, path)
        for key, one in value.items():
            yield from _broken(shape.key, key, f"{path}.{key}")
            yield from _broken(shape.value, one, f"{path}.{key}")
    elif shape.type_name == "string":
        yield from _wrong_text(shape, value, path)


def _too_many(shape: Any, value: Any, path: str) -> Iterator[str]:
    most = shape.metadata.get("max")
    if most is not None and len(value) > most:
        yield f"Value at '{path}' failed to satisfy constraint: Member must have at most {most} entries"


def _wrong_text(shape: Any, value: str, path: str) -> Iterator[str]:
    said = f"Value '{value}' at '{path}' failed to satisfy constraint: Member must"
    allowed, most, pattern = (shape.metadata.get(name) for name in ("enum", "max", "pattern"))
    if allowed and value not in allowed and value not in ("local", "local_gpu"):
        near = get_close_matches(value, allowed, n=_NEAR, cutoff=0) if len(allowed) > _NEAR else allowed
        yield f"{said} satisfy enum value set: [{', '.join(near)}{', …' * (len(allowed) > _NEAR)}]"
    if most and len(value) > most:
        yield f"{said} have length less than or equal to {most}"
    if pattern and not value.startswith("file://") and not _matches(pattern, value):
        yield f"{said} satisfy regular expression pattern: {pattern}"


def _matches(pattern: str, value: str) -> bool:
    """Whether AWS's pattern admits the value; patterns with classes that Python has not admit everything."""
    return r"\p{" in pattern or re.fullmatch(pattern, value, re.DOTALL) is not None


@cache
def _model(service: str) -> Any:
    try:
        from botocore.loaders import create_loader
        from botocore.model import ServiceModel
    except ImportError:
        raise missing_extra("boto3") from None
    return ServiceModel(create_loader().load_service_model(service, "service-2"))


@cache
def _operations(service: str) -> dict[str, str]:
    """boto3's name of a method -> the operation's."""
    from botocore import xform_name

    return {xform_name(operation): operation for operation in _model(service).operation_names}
