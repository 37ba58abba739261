"""The forms of a request, what each may hold, and what is said of one that is not so.

In: the bytes of one JSON object. Out: one of five request models, or a `WireError`, which is what every mistake of a
caller becomes. All validation of the wire is in this file; /openapi.json is made from its models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError
from pydantic_core import from_json

from ncf.errors import NcfError

Id = Annotated[
    StrictInt | StrictStr, Field(description="An id as it was in the data: an integer or a string.")
]
Ids = list[Id]
DEFAULT_K = 10
K = Annotated[int, Field(ge=1, description="How many items; at most the size of the catalogue.")]


class WireError(NcfError):
    """A request that cannot be answered: the HTTP status, a code for programs, a sentence for people."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.field = status, code, field

    def document(self) -> dict[str, Any]:
        """`{"error": {"code", "message", "field"}}`."""
        return {"error": {"code": self.code, "message": str(self), "field": self.field}}


@dataclass(frozen=True)
class Limits:
    """What one request may ask for; more is refused with 413 and the limit's name."""

    body_bytes: int = 6 * 2**20
    users: int = 1_000
    ids: int = 50_000
    answers: int = 200_000
    lines: int = 10_000


LIMITS = Limits()


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Ranked(_Request):
    """What all requests for ranked items share."""

    k: K = DEFAULT_K
    candidates: Annotated[Ids | None, Field(description="Only these items may appear.")] = None
    exclude: Annotated[Ids, Field(description="These items may not appear.")] = []
    describe: Annotated[bool, Field(description="Add the title and other columns of each item.")] = False


class UsersRequest(Ranked):
    """The best items of each user. `history` needs exactly one user."""

    users: Ids
    history: Annotated[
        Ids | None, Field(description="What the user has used since training, oldest first.")
    ] = None
    exclude_seen: Annotated[bool, Field(description="Leave out what the user is known to have used.")] = True
    strict: Annotated[bool, Field(description="An unknown user is an error.")] = False


class VisitorRequest(Ranked):
    """The best items for a visitor who has used the items of `history`."""

    history: Ids
    exclude_seen: Annotated[bool, Field(description="Leave the history out of the answer.")] = True


class SimilarRequest(Ranked):
    """The most similar items of each item."""

    items: Ids
    similar: Literal[True]


class PairsRequest(_Request):
    """The score of each (user, item)."""

    pairs: list[Annotated[list[Id], Field(min_length=2, max_length=2)]]


class ListRequest(_Request):
    """The best of given items for one user, who is repeated as often as there are items (or given once)."""

    user: Ids | Id
    item: Ids
    k: K = DEFAULT_K
    describe: bool = False


Request = UsersRequest | VisitorRequest | SimilarRequest | PairsRequest | ListRequest
_FORMS: dict[str, type[Request]] = {
    "users": UsersRequest, "pairs": PairsRequest, "items": SimilarRequest, "user": ListRequest, "history": VisitorRequest,
}  # fmt: skip


def read_request(body: bytes, limits: Limits) -> Request:
    """The request in a JSON object. Raises `WireError`: 400 for no JSON, 413 for too much of it, 422 for the rest."""
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise WireError(
            400, "invalid_json", f"The body is not JSON ({error}): send one JSON object."
        ) from None
    if not isinstance(document, dict):
        raise WireError(400, "invalid_json", 'The body must be a JSON object, such as {"users": ["42"]}.')
    for form, model in _FORMS.items():
        if form in document:
            _within_limits(document, limits)
            return _validated(model, document)
    raise WireError(
        422,
        "unknown_request",
        f"The request has none of {', '.join(_FORMS)}: see /openapi.json for what can be asked.",
    )


def _validated(model: type[Request], document: dict[str, Any]) -> Request:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _explained(error, model) from None


def _explained(error: ValidationError, model: type[Request]) -> WireError:
    """The first mistake as a sentence, with the path to it."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = [part for part in first["loc"] if isinstance(part, int) or part in model.model_fields]
    name = ".".join(map(str, path)) or ".".join(map(str, first["loc"])) or "the request"
    kind = first["type"]
    if kind == "extra_forbidden":
        fields = ", ".join(model.model_fields)
        name = str(first["loc"][-1])
        return WireError(
            422, "invalid", f"{name[:80]!r} is not a field here: this request takes {fields}.", name[:80]
        )
    if kind == "missing":
        return WireError(422, "invalid", f"{name} is missing: give it.", name)
    if len(path) > 1 or (path and path[0] == "user"):
        expected = (
            "a pair [user, item]"
            if path[0] == "pairs" and len(path) == 2
            else "an id, an integer or a string"
        )
        return WireError(422, "invalid", f"{name} must be {expected}.", name)
    wants = {
        "int_type": "must be a whole number", "greater_than_equal": "must be at least 1", "list_type": "must be a list",
        "bool_type": "must be true or false", "literal_error": "must be true",
    }.get(kind)  # fmt: skip
    return WireError(422, "invalid", f"{name} {wants or 'is not valid: ' + first['msg']}.", name)


def _within_limits(document: dict[str, Any], limits: Limits) -> None:
    for name in ("users", "items", "pairs", "history", "candidates", "exclude", "item", "user"):
        given = document.get(name)
        if isinstance(given, list):
            which = "users" if name in ("users", "items") else "ids"
            within(given, getattr(limits, which), which, name)


def within(given: Sequence[Any], limit: int, which: str, name: str | None = None) -> None:
    """Raise the 413 where there are more than `limit`."""
    if len(given) > limit:
        raise too_large(which, limit, len(given), name or which)


def too_large(limit: str, allowed: int, given: int, what: str) -> WireError:
    """The 413 that names its limit."""
    return WireError(
        413,
        "too_large",
        f"{given:,} {what} are more than the limit {limit} = {allowed:,}: send several requests.",
        limit,
    )
