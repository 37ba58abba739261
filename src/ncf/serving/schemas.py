"""The models of requests and responses, the limits of a request, and its validation.

In: the bytes of one JSON object. Out: one of five request models, or an `ApiError`, which every mistake of a
caller becomes. All validation of requests is in this file. /openapi.json is made from these models.

The one decision worth knowing: responses are typed dictionaries. `api.py` builds them as plain `dict`s, which
cost nothing at run time, mypy checks the building, and pydantic turns their types into the schemas of
/openapi.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,  # pydantic needs this TypedDict on Python 3.11
)

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError
from pydantic_core import from_json
from typing_extensions import TypedDict

from ncf.errors import NcfError

Id = Annotated[
    StrictInt | StrictStr, Field(description="An id as it was in the data: an integer or a string.")
]
Ids = list[Id]
DEFAULT_K = 10
CROWDED = "ncf.crowded"
"""In the scope of a request: the number of connections where they are more than there may be, else 0."""
K = Annotated[int, Field(ge=1, description="How many items; fewer come back if the catalogue is smaller.")]


class Item(TypedDict):
    """An item; with `describe` also its title and other columns."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    item: Id
    score: float


class _List(TypedDict):
    source: Literal["model", "fold_in", "popularity", "trending", "similar"]
    items: list[Item]
    ignored: Annotated[Ids, Field(description="Ids of the request that the model does not know.")]


class UserList(_List):
    """The best items of a user; the user is null for a visitor."""

    user: Id | None


class ItemList(_List):
    """The most similar items of an item."""

    item: Id
    title: NotRequired[Annotated[str, Field(description="The item's own title, with `describe`.")]]


class Recommendations(TypedDict):
    """A list for each user or item of the request, in its order."""

    recommendations: list[UserList | ItemList]


class Scores(TypedDict):
    """A score for each pair of the request, in its order."""

    scores: list[float]


Answer = Recommendations | Scores


class ErrorDetail(TypedDict):
    """A code for programs, a sentence for people, and the field or limit that is wrong."""

    code: str
    message: str
    field: str | None


class ErrorResponse(TypedDict):
    """A request that cannot be answered."""

    error: ErrorDetail


class ApiError(NcfError):
    """A request that cannot be answered."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        """`status` is the HTTP status; `code`, `message` and `field` are those of `ErrorDetail`."""
        super().__init__(message)
        self.status, self.code, self.field = status, code, field

    def document(self) -> ErrorResponse:
        """The body of the response."""
        return {"error": {"code": self.code, "message": str(self), "field": self.field}}


@dataclass(frozen=True)
class Limits:
    """The size of one body, with all its lines; a larger one is refused with 413 and the limit's name."""

    body_bytes: int = 6 * 2**20
    users: int = 1_000
    """Users or items of one request."""
    ids: int = 50_000
    """Ids in any other list of a request."""
    answers: int = 200_000
    """Items in the answers to a body: lists times k, over all lines."""
    lists: int = 10_000
    """Lists in the answers to a body, over all lines."""
    lines: int = 10_000
    """Lines of a JSON-lines or CSV body."""


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
_MODELS: dict[str, type[Request]] = {
    "users": UsersRequest,
    "pairs": PairsRequest,
    "items": SimilarRequest,
    "user": ListRequest,
    "history": VisitorRequest,
}
"""The field that names each kind of request; only `history` may also be part of another: `users`."""


def read_request(body: bytes, limits: Limits) -> Request:
    """The request in the JSON object `body`.

    Raises `ApiError`: 400 where it is not a JSON object, 413 where it is larger than `limits`, 422 for other
    mistakes.
    """
    try:
        document = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(
            400, "invalid_json", f"The body is not JSON ({error}): send one JSON object."
        ) from None
    if not isinstance(document, dict):
        raise ApiError(400, "invalid_json", 'The body must be a JSON object, such as {"users": ["42"]}.')
    model = _model_of(document)
    _within_limits(document, limits)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _explained(error, model) from None


def _model_of(document: dict[str, Any]) -> type[Request]:
    """The kind of request, by the one field that names it. Raises the 422 where there is none, or more than
    one.
    """
    names = [name for name in _MODELS if name in document]
    if not names:
        raise ApiError(
            422,
            "unknown_request",
            f"The request has none of {', '.join(_MODELS)}: see /openapi.json for what can be asked.",
        )
    if len(names) > 1 and names != ["users", "history"]:
        raise ApiError(
            422,
            "invalid",
            f"{' and '.join(names)} are different kinds of request: send one request for each.",
            names[-1],
        )
    return _MODELS[names[0]]


def _explained(error: ValidationError, model: type[Request]) -> ApiError:
    """The first mistake as a sentence, with the path to it."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    # A location also names the branches of unions that were tried; only fields and indices say something.
    path = [part for part in first["loc"] if isinstance(part, int) or part in model.model_fields]
    name = ".".join(map(str, path)) or ".".join(map(str, first["loc"])) or "the request"
    kind = first["type"]
    if kind == "extra_forbidden":
        fields = ", ".join(model.model_fields)
        name = str(first["loc"][-1])
        return ApiError(
            422, "invalid", f"{name[:80]!r} is not a field here: this request takes {fields}.", name[:80]
        )
    if kind == "missing":
        return ApiError(422, "invalid", f"{name} is missing: give it.", name)
    if len(path) > 1 or (path and path[0] == "user"):
        is_pair = path[0] == "pairs" and len(path) == 2
        expected = "a pair [user, item]" if is_pair else "an id, an integer or a string"
        return ApiError(422, "invalid", f"{name} must be {expected}.", name)
    reason = {
        "int_type": "must be a whole number",
        "greater_than_equal": "must be at least 1",
        "list_type": "must be a list",
        "bool_type": "must be true or false",
        "literal_error": "must be true",
    }.get(kind)
    return ApiError(422, "invalid", f"{name} {reason or 'is not valid: ' + first['msg']}.", name)


def _within_limits(document: dict[str, Any], limits: Limits) -> None:
    for name in ("users", "items", "pairs", "history", "candidates", "exclude", "item", "user"):
        values = document.get(name)
        if isinstance(values, list):
            limit = "users" if name in ("users", "items") else "ids"
            within(values, getattr(limits, limit), limit, name)


def within(values: Sequence[Any], allowed: int, limit: str, what: str | None = None) -> None:
    """Raise the 413 of `too_large` where there are more than `allowed` values; `what` (else `limit`) names
    them.
    """
    if len(values) > allowed:
        raise too_large(limit, allowed, len(values), what or limit)


def too_large(limit: str, allowed: int, count: int, what: str) -> ApiError:
    """The 413 for a `count` of `what` over the limit named `limit`, which is `allowed`."""
    return ApiError(
        413,
        "too_large",
        f"{count:,} {what} are more than the limit {limit} = {allowed:,}: send several requests.",
        limit,
    )
