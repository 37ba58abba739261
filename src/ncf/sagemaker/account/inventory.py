"""What of this project exists in SageMaker and beside it: a session in, a list of `Resource`s out.

The rule of belonging, which clean-up holds to: a name alone is never enough.

| what | is the project's when |
| --- | --- |
| anything of SageMaker, ECR repositories, rules, schedule groups | it carries the tag `ncf:project` with the project's name |
| model packages | their group does |
| autoscaling targets | their endpoint does |
| schedules, which have no tags | their group is, or their target is a pipeline of the project |
| log group of an endpoint | the endpoint is, or the log group carries the tag (clean-up gives it before it deletes the endpoint) |
| log streams of jobs | the job is |
| objects in S3 | they lie below `PROJECT/` in the session's bucket, and ncf put something there (its digests are on it) |
| files of local mode | they lie in `home`, and nothing in `home` is of another project |

Resources are found in two ways that make up for each other: by their tag (Resource Groups Tagging API, which lags), and
by lists of names, each checked for the tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.account import resource_types
from ncf.sagemaker.account.resource_types import BY_WORD, GROUP, KINDS, RUNS, ResourceType
from ncf.sagemaker.paging import entries
from ncf.sagemaker.session import TAG, Session

BESIDE = (
    "schedule", "schedule-group", "rule", "autoscaling-target", "repository", "objects", "log-streams", "log-group", "files",
)  # fmt: skip
_MODEL = ("objects", "repository")
NEEDS = {
    "schedule": ("pipeline", "schedule-group", *_MODEL),
    "pipeline": _MODEL,
    "endpoint": ("endpoint-config", "model", "autoscaling-target", "log-group", *_MODEL),
    "autoscaling-target": ("endpoint", "endpoint-config", "model", *_MODEL),
    "endpoint-config": ("model", *_MODEL),
    "model": _MODEL,
    "model-package": ("model-package-group", *_MODEL),
    "model-package-group": ("model-package", *_MODEL),
}  # fmt: skip
"""What else stays where something of a kind stays."""
MISSING = {
    "ValidationException", "ResourceNotFound", "ResourceNotFoundException", "NoSuchBucket", "404", "NoSuchKey",
    "RepositoryNotFoundException", "ObjectNotFoundException", "NotFoundException",
}  # fmt: skip
"""Codes by which AWS says that something is not there."""
_FATAL = {
    "", "NoCredentials", "Expired", "ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId",
    "UnrecognizedClientException", "SignatureDoesNotMatch", "Network",
}  # fmt: skip


@dataclass(frozen=True)
class Resource:
    """One thing of the project."""

    kind: str
    """Word of a `ResourceType`, or `schedule`, `rule`, `repository`, `objects`, `log-streams`, …"""
    name: str
    arn: str = ""
    status: str = ""
    created: datetime | None = None
    detail: str = ""
    """`2 x ml.m5.large`, `14 objects, 1.2 GB`."""
    hourly: float | None = 0.0
    """US dollars an hour now; None where it is billed and the price is not known."""
    bytes: int = 0
    """What it stores and is billed for."""
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def running(self) -> bool:
        """Whether it computes, or waits for requests."""
        return self.status in RUNS

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "kind": self.kind, "name": self.name, "arn": self.arn, "status": self.status, "detail": self.detail,
            "created": self.created.isoformat() if self.created else None, "dollars_an_hour": self.hourly,
            "bytes": self.bytes,
        }  # fmt: skip


@dataclass
class Inventory:
    """What was found, and where one could not look."""

    items: list[Resource] = field(default_factory=list)
    blind: list[str] = field(default_factory=list)
    """A sentence for each place that could not be looked at."""

    def of(self, *words: str) -> list[Resource]:
        """Items of some kinds, in the order in which they were found."""
        return [item for item in self.items if item.kind in words]

    def chosen(self, keep: Iterable[str] = (), older_than: float | None = None) -> Inventory:
        """Without the kinds in `keep` and what is younger than so many days or of unknown age, nor what these need."""
        limit = None if older_than is None else datetime.now(UTC) - timedelta(days=older_than)
        young = [item for item in self.items if limit and (item.created is None or item.created > limit)]
        kept = set(keep) | {
            word for one in (*keep, *(item.kind for item in young)) for word in NEEDS.get(one, ())
        }
        found = [item for item in self.items if item.kind not in kept and item not in young]
        return Inventory(found, list(self.blind))


def resources(session: Session, inventory: Inventory) -> None:
    """Add what SageMaker itself has, in the order in which it can be deleted."""
    tagged = _tagged(session, inventory)
    client = session.client("sagemaker")
    for kind in KINDS:
        with looking(session, inventory, kind.word):
            found = {kind.arn(one).lower(): one for one in _listed(client, kind, part_of_names(session))}
            for arn in tagged.get(kind.word, ()):
                if arn.lower() not in found and (fields := described(client, kind, arn.rpartition("/")[2])):
                    found[arn.lower()] = fields
            for fields in found.values():
                if owned(session, client.list_tags, ResourceArn=kind.arn(fields)):
                    item = _item(client, kind, fields)
                    free = replace(item, hourly=0.0) if session.local else item  # this machine is not billed
                    inventory.items += _with_parts(client, kind, free)


@contextmanager
def looking(session: Session, inventory: Inventory, what: str) -> Iterator[None]:
    """A place that cannot be looked at becomes a sentence in `inventory.blind`; without credentials or network all ends.

    Local mode says by a `ConfigError` that it has no such place.
    """
    try:
        yield
    except CloudError as error:
        if error.code in _FATAL:
            raise
        inventory.blind.append(f"{what}: {error}")
    except ConfigError as error:
        if not session.local:
            inventory.blind.append(f"{what}: {error}")


def owned(session: Session, call: Any, **request: Any) -> bool:
    """Whether the tags that a call lists are this project's; what is gone meanwhile is nobody's."""
    try:
        answer = call(**request)
    except CloudError as error:
        if error.code in MISSING:
            return False
        raise
    return tag_of(answer.get("Tags", answer.get("tags", ()))) == session.project


def tag_of(tags: Mapping[str, str] | Iterable[Mapping[str, str]]) -> str | None:
    """The project in tags of either form that AWS has."""
    if isinstance(tags, Mapping):
        return tags.get(TAG)
    found = [tag.get("Value", tag.get("value")) for tag in tags if tag.get("Key", tag.get("key")) == TAG]
    return found[0] if found else None


def described(client: Any, kind: ResourceType, name: str) -> dict[str, Any] | None:
    """What SageMaker knows of one, or None where it is gone."""
    try:
        answer: dict[str, Any] = getattr(client, kind.describe)(**kind.key(name))
    except CloudError as error:
        if error.code in MISSING:
            return None
        raise
    return answer


def part_of_names(session: Session) -> str:
    """How names of the project begin, as `new_name` makes them."""
    return re.sub(r"[^A-Za-z0-9]+", "-", session.project).strip("-")


def _tagged(session: Session, inventory: Inventory) -> dict[str, list[str]]:
    """ARNs that carry the tag, by the word in them."""
    arns: dict[str, list[str]] = {}
    with looking(session, inventory, "tags"):
        found = entries(
            session.client("resourcegroupstaggingapi").get_resources, "ResourceTagMappingList", "PaginationToken",
            TagFilters=[{"Key": TAG, "Values": [session.project]}], ResourceTypeFilters=["sagemaker"],
        )  # fmt: skip
        for one in found:
            arns.setdefault(one["ResourceARN"].split(":", 5)[-1].partition("/")[0], []).append(
                one["ResourceARN"]
            )
    return arns


def _listed(client: Any, kind: ResourceType, part: str) -> Iterator[dict[str, Any]]:
    return entries(getattr(client, kind.list), kind.summaries, **kind.asked(part))


def _item(client: Any, kind: ResourceType, fields: dict[str, Any]) -> Resource:
    status = kind.status(fields)
    warm = fields.get("WarmPoolStatus", {}).get("Status") == "Available"
    detail: str = ""
    cost: float | None = 0.0
    if status in RUNS or warm:
        full = described(client, kind, kind.name(fields)) or fields
        detail, cost = _instances(client, kind, full)
    if warm and status not in RUNS:
        status, detail = "WarmPool", f"{detail}, kept warm"
    return Resource(
        kind.word, kind.name(fields), kind.arn(fields), status, utc(fields.get("CreationTime")), detail, cost
    )


def _instances(client: Any, kind: ResourceType, fields: dict[str, Any]) -> tuple[str, float | None]:
    """`2 x ml.m5.large`, and what they cost an hour."""
    if kind is resource_types.ENDPOINT:
        return _priced([_variant(one, config) for one, config in _variants(client, fields)], "hosting")
    if kind is resource_types.TRAINING:
        resource = fields.get("ResourceConfig", {})
        groups = resource.get("InstanceGroups") or [resource]
        return _priced(
            [(one.get("InstanceType", ""), one.get("InstanceCount", 1)) for one in groups], "training"
        )
    if kind is resource_types.PROCESSING:
        cluster = fields.get("ProcessingResources", {}).get("ClusterConfig", {})
        return _priced([(cluster.get("InstanceType", ""), cluster.get("InstanceCount", 1))], "training")
    if kind is resource_types.TRANSFORM:
        cluster = fields.get("TransformResources", {})
        return _priced([(cluster.get("InstanceType", ""), cluster.get("InstanceCount", 1))], "transform")
    return "", 0.0  # the jobs of a search, and the steps of a pipeline, are counted themselves


def _variants(client: Any, fields: dict[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    config = (
        described(client, resource_types.CONFIG, fields["EndpointConfigName"])
        if fields.get("EndpointConfigName")
        else None
    )
    now = {one.get("VariantName"): one for one in fields.get("ProductionVariants", ())}
    for variant in (config or {}).get("ProductionVariants", ()):
        yield now.get(variant.get("VariantName"), {}), variant


def _variant(now: dict[str, Any], config: dict[str, Any]) -> tuple[str, int]:
    if "ServerlessConfig" in config:
        return "serverless", 0
    return config.get("InstanceType", ""), now.get("CurrentInstanceCount") or config.get(
        "InitialInstanceCount", 1
    )


def _priced(instances: Sequence[tuple[str, int]], kind: Any) -> tuple[str, float | None]:
    from ncf.sagemaker.prices import price

    known = [0.0 if name == "serverless" else price(name, kind) for name, _ in instances]
    total = (
        None
        if None in known
        else sum((one or 0) * count for one, (_, count) in zip(known, instances, strict=True))
    )
    words = [name if name == "serverless" else f"{count} x {name}" for name, count in instances]
    return ", ".join(words), total


def _with_parts(client: Any, kind: ResourceType, item: Resource) -> Iterator[Resource]:
    """The versions of a group come before it."""
    if kind is GROUP:
        versions = entries(
            client.list_model_packages, "ModelPackageSummaryList", ModelPackageGroupName=item.name
        )
        for one in versions:
            arn = one["ModelPackageArn"]
            yield Resource(
                "model-package", f"{item.name}/{one.get('ModelPackageVersion', '')}", arn,
                one.get("ModelApprovalStatus", ""), utc(one.get("CreationTime")),
            )  # fmt: skip
    yield item


def utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.astimezone(UTC)


def words() -> tuple[str, ...]:
    """Every kind that an item may have, as `--keep` takes them."""
    return (*BY_WORD, "model-package", *BESIDE)
