"""The users of a batch transform: read from a file, written as requests, and their answers joined to rows
again.

In: ids from a file or an artifact. Out: JSON lines for the containers, each for some users, and from their
answers the tables that `ncf batch` writes. The one decision worth knowing: a line asks for as many users as
keep its answer within the size limit of containers, and users stay in the order of the file.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ncf.errors import CloudError, ConfigError
from ncf.serving.batch import columns

Id = int | str
_HEADINGS = ("user_id", "user")
_MOST_USERS, _MOST_ITEMS = 500, 20_000
"""In one line; an item of an answer takes about 40 bytes."""


def read_users(path: Path) -> list[Id]:
    """The ids in a file: one a line, CSV with a column user_id (or a single column), or JSON lines."""
    try:
        text = path.read_text("utf-8-sig")
        users = _json_ids(text) if path.suffix in (".jsonl", ".ndjson", ".json") else _csv_ids(text)
    except (OSError, csv.Error, ValueError) as error:
        raise ConfigError(
            f"The file of users {path} cannot be read ({error}): give one id a line, CSV with a column "
            "user_id, "
            'or JSON lines such as {"user_id": 42}.'
        ) from None
    if not users:
        raise ConfigError(f"The file of users {path} is empty: it needs one id a line.")
    return users


def users_a_line(k: int) -> int:
    """How many users one line asks for, at `k` items each."""
    return max(1, min(_MOST_USERS, _MOST_ITEMS // k))


def write_requests(users: Sequence[Id], folder: Path, parts: int, k: int, exclude_seen: bool) -> None:
    """Write `part-0000.jsonl` and so on to `folder`: `parts` files, or fewer where there are few users."""
    step, lines = users_a_line(k), []
    for start in range(0, len(users), step):
        request: dict[str, Any] = {"users": list(users[start : start + step]), "k": k}
        lines.append(json.dumps(request if exclude_seen else {**request, "exclude_seen": False}))
    each = -(-len(lines) // parts)
    for number, start in enumerate(range(0, len(lines), each)):
        (folder / f"part-{number:04d}.jsonl").write_text(
            "".join(f"{line}\n" for line in lines[start : start + each]), "utf-8"
        )


def read_answers(folder: Path, users: Sequence[Id]) -> Iterator[dict[str, Any]]:
    """Yield the list of each user in order; raises `CloudError` for a refused request or a missing user."""
    asked = iter(users)
    for path in sorted(folder.rglob("*.out")):
        for line in path.read_text("utf-8").splitlines():
            if line.strip():
                yield from _checked(json.loads(line), asked)
    missing = sum(1 for _ in asked)
    if missing:
        raise CloudError(
            f"The transform job gave no answer for {missing:,} of {len(users):,} users: see its log, and run "
            "it again."
        )


def kinds(answers: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """The types of user ids and of item ids: "integer" where every id is an integer, otherwise "string"."""
    items = (entry["item"] for ranking in answers for entry in ranking["items"])
    return _kind(ranking["user"] for ranking in answers), _kind(items)


def tables(answers: Sequence[dict[str, Any]], user_kind: str, item_kind: str) -> Iterator[pl.DataFrame]:
    """Yield the rows of `ncf batch`: user, rank, item, score, with ids of those types."""
    schema, step = columns(user_kind, item_kind), 10_000
    for start in range(0, len(answers), step):
        rows = [
            (_as(ranking["user"], user_kind), rank, _as(entry["item"], item_kind), entry["score"])
            for ranking in answers[start : start + step]
            for rank, entry in enumerate(ranking["items"], 1)
        ]
        yield pl.DataFrame(rows, schema=schema, orient="row")


def _csv_ids(text: str) -> list[Id]:
    rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    heading = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = next((heading.index(name) for name in _HEADINGS if name in heading), None)
    if column is not None:
        short = next((number for number, row in enumerate(rows, 1) if len(row) <= column), None)
        if short is not None:
            raise ValueError(f"line {short} has no column {heading[column]}")
        return [row[column].strip() for row in rows[1:]]
    wide = next((number for number, row in enumerate(rows, 1) if len(row) > 1), None)
    if wide is not None:
        raise ValueError(f"line {wide} has several cells and there is no heading user_id")
    return [row[0].strip() for row in rows]


def _json_ids(text: str) -> list[Id]:
    users: list[Id] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            value = json.loads(line)
            if isinstance(value, dict):
                value = next((value[name] for name in _HEADINGS if name in value), None)
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise ValueError(f"line {number} has no user_id that is a number or a text")
            users.append(value)
    return users


def _checked(document: dict[str, Any], asked: Iterator[Id]) -> Iterator[dict[str, Any]]:
    if "error" in document:
        raise CloudError(f"The container refused a request: {document['error']['message']}")
    for ranking in document["recommendations"]:
        user, expected = ranking["user"], next(asked, None)
        if expected is None or str(expected) != str(user):
            raise CloudError(
                f"The transform job answered for user {user!r} instead of {expected!r}: run it again."
            )
        yield ranking


def _kind(ids: Iterable[Any]) -> str:
    return "integer" if all(isinstance(id, int) for id in ids) else "string"


def _as(id: Any, kind: str) -> Id:
    return int(id) if kind == "integer" else str(id)
