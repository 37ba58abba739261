"""How recommendations are printed, whoever gave them: this process, or an endpoint.

In: the answer of the wire to a request with `describe`. Out: tables for people, or that document as one line of JSON.
"""

from collections.abc import Mapping
from typing import Any

from ncf.cli.options import print_json


def print_answer(document: dict[str, Any], as_json: bool = False) -> None:
    """Every list of the answer on standard output; ids that were ignored are told on standard error."""
    if as_json:
        print_json(document)
        return
    for one in document["recommendations"]:
        _print_list(one)


def _print_list(one: Mapping[str, Any]) -> None:
    from ncf.cli.console import OUT, items_table, log

    if one["ignored"]:
        log(f"Not known and ignored: {', '.join(str(item) for item in one['ignored'])}")
    rows = [{**entry, "id": entry["item"]} for entry in one["items"]]
    OUT.print(items_table(_heading(one), rows, [entry["score"] for entry in one["items"]]))


def _heading(one: Mapping[str, Any]) -> str:
    if one["source"] == "similar":
        title = f" ({one['title']})" if one.get("title") else ""
        return f"Similar to item {one['item']}{title}"
    user = one.get("user")
    whom = "For a visitor" if user is None else f"For user {user}"
    nobody = "Nothing is known of the visitor" if user is None else f"User {user} is not known to the model"
    return {
        "model": whom,
        "fold_in": f"{whom}, with the history given",
        "popularity": f"{nobody}: the most popular items",
    }[one["source"]]
