"""The API without HTTP: bytes in, bytes out, and every mistake of a caller as one clear error.

| request | answer |
| --- | --- |
| `{"users": ["42"], "k": 10}` | the best items of each user; `history`: what one has used since training |
| `{"history": ["1", "50"], "k": 10}` | the best items for a visitor who was not in training |
| `{"items": ["50"], "k": 10, "similar": true}` | similar items of each item |
| `{"pairs": [["42", "50"], …]}` | the score of each pair |
| `{"user": [7, 7, …], "item": [25, 1064, …], "k": 10}` | the best of these items for this one user |

as JSON, as JSON lines (one request and one answer a line, in order) or as CSV (one user id and one answer a
line). `candidates` and `exclude` filter, `exclude_seen` (true) leaves out what the user has used, `strict`
refuses unknown users, `describe` adds titles. docs/serving.md shows each with its answer.

The one decision worth knowing: `read`, `answer` and `write` know nothing of HTTP. The server composes them,
and so do the four functions that AWS's containers call.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from ncf.data.columns import is_heading
from ncf.data.id_lists import ids_of_rows
from ncf.errors import ConfigError, UnknownIdError
from ncf.serving.documents import Subject, list_document, rounded
from ncf.serving.recommender import Recommendation, Recommender
from ncf.serving.schemas import (
    DEFAULT_K,
    LIMITS,
    Answer,
    ApiError,
    Limits,
    ListRequest,
    PairsRequest,
    Ranked,
    Request,
    SimilarRequest,
    UsersRequest,
    VisitorRequest,
    read_request,
    too_large,
    within,
)

_FORMATS = {
    "application/json": "json",
    "application/jsonlines": "jsonlines",
    "application/x-ndjson": "jsonlines",
    "application/jsonl": "jsonlines",
    "text/csv": "csv",
}
_TYPES = {"json": "application/json", "jsonlines": "application/jsonlines", "csv": "text/csv; charset=utf-8"}


@dataclass(frozen=True)
class ParsedBody:
    """The format of a body, and a request (or its mistake) for each line; JSON has one."""

    format: str
    requests: list[Request | ApiError]


@dataclass(frozen=True)
class Result:
    """The answer to one request: the document to send, and the source of each list in it."""

    document: Answer
    sources: Sequence[str] = ()


class _Work:
    """What the lines of a body have asked for so far; a line that asks for too much does not count."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self._lists, self._items = limits, 0, 0

    def add(self, lists: int, k: int) -> None:
        """Count so many `lists` of `k` items; raises the 413 where that is more than the body may ask for."""
        most, wanted, items = self._limits, self._lists + lists, self._items + lists * k
        if wanted > max(most.lists, most.users):
            raise too_large("lists", most.lists, wanted, "lists for one body")
        if items > most.answers:
            raise too_large("answers", most.answers, items, "items for one body (lists x k, over all lines)")
        self._lists, self._items = wanted, items


def read(body: bytes, content_type: str | None, limits: Limits = LIMITS) -> ParsedBody:
    """Understand a `body` of this content type (None: JSON).

    Raises `ApiError`, also for a body over the `limits`; in JSON lines a bad line is an error of that line
    alone.
    """
    format = _format_of(content_type)
    if len(body) > limits.body_bytes:
        raise too_large("body_bytes", limits.body_bytes, len(body), "bytes in a body")
    if format == "json":
        return ParsedBody(format, [read_request(body, limits)])
    if format == "csv":
        return ParsedBody(format, _csv_requests(body, limits))
    lines = [line for line in body.splitlines() if line.strip()]
    within(lines, limits.lines, "lines")
    return ParsedBody(format, [_request_or_error(line, limits) for line in lines])


def answer(recommender: Recommender, call: ParsedBody, limits: Limits = LIMITS) -> list[Result | ApiError]:
    """An answer from `recommender` to each request of `call`, in order; a mistake raises `ApiError` in JSON
    only.
    """
    if call.format == "csv":
        return _csv_answers(recommender, call)
    answers: list[Result | ApiError] = []
    work = _Work(limits)
    for request in call.requests:
        try:
            answers.append(_answer(recommender, request, work))
        except ApiError as error:
            if call.format == "json":
                raise
            answers.append(error)
    return answers


def write(answers: Sequence[Result | ApiError], format: str) -> bytes:
    """The body with these answers in a format of `answer_format`."""
    documents = [answer.document() if isinstance(answer, ApiError) else answer.document for answer in answers]
    if format == "json":
        document = documents[0] if len(documents) == 1 else documents
        return to_json(document, inf_nan_mode="null")
    if format == "jsonlines":
        return b"".join(to_json(line, inf_nan_mode="null") + b"\n" for line in documents)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_cells(line) for line in documents)
    return text.getvalue().encode()


def answer_format(accept: str | None, asked_in: str) -> str:
    """The format of the answer ("json", "jsonlines" or "csv") by the Accept header.

    Where that takes anything it is `asked_in`, the request's format. Raises the 406 where it takes none of
    ours.
    """
    for media, quality in sorted(_accepted(accept or "*/*"), key=lambda choice: -choice[1]):
        if not quality > 0:
            continue
        if media in ("*/*", "application/*"):
            return asked_in
        if media == "text/*":
            return "csv"
        if media in _FORMATS:
            return _FORMATS[media]
    raise ApiError(
        406,
        "not_acceptable",
        f"The answer cannot be {accept!r}: accept one of {', '.join(_FORMATS)}.",
        "Accept",
    )


def media_type(format: str) -> str:
    """The Content-Type of a format."""
    return _TYPES[format]


