"""Answers of the control plane: what Describe and List choose of a record, in AWS's shapes and pages."""

from __future__ import annotations

from typing import Any

from ncf.sagemaker.local.requests import service_model
from ncf.sagemaker.local.state import StateRecord

Answer = dict[str, Any]


def description(record: StateRecord) -> Answer:
    """What Describe answers: of all that is known, the members that its shape has."""
    return {name: value for name, value in record.everything.items() if name in record.kind.described}


def listing(operation: str, records: list[StateRecord], request: Answer, by: str | None = None) -> Answer:
    """What List answers: filtered, sorted and in pages; the newest first unless the request says otherwise.

    `by` is a member of the state to sort by in place of what the request names.
    """
    shape = service_model("sagemaker").operation_model(operation).output_shape
    member = next(name for name, inner in shape.members.items() if inner.type_name == "list")
    members = shape.members[member].member.members
    records = [record for record in records if _wanted(record, request)]
    field = {"Name": "name", "Status": "status"}.get(request.get("SortBy", ""), "created")
    records.sort(key=lambda record: record.state[by] if by else getattr(record, field))
    if request.get("SortOrder", "Descending") == "Descending":
        records.reverse()
    begin, size = int(request.get("NextToken", 0)), int(request.get("MaxResults", 10))
    page = [
        {name: value for name, value in record.everything.items() if name in members}
        for record in records[begin : begin + size]
    ]
    more = {"NextToken": str(begin + size)} if begin + size < len(records) else {}
    return {member: page, **more}


def _wanted(record: StateRecord, request: Answer) -> bool:
    return (
        request.get("NameContains", "").lower() in record.name.lower()
        and record.name.startswith(request.get("PipelineNamePrefix", ""))
        and request.get("StatusEquals", record.status) == record.status
        and request.get("CreationTimeAfter", 0)
        <= record.created
        <= request.get("CreationTimeBefore", float("inf"))
    )


def matches(record: StateRecord, request: Answer) -> bool:
    """Whether a record passes the filters of Search on tags and members, by Equals and Contains."""
    known = record.everything | {f"Tags.{key}": value for key, value in record.tags.items()}
    for entry in request.get("SearchExpression", {}).get("Filters", ()):
        value, wanted = str(known.get(entry["Name"], "")), entry.get("Value", "")
        if not (wanted in value if entry.get("Operator") == "Contains" else wanted == value):
            return False
    return True


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags as AWS writes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def stripped(value: Any) -> Any:
    """Without empty structures and None, which AWS does not send."""
    if isinstance(value, dict):
        kept = {name: stripped(member) for name, member in value.items() if member is not None}
        return {name: member for name, member in kept.items() if member != {}}
    return [stripped(member) for member in value] if isinstance(value, list) else value
