"""How recommendations are printed, whether they come from this process or from an endpoint.

In: the response of the serving API to a request with `describe`. Out: tables for people, or the same response
as JSON.
"""

from collections.abc import Mapping
from typing import Any

from ncf.cli.options import print_json


def print_answer(document: dict[str, Any], as_json: bool = False) -> None:
    """Print every list of recommendations in `document`, or the document itself with `as_json`.

    Ids that were ignored are reported on standard error.
    """
    if as_json:
        print_json(document)
        return
    from ncf.tracking.console import OUT, items_table, log

    for answer in document["recommendations"]:
        if answer["ignored"]:
            log(f"Unknown ids were ignored: {', '.join(str(item) for item in answer['ignored'])}")
        rows = [{**entry, "id": entry["item"]} for entry in answer["items"]]
        OUT.print(items_table(_heading(answer), rows, [entry["score"] for entry in answer["items"]]))


def _heading(answer: Mapping[str, Any]) -> str:
    if answer["source"] == "similar":
        title = f" ({answer['title']})" if answer.get("title") else ""
        return f"Similar to item {answer['item']}{title}"
    user = answer.get("user")
    audience = "For a visitor" if user is None else f"For user {user}"
    unknown = "Nothing is known of the visitor" if user is None else f"User {user} is unknown to the model"
    return {
        "model": audience,
        "fold_in": f"{audience}, with the history given",
        "popularity": f"{unknown}: the most popular items",
        "trending": f"{unknown}: what is trending" if user is not None else "Trending",
    }[answer["source"]]
