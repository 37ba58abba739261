"""What the explorer page needs besides `/invocations`: about the model, items by title, a user's history.

Pure functions from a recommender to documents. `pages/` holds the page itself, which loads nothing from other
hosts.

The one decision worth knowing: titles are made comparable (lower case, no accents) once, in the order of
popularity. A search is then one filter, and its first matches are the ones to show.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import ConfigDict
from typing_extensions import TypedDict

from ncf.serving.recommender import Recommender
from ncf.serving.schemas import Id

PAGES = Path(__file__).parent / "pages"
SEARCH_LIMIT = 50
HISTORY_LIMIT = 200
_EXAMPLES = 5
_USERS_CONSIDERED = 4096


class ExampleUser(TypedDict):
    """A user to try, and how many items the user has used."""

    user: Id
    history: int


class About(TypedDict):
    """Name, sizes, test metrics, columns for display, and a few users to try."""

    name: str
    kind: str
    users: int
    items: int
    data: str
    created: str
    metrics: dict[str, float]
    columns: list[str]
    examples: list[ExampleUser]


class DescribedItem(TypedDict):
    """An item with its columns for display."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    item: Id


class ItemMatches(TypedDict):
    """The first matches, and how many there are."""

    items: list[DescribedItem]
    total: int


class UserHistory(TypedDict):
    """The most popular items that a user has used, and how many items there are."""

    user: Id
    history: list[DescribedItem]
    total: int


def about(recommender: Recommender) -> About:
    """What the page shows of the model of `recommender`."""
    artifact = recommender.artifact
    test = artifact.metrics.get("test") or {}
    return {
        "name": artifact.experiment.name,
        "kind": artifact.experiment.model.kind,
        "users": len(recommender.users),
        "items": len(recommender.items),
        "data": artifact.manifest["data"]["name"],
        "created": artifact.manifest["created"],
        "metrics": test.get("metrics", {}),
        "columns": [name for name in artifact.item_columns.columns if name != "id"],
        "examples": _examples(recommender),
    }


def search(recommender: Recommender, query: str, limit: int = 20) -> ItemMatches:
    """At most `limit` items whose title and year (or id, where there are no titles) contain every word of
    `query`.

    The item with exactly this id comes first, then titles that begin with the query, then the others; within
    each, the most popular first. Case and accents do not count.
    """
    texts = _texts(recommender)
    words = " ".join(_comparable(pl.Series([query]))[0].split())
    has_words = pl.repeat(True, len(texts), dtype=pl.Boolean, eager=True)
    for word in words.split():
        has_words &= texts["text"].str.contains(word, literal=True)
    has_id = texts["row"] == recommender.items.row(query.strip())
    begins = texts["text"].str.starts_with(words)
    order = texts.select("row", tier=pl.when(has_id).then(0).when(begins).then(1).otherwise(2))
    matches = order.filter(has_words | has_id)
    limit = min(max(limit, 0), SEARCH_LIMIT)
    tiers = [matches.filter(pl.col("tier") == tier)["row"].head(limit) for tier in range(3)]
    return {"items": _documents(recommender, pl.concat(tiers).head(limit)), "total": len(matches)}


def history(recommender: Recommender, user: str) -> UserHistory | None:
    """The items that `user` has used, the most popular first; None for an unknown user."""
    row = recommender.users.row(user)
    if row < 0:
        return None
    used = recommender.artifact.seen.row(row).astype(np.int64)
    popularity = recommender.artifact.item_columns["popularity"].to_numpy()[used]
    first = used[np.argsort(-popularity, kind="stable")][:HISTORY_LIMIT]
    return {
        "user": recommender.users.ids_of([row]).tolist()[0],
        "history": _documents(recommender, pl.Series(first)),
        "total": len(used),
    }


def _examples(recommender: Recommender) -> list[ExampleUser]:
    """Users to try, from one with a short history to one with a long one."""
    users = len(recommender.users)
    rows = np.linspace(0, users - 1, min(_USERS_CONSIDERED, users)).astype(np.int64)
    offsets = recommender.artifact.seen.offsets
    rows = rows[np.argsort(offsets[rows + 1] - offsets[rows], kind="stable")]
    quantiles = np.linspace(0, len(rows) - 1, 2 * _EXAMPLES + 1)[1::2] if users else np.empty(0)
    chosen = rows[np.unique(np.rint(quantiles).astype(np.int64))]
    return [
        {"user": user, "history": int(offsets[row + 1] - offsets[row])}
        for user, row in zip(recommender.users.ids_of(chosen).tolist(), chosen.tolist(), strict=True)
    ]


@lru_cache(maxsize=1)
def _texts(recommender: Recommender) -> pl.DataFrame:
    """The `text` and `row` of every item, the most popular first."""
    items = recommender.artifact.item_columns
    text = items["id"].cast(pl.String)
    if "title" in items.columns:
        text = items["title"].cast(pl.String).fill_null(text)
        if "year" in items.columns:
            text = text + (" " + items["year"].cast(pl.String)).fill_null("")
    order = np.argsort(-items["popularity"].to_numpy(), kind="stable")
    return pl.DataFrame({"text": _comparable(text)[order], "row": order})


def _comparable(text: pl.Series) -> pl.Series:
    return text.str.normalize("NFKD").str.replace_all(r"\p{M}", "").str.to_lowercase()


def _documents(recommender: Recommender, rows: pl.Series) -> list[DescribedItem]:
    """The columns of these items that are not null, with the id as `item`."""
    documents: list[Any] = [
        {name: value for name, value in columns.items() if name != "id" and value is not None}
        | {"item": columns["id"]}
        for columns in recommender.artifact.item_columns[rows].to_dicts()
    ]
    return documents
