"""SageMaker's calls on a `Store`: validated, dispatched, answered as AWS answers.

`SageMaker.call(region, operation, parameters)` returns the answer or raises `Refusal`. A method of a part, named like
the operation (`CreateTrainingJob`), goes first; everything else is answered off the table of kinds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from hosted.checks import refusal, service_model
from hosted.store import Kind, Record, Refusal, Store, kind_of, missing

Answer = dict[str, Any]
Handler = Callable[[str, dict[str, Any]], Answer]


class Part(Protocol):
    """Some calls of the service: methods `Operation(region, parameters)`."""


class SageMaker:
    """The control plane."""

    def __init__(self, store: Store, parts: Iterable[Part] = ()) -> None:
        self.store = store
        self.parts = tuple(parts)

    def call(self, region: str, operation: str, parameters: dict[str, Any]) -> Answer:
        """Answer one call."""
        said = refusal("sagemaker", operation, parameters)
        if said:
            raise Refusal("ValidationException", said)
        return stripped(self._handler(operation)(region, parameters))

    def _handler(self, operation: str) -> Handler:
        for part in (*self.parts, self):
            if handler := getattr(part, operation, None):
                return handler  # type: ignore[no-any-return]
        for verb in ("Create", "Describe", "Delete", "List"):
            if operation.startswith(verb):
                return self._generic(verb, operation.removeprefix(verb))
        raise Refusal("InternalFailure", f"The double has no {operation}.", 501)

    def _generic(self, verb: str, noun: str) -> Handler:
        try:
            kind = kind_of(noun.removesuffix("s") if verb == "List" else noun)
        except KeyError:
            raise Refusal("InternalFailure", f"The double has no {verb}{noun}.", 501) from None
        calls: dict[str, Callable[[Kind, str, dict[str, Any]], Answer]] = {
            "Create": self._create, "Describe": self._describe, "Delete": self._delete, "List": self._list,
        }  # fmt: skip
        return lambda region, parameters: calls[verb](kind, region, parameters)

    def _create(self, kind: Kind, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.store.add(record_of(kind, region, parameters))
        if kind.first_status:
            record.set(**{kind.status: kind.first_status})
        return {kind.arn: record.arn}

    def _describe(self, kind: Kind, region: str, parameters: dict[str, Any]) -> Answer:
        return description(self.store.get(region, kind.name, parameters[kind.key]))

    def _delete(self, kind: Kind, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.store.get(region, kind.name, parameters[kind.key])
        self.store.remove(record)
        members = service_model("sagemaker").operation_model(f"Delete{kind.name}").output_shape
        return {kind.arn: record.arn} if members and kind.arn in members.members else {}

    def _list(self, kind: Kind, region: str, parameters: dict[str, Any]) -> Answer:
        return listing(f"List{kind.name}s", self.store.all(region, kind.name), parameters)

    def AddTags(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.store.by_arn(parameters["ResourceArn"])
        record.tags |= tags_of(parameters)
        return {"Tags": tag_list(record.tags)}

    def ListTags(self, region: str, parameters: dict[str, Any]) -> Answer:
        return {"Tags": tag_list(self.store.by_arn(parameters["ResourceArn"]).tags)}

    def DeleteTags(self, region: str, parameters: dict[str, Any]) -> Answer:
        record = self.store.by_arn(parameters["ResourceArn"])
        for key in parameters["TagKeys"]:
            record.tags.pop(key, None)
        return {}

    def Search(self, region: str, parameters: dict[str, Any]) -> Answer:
        kind = parameters["Resource"]
        found = [record for record in self.store.all(region, kind) if _matches(record, parameters)]
        return {"Results": [{kind: description(one) | {"Tags": tag_list(one.tags)}} for one in found]}


def record_of(kind: Kind, region: str, parameters: dict[str, Any]) -> Record:
    """A new record of a request."""
    request = {name: value for name, value in parameters.items() if name != "Tags"}
    return Record(kind, parameters[kind.key], region, request, tags_of(parameters))


def description(record: Record) -> Answer:
    """What Describe answers: what its shape has of what is known."""
    return {name: value for name, value in record.everything.items() if name in record.kind.described}


def listing(
    operation: str, records: list[Record], parameters: dict[str, Any], by: str | None = None
) -> Answer:
    """What List answers: filtered, sorted (newest first, as AWS does where nothing else is asked), in pages."""
    shape = service_model("sagemaker").operation_model(operation).output_shape
    member = next(name for name, one in shape.members.items() if one.type_name == "list")
    members = shape.members[member].member.members
    found = [record for record in records if _wanted(record, parameters)]
    member_of_order = by or ("name" if parameters.get("SortBy") == "Name" else "created")
    found.sort(key=lambda r: r.state[by] if by else getattr(r, member_of_order))
    if parameters.get("SortOrder", "Descending") == "Descending":
        found.reverse()
    first, size = int(parameters.get("NextToken", 0)), int(parameters.get("MaxResults", 10))
    page = [{n: v for n, v in r.everything.items() if n in members} for r in found[first : first + size]]
    more = {"NextToken": str(first + size)} if first + size < len(found) else {}
    return {member: page, **more}


def _wanted(record: Record, asked: dict[str, Any]) -> bool:
    name, status = asked.get("NameContains", "").lower(), asked.get("StatusEquals")
    prefix = asked.get("PipelineNamePrefix", "")
    after, before = asked.get("CreationTimeAfter", 0), asked.get("CreationTimeBefore", float("inf"))
    return (
        name in record.name.lower()
        and record.name.startswith(prefix)
        and status in (None, record.status)
        and after <= record.created <= before
    )


def _matches(record: Record, asked: dict[str, Any]) -> bool:
    """Search's filters on tags and on members, by Equals and Contains."""
    known = record.everything | {f"Tags.{key}": value for key, value in record.tags.items()}
    for one in asked.get("SearchExpression", {}).get("Filters", ()):
        value, wanted = str(known.get(one["Name"], "")), one.get("Value", "")
        same = wanted in value if one.get("Operator") == "Contains" else wanted == value
        if not same:
            return False
    return True


def tags_of(parameters: dict[str, Any]) -> dict[str, str]:
    """The tags of a request."""
    return {tag["Key"]: tag["Value"] for tag in parameters.get("Tags", ())}


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Tags as AWS writes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def stripped(value: Any) -> Any:
    """Without members that are empty structures, which AWS does not send."""
    if isinstance(value, dict):
        kept = {name: stripped(member) for name, member in value.items() if member is not None}
        return {name: member for name, member in kept.items() if member != {}}
    return [stripped(member) for member in value] if isinstance(value, list) else value


def name_in_arn(arn: str) -> str:
    """What stands after the last slash."""
    return re.split("/", arn)[-1]


__all__ = [
    "Answer",
    "Part",
    "SageMaker",
    "description",
    "listing",
    "missing",
    "record_of",
    "stripped",
    "tag_list",
]
