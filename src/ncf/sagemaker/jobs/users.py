"""The users of a batch transform: written as requests, and their answers joined to rows again.

In: ids from a file or an artifact. Out: JSON lines for the containers, each for some users, and from their
answers the tables that `ncf batch` writes. The one decision worth knowing: a line asks for as many users as
keep its answer within the size limit of containers, and users stay in the order of the file.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ncf.data.id_lists import Id
from ncf.errors import CloudError
from ncf.serving.batch import columns

_MOST_USERS, _MOST_ITEMS = 500, 20_000
"""In one line; an item of an answer takes about 40 bytes."""


def users_a_line(k: int) -> int:
    """How many users one line asks for, at `k` items each."""
    return max(1, min(_MOST_USERS, _MOST_ITEMS // k))


def write_requests(
    users: Sequence[Id],
    folder: Path,
    parts: int,
    k: int,
    exclude_seen: bool,
    exclude: Sequence[Id] = (),
) -> None:
    """Write `part-0000.jsonl` and so on to `folder`: `parts` files, or fewer where there are few users.

    `exclude`: items that may not appear.
    """
    step, lines = users_a_line(k), []
    for start in range(0, len(users), step):
        request: dict[str, Any] = {"users": list(users[start : start + step]), "k": k}
        request |= {} if exclude_seen else {"exclude_seen": False}
        lines.append(json.dumps(request | ({"exclude": list(exclude)} if exclude else {})))
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
