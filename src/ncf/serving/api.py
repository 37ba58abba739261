"""The wire: bytes in, bytes out, and every mistake of a caller as one clear error.

| request | answer |
| --- | --- |
| `{"users": ["42"], "k": 10}` | the best items of each user; `history` adds what one user has used since training |
| `{"history": ["1", "50"], "k": 10}` | the best items for a visitor who was not in training |
| `{"items": ["50"], "k": 10, "similar": true}` | similar items of each item |
| `{"pairs": [["42", "50"], …]}` | the score of each pair |
| `{"user": [7, 7, …], "item": [25, 1064, …], "k": 10}` | the best of these items for this one user |

as JSON, as JSON lines (a request a line, an answer a line, in order) or as CSV (a user id a line, an answer a line).
`candidates` and `exclude` filter, `exclude_seen` (true) leaves out what is known to be used, `strict` refuses unknown
users, `describe` adds titles. docs/serving.md shows each with its answer.

The one decision worth knowing: `read`, `answer` and `write` know nothing of HTTP. The server composes them, and so do
the four functions that AWS's containers call.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from ncf.errors import ConfigError, UnknownIdError
from ncf.serving.recommender import Recommendation, Recommender
from ncf.serving.schemas import (
    DEFAULT_K,
    LIMITS,
    Limits,
    ListRequest,
    PairsRequest,
    Ranked,
    Request,
    SimilarRequest,
    UsersRequest,
    VisitorRequest,
    WireError,
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
    """A body that was read: its format, and a request (or what is wrong with it) a line; JSON has one."""

    format: str
    requests: list[Request | WireError]


@dataclass(frozen=True)
class Result:
    """The answer to one request: what to send, and the source of each list in it."""

    document: dict[str, Any]
    sources: Sequence[str] = ()


def read(body: bytes, content_type: str | None, limits: Limits = LIMITS) -> ParsedBody:
    """Understand a body. Raises `WireError`; in JSON lines a bad line is an error of that line alone."""
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


def answer(recommender: Recommender, call: ParsedBody, limits: Limits = LIMITS) -> list[Result | WireError]:
    """An answer to each request of the call, in order; JSON has one, and its mistakes raise `WireError`."""
    if call.format == "csv":
        return _csv_answers(recommender, call)
    answers: list[Result | WireError] = []
    for request in call.requests:
        try:
            answers.append(_answer(recommender, request, limits))
        except WireError as error:
            if call.format == "json":
                raise
            answers.append(error)
    return answers


def write(answers: Sequence[Result | WireError], format: str) -> bytes:
    """The body of the answer in one of the formats."""
    documents = [one.document() if isinstance(one, WireError) else one.document for one in answers]
    if format == "json":
        return to_json(documents[0] if len(documents) == 1 else documents)
    if format == "jsonlines":
        return b"".join(to_json(line) + b"\n" for line in documents)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_cells(line) for line in documents)
    return text.getvalue().encode()


def answer_format(accept: str | None, asked_in: str) -> str:
    """The format of the answer by the Accept header; that of the request where the caller takes anything."""
    for choice in sorted(_accepted(accept or "*/*"), key=lambda one: -one[1]):
        if choice[0] in ("*/*", "application/*") and choice[1] > 0:
            return asked_in
        if choice[0] == "text/*" and choice[1] > 0:
            return "csv"
        if choice[0] in _FORMATS and choice[1] > 0:
            return _FORMATS[choice[0]]
    raise WireError(
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
        raise WireError(
            415, "unsupported_media_type",
            f"The content type {media!r} is not understood: send one of {', '.join(_FORMATS)}.", "Content-Type",
        )  # fmt: skip
    return _FORMATS[media]


def _accepted(accept: str) -> Iterable[tuple[str, float]]:
    for part in accept.split(","):
        media, *parameters = (piece.strip() for piece in part.lower().split(";"))
        quality = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        try:
            yield media, float(quality)
        except ValueError:
            yield media, 0.0


def _request_or_error(line: bytes, limits: Limits) -> Request | WireError:
    try:
        return read_request(line, limits)
    except WireError as error:
        return error


def _answer(recommender: Recommender, request: Request | WireError, limits: Limits) -> Result:
    if isinstance(request, WireError):
        raise request
    try:
        return _ANSWERS[type(request)](recommender, request, limits)
    except UnknownIdError as error:
        raise WireError(422, "unknown_id", str(error)) from None
    except ConfigError as error:
        raise WireError(422, "invalid", str(error)) from None


def _k(recommender: Recommender, request: Ranked | ListRequest, lists: int, limits: Limits) -> int:
    """The k of a request; a catalogue smaller than the default is no mistake of a caller who gave none."""
    items = len(recommender.items)
    k = request.k if "k" in request.model_fields_set else min(DEFAULT_K, items)
    if k > items:
        raise WireError(422, "invalid", f"k must be at most {items:,}, the size of the catalogue.", "k")
    if k * lists > limits.answers:
        raise too_large("answers", limits.answers, k * lists, "items in an answer (lists x k)")
    return k


def _users(recommender: Recommender, request: UsersRequest, limits: Limits) -> Result:
    k = _k(recommender, request, len(request.users), limits)
    lists = recommender.recommend(
        request.users, k, history=request.history, exclude_seen=request.exclude_seen,
        candidates=request.candidates, exclude=request.exclude, strict=request.strict,
    )  # fmt: skip
    return _recommendations(recommender, lists, "user", request.describe)


def _visitor(recommender: Recommender, request: VisitorRequest, limits: Limits) -> Result:
    k = _k(recommender, request, 1, limits)
    one = recommender.recommend_visitor(
        request.history, k, exclude_seen=request.exclude_seen,
        candidates=request.candidates, exclude=request.exclude,
    )  # fmt: skip
    return _recommendations(recommender, [one], "user", request.describe)


def _similar(recommender: Recommender, request: SimilarRequest, limits: Limits) -> Result:
    k = _k(recommender, request, len(request.items), limits)
    lists = [
        recommender.similar_items(item, k, candidates=request.candidates, exclude=request.exclude)
        for item in request.items
    ]
    return _recommendations(recommender, lists, "item", request.describe)


def _pairs(recommender: Recommender, request: PairsRequest, _: Limits) -> Result:
    users, items = ([pair[side] for pair in request.pairs] for side in (0, 1))
    return Result({"scores": _rounded(recommender.score(users, items).tolist())})


def _given_list(recommender: Recommender, request: ListRequest, limits: Limits) -> Result:
    users = request.user if isinstance(request.user, list) else [request.user] * len(request.item)
    if len(users) != len(request.item):
        raise WireError(
            422,
            "invalid",
            f"user and item must be equally long, and are {len(users)} and {len(request.item)}.",
            "user",
        )
    if not users:
        return Result({"recommendations": []})
    if users.count(users[0]) != len(users):
        raise WireError(
            422,
            "invalid",
            'user must repeat one user: ask for several with {"users": [...], "candidates": [...]}.',
            "user",
        )
    k = _k(recommender, request, 1, limits)
    one = recommender.recommend(users[0], k, exclude_seen=False, candidates=request.item)
    return _recommendations(recommender, [one], "user", request.describe)


_ANSWERS: dict[type[Any], Callable[[Recommender, Any, Limits], Result]] = {
    UsersRequest: _users, VisitorRequest: _visitor, SimilarRequest: _similar, PairsRequest: _pairs,
    ListRequest: _given_list,
}  # fmt: skip


def _recommendations(
    recommender: Recommender, lists: Sequence[Recommendation], subject: str, describe: bool
) -> Result:
    documents = [list_document(recommender, one, subject, describe) for one in lists]
    return Result({"recommendations": documents}, [one.source for one in lists])


def list_document(
    recommender: Recommender, one: Recommendation, subject: str, describe: bool
) -> dict[str, Any]:
    """One list as it goes out; `subject` is "user" or "item", whose title is told as well with `describe`."""
    items = _items(recommender, one, describe)
    document = {subject: one.subject, "source": one.source, "items": items, "ignored": one.ignored}
    title = recommender.describe([one.subject])[0].get("title") if describe and subject == "item" else None
    return document | ({"title": title} if title else {})


def _items(recommender: Recommender, one: Recommendation, describe: bool) -> list[dict[str, Any]]:
    listed = [
        {"item": item, "score": score} for item, score in zip(one.items, _rounded(one.scores), strict=True)
    ]
    if describe:
        for entry, columns in zip(listed, recommender.describe(one.items), strict=True):
            del columns["id"]
            entry.update(
                {name: value for name, value in columns.items() if value is not None and name not in entry}
            )
    return listed


def _rounded(scores: Iterable[float]) -> list[float]:
    """Six decimals: what float32 holds of a logit."""
    return [round(score, 6) for score in scores]


def _csv_requests(body: bytes, limits: Limits) -> list[Request | WireError]:
    """A request for each line, whose first cell is a user id; a first line `user_id` is a heading."""
    try:
        rows = [row for row in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline="")) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise WireError(
            400, "invalid_csv", f"The body is not CSV ({error}): send a user id a line."
        ) from None
    if rows and rows[0] == ["user_id"]:
        rows = rows[1:]
    wide = next((number for number, row in enumerate(rows, 1) if len(row) > 1), None)
    if wide is not None:
        raise WireError(
            400, "invalid_csv", f"Line {wide} has {len(rows[wide - 1])} cells: send a user id a line."
        )
    within(rows, limits.lines, "lines")
    return [UsersRequest(users=[row[0]]) for row in rows]


def _csv_answers(recommender: Recommender, call: ParsedBody) -> list[Result | WireError]:
    """All users in one go: the same as one by one, but faster."""
    users = [request.users[0] for request in call.requests if isinstance(request, UsersRequest)]
    lists = recommender.recommend(users, DEFAULT_K)
    return [_recommendations(recommender, [one], "user", False) for one in lists]


def _cells(document: dict[str, Any]) -> list[Any]:
    if "error" in document:
        return ["error", document["error"]["code"], document["error"]["message"]]
    if "scores" in document:
        return list(document["scores"])
    cells: list[Any] = []
    for one in document["recommendations"]:
        cells += [one.get("user", one.get("item")), one["source"], *(item["item"] for item in one["items"])]
    return cells
