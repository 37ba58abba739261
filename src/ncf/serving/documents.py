"""Recommendations as documents: what the API sends, and what `ncf recommend` prints.

In: a `Recommendation`. Out: a dictionary in the form of `schemas`. The decision worth knowing: no schema is
imported at run time, because an answer on the command line takes less time than building pydantic's models.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from ncf.serving.recommender import Recommendation, Recommender

if TYPE_CHECKING:
    from ncf.serving.schemas import Item, ItemList, UserList

Subject = Literal["user", "item"]


def list_document(
    recommender: Recommender, answer: Recommendation, subject: Subject, describe: bool
) -> UserList | ItemList:
    """A recommendation as it is sent.

    `subject` says what the answer is about. With `describe`, items get their columns from `recommender`, and
    so does an item that the answer is about (its title).
    """
    items = _items(recommender, answer, describe)
    if subject == "user":
        return {"user": answer.subject, "source": answer.source, "items": items, "ignored": answer.ignored}
    document: ItemList = {
        "item": answer.subject,
        "source": answer.source,
        "items": items,
        "ignored": answer.ignored,
    }
    if describe and (title := recommender.describe([answer.subject])[0].get("title")):
        document["title"] = title
    return document


def _items(recommender: Recommender, answer: Recommendation, describe: bool) -> list[Item]:
    items: list[Any] = [
        {"item": item, "score": score}
        for item, score in zip(answer.items, rounded(answer.scores), strict=True)
    ]
    if describe:
        for item, columns in zip(items, recommender.describe(answer.items), strict=True):
            del columns["id"]
            item.update(
                {name: value for name, value in columns.items() if value is not None and name not in item}
            )
    return items


def rounded(scores: Iterable[float]) -> list[float]:
    """Six decimals, as many as float32 has for a logit."""
    return [round(score, 6) for score in scores]