def _format_of(content_type: str | None) -> str:
    media = (content_type or "application/json").split(";")[0].strip().lower()
    if media not in _FORMATS:
        raise ApiError(
            415,
            "unsupported_media_type",
            f"The content type {media!r} is not supported: send one of {', '.join(_FORMATS)}.",
            "Content-Type",
        )
    return _FORMATS[media]


def _accepted(accept: str) -> Iterable[tuple[str, float]]:
    """Media types and qualities of an Accept header; one whose quality is not a number has zero."""
    for part in accept.split(","):
        media, *parameters = (piece.strip() for piece in part.lower().split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            yield media, float(quality)
        except ValueError:
            yield media, 0.0


def _request_or_error(line: bytes, limits: Limits) -> Request | ApiError:
    try:
        return read_request(line, limits)
    except ApiError as error:
        return error


def _answer(recommender: Recommender, request: Request | ApiError, work: _Work) -> Result:
    if isinstance(request, ApiError):
        raise request
    try:
        return _ANSWERS[type(request)](recommender, request, work)
    except UnknownIdError as error:
        raise ApiError(422, "unknown_id", str(error)) from None
    except ConfigError as error:
        raise ApiError(422, "invalid", str(error)) from None


def _k(recommender: Recommender, request: Ranked | ListRequest, lists: int, work: _Work) -> int:
    """The request's k, or the size of a smaller catalogue."""
    k = min(request.k, len(recommender.items))
    work.add(lists, k)
    return k


def _users(recommender: Recommender, request: UsersRequest, work: _Work) -> Result:
    k = _k(recommender, request, len(request.users), work)
    lists = recommender.recommend(
        request.users,
        k,
        history=request.history,
        exclude_seen=request.exclude_seen,
        candidates=request.candidates,
        exclude=request.exclude,
        strict=request.strict,
    )
    return _recommendations(recommender, lists, "user", request.describe)


def _visitor(recommender: Recommender, request: VisitorRequest, work: _Work) -> Result:
    k = _k(recommender, request, 1, work)
    best = recommender.recommend_visitor(
        request.history,
        k,
        exclude_seen=request.exclude_seen,
        candidates=request.candidates,
        exclude=request.exclude,
    )
    return _recommendations(recommender, [best], "user", request.describe)


def _similar(recommender: Recommender, request: SimilarRequest, work: _Work) -> Result:
    k = _k(recommender, request, len(request.items), work)
    lists = [
        recommender.similar_items(item, k, candidates=request.candidates, exclude=request.exclude)
        for item in request.items
    ]
    return _recommendations(recommender, lists, "item", request.describe)


def _pairs(recommender: Recommender, request: PairsRequest, _: _Work) -> Result:
    users, items = ([pair[side] for pair in request.pairs] for side in (0, 1))
    return Result({"scores": rounded(recommender.score(users, items).tolist())})


def _given_list(recommender: Recommender, request: ListRequest, work: _Work) -> Result:
    users = request.user if isinstance(request.user, list) else [request.user] * len(request.item)
    if len(users) != len(request.item):
        raise ApiError(
            422,
            "invalid",
            f"user and item must be equally long, and are {len(users)} and {len(request.item)}.",
            "user",
        )
    if not users:
        return Result({"recommendations": []})
    if users.count(users[0]) != len(users):
        raise ApiError(
            422,
            "invalid",
            'user must repeat one user: ask for several with {"users": [...], "candidates": [...]}.',
            "user",
        )
    k = _k(recommender, request, 1, work)
    best = recommender.recommend(users[0], k, exclude_seen=False, candidates=request.item)
    return _recommendations(recommender, [best], "user", request.describe)


_ANSWERS: dict[type[Any], Callable[[Recommender, Any, _Work], Result]] = {
    UsersRequest: _users,
    VisitorRequest: _visitor,
    SimilarRequest: _similar,
    PairsRequest: _pairs,
    ListRequest: _given_list,
}


def _recommendations(
    recommender: Recommender, lists: Sequence[Recommendation], subject: Subject, describe: bool
) -> Result:
    documents = [list_document(recommender, answer, subject, describe) for answer in lists]
    return Result({"recommendations": documents}, [answer.source for answer in lists])


def _csv_requests(body: bytes, limits: Limits) -> list[Request | ApiError]:
    """A request for each line: its only cell is a user id, or a first line of names says which cell is.

    A usual name of users (`user_id`, `userId`, `user`, …) in the first line makes it a heading.
    """
    try:
        rows = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline="")))
        within([row for row in rows if row], limits.lines, "lines")
        users = ids_of_rows(rows, "user")
    except (ValueError, csv.Error) as error:
        raise ApiError(
            400, "invalid_csv", f"The body is not CSV of users ({error}): send one user id a line."
        ) from None
    return [UsersRequest(users=[user]) for user in users]


def _csv_answers(recommender: Recommender, call: ParsedBody) -> list[Result | ApiError]:
    """All users in one call: the same as one by one, but faster.

    A first line that is the name of that column in the data is a heading too.
    """
    users = [request.users[0] for request in call.requests if isinstance(request, UsersRequest)]
    name = recommender.artifact.column_names.get("user")
    if users and name and is_heading(str(users[0]), "user", name):
        users = users[1:]
    lists = recommender.recommend(users, DEFAULT_K) if users else []
    return [_recommendations(recommender, [answer], "user", False) for answer in lists]


def _cells(document: Any) -> list[Any]:
    """The cells of a document's line in CSV: scores, or for each list its subject, source and items."""
    if "error" in document:
        return ["error", document["error"]["code"], document["error"]["message"]]
    if "scores" in document:
        return list(document["scores"])
    cells: list[Any] = []
    for answer in document["recommendations"]:
        ids = [item["item"] for item in answer["items"]]
        cells += [answer.get("user", answer.get("item")), answer["source"], *ids]
    return cells
