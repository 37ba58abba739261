"""Lists as SageMaker gives them: filtered, sorted, in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ncf.sagemaker.local.state import Record, moment

_PAGE = 100
_ORDERS = {"Name": "name", "LastModifiedTime": "modified", "Status": "status"}


def listed(
    records: list[Record], request: dict[str, Any], key: str, summary: Callable[[Record], dict[str, Any]]
) -> dict[str, Any]:
    """The page of `records` that a List call asks for, under `key`; the newest first unless it says otherwise."""
    found = [one for one in records if _asked_for(one, request)]
    order = _ORDERS.get(request.get("SortBy", ""), "created")
    found.sort(key=lambda one: one[order], reverse=request.get("SortOrder", "Descending") == "Descending")
    begin, most = int(request.get("NextToken", 0)), request.get("MaxResults", _PAGE)
    more = {"NextToken": str(begin + most)} if begin + most < len(found) else {}
    return {key: [summary(one) for one in found[begin : begin + most]], **more}


class Pages:
    """What `get_paginator` gives."""

    def __init__(self, call: Callable[..., dict[str, Any]]) -> None:
        self._call = call

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        """Every page of a List call."""
        asked = {name: value for name, value in request.items() if name != "PaginationConfig"}
        while True:
            page = self._call(**asked)
            yield page
            if "NextToken" not in page:
                return
            asked["NextToken"] = page["NextToken"]


def _asked_for(record: Record, request: dict[str, Any]) -> bool:
    created = moment(record["created"])
    return (
        request.get("NameContains", "").lower() in record["name"].lower()
        and request.get("StatusEquals", record.get("status")) == record.get("status")
        and created > _aware(request.get("CreationTimeAfter"), created.min)
        and created < _aware(request.get("CreationTimeBefore"), created.max)
    )


def _aware(given: Any, otherwise: Any) -> Any:
    time = otherwise if given is None else given
    return (
        time
        if time.tzinfo
        else time.astimezone()
        if given is not None
        else time.replace(tzinfo=moment(0).tzinfo)
    )
