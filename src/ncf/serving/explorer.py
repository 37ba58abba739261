"""What the explorer page asks beyond the wire: about the model, items by title, what a user has used.

Pure functions from a recommender to documents; `pages/` holds the page itself, which loads nothing from elsewhere.

The one decision worth knowing: titles are made comparable (lower case, no accents) once, in the order of popularity,
so that a search is one filter over them and its first matches are the ones to show.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ncf.serving.recommender import Recommender

PAGES = Path(__file__).parent / "pages"
SEARCH_LIMIT = 50
HISTORY_LIMIT = 200
_EXAMPLES = 5
_USERS_LOOKED_AT = 4096


def about(recommender: Recommender) -> dict[str, Any]:
    """Name, sizes, figures, columns for display, and a few users to try."""
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


def search(recommender: Recommender, query: str, limit: int = 20) -> dict[str, Any]:
    """Items whose title and year (or id, where there are no titles) hold every word of the query.

    The item with exactly this id comes first, then titles that begin with the query, then the others; within each,
    the most popular first. Case and accents do not count.
    """
    shelf = _shelf(recommender)
    wanted = " ".join(_comparable(pl.Series([query]))[0].split())
    found = pl.repeat(True, len(shelf), dtype=pl.Boolean, eager=True)
    for word in wanted.split():
        found &= shelf["text"].str.contains(word, literal=True)
    named = shelf["row"] == recommender.items.row(query.strip())
    begins = shelf["text"].str.starts_with(wanted)
    order = shelf.select("row", tier=pl.when(named).then(0).when(begins).then(1).otherwise(2))
    matches = order.filter(found | named)
    limit = min(max(limit, 0), SEARCH_LIMIT)
    tiers = [matches.filter(pl.col("tier") == tier)["row"].head(limit) for tier in range(3)]
    return {"items": _documents(recommender, pl.concat(tiers).head(limit)), "total": len(matches)}


def history(recommender: Recommender, user: str) -> dict[str, Any] | None:
    """What a known user has used, the most popular first; None for an unknown user."""
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


def _examples(recommender: Recommender) -> list[dict[str, Any]]:
    """Users to try, from one who has used little to one who has used much."""
    users = len(recommender.users)
    rows = np.linspace(0, users - 1, min(_USERS_LOOKED_AT, users)).astype(np.int64)
    offsets = recommender.artifact.seen.offsets
    rows = rows[np.argsort(offsets[rows + 1] - offsets[rows], kind="stable")]
    places = np.linspace(0, len(rows) - 1, 2 * _EXAMPLES + 1)[1::2] if users else np.empty(0)
    chosen = rows[np.unique(np.rint(places).astype(np.int64))]
    return [
        {"user": user, "history": int(offsets[row + 1] - offsets[row])}
        for user, row in zip(recommender.users.ids_of(chosen).tolist(), chosen.tolist(), strict=True)
    ]


@lru_cache(maxsize=1)
def _shelf(recommender: Recommender) -> pl.DataFrame:
    """What is searched: `text` and `row` of every item, the most popular first."""
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


def _documents(recommender: Recommender, rows: pl.Series) -> list[dict[str, Any]]:
    """The columns of these items that say something, with the id as `item`."""
    return [
        {name: value for name, value in columns.items() if name != "id" and value is not None}
        | {"item": columns["id"]}
        for columns in recommender.artifact.item_columns[rows].to_dicts()
    ]
