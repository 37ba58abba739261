"""What of this project exists in AWS: a session in, an `Inventory` of `Resource`s out.

The rule of ownership, which clean-up obeys: a name alone is never enough.

| resource | belongs to the project when |
| --- | --- |
| SageMaker's, ECR repositories, rules, schedule groups | its tag `ncf:project` holds the project's name |
| model packages | their group belongs to it |
| autoscaling targets | their endpoint belongs to it |
| schedules, which have no tags | their group belongs to it, or they start one of its pipelines |
| log group of an endpoint | the endpoint belongs to it, or clean-up has tagged the group |
| log streams of jobs | the job belongs to it |
| objects in S3 | they are below `PROJECT/` and carry our digest, or are in a folder of results |
| files of local mode | they are where local mode writes, and nothing in `home` is another project's |

SageMaker's resources are found in two ways that complement each other: by tag (Resource Groups Tagging API,
which lags), and by lists of names, each checked for the tag. `ncf.sagemaker.account.project_resources` adds
the other services.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.calls import entries
from ncf.sagemaker.prices import Kind, price, prices
from ncf.sagemaker.session import TAG, Session


@dataclass(frozen=True)
class ResourceType:
    """One kind of resource of the service `sagemaker`, with the names that its API derives from the noun."""

    noun: str
    """As in field names: `TrainingJob` has `TrainingJobName` and `TrainingJobArn`."""
    summaries: str
    """The field of a List answer that holds the entries."""
    stoppable: bool = False
    instances: str = ""
    """Path to the instances in a description; empty where others are billed for them."""
    billed_as: Kind = "training"

    @property
    def word(self) -> str:
        """As in its ARN, and as `--keep` takes it: `training-job`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", self.noun).lower()

    def operation(self, verb: str) -> str:
        """boto3's method for list, describe, delete or stop, such as `list_training_jobs`."""
        return f"{verb}_{self.word.replace('-', '_')}{'s' if verb == 'list' else ''}"

    def name(self, fields: Mapping[str, Any]) -> str:
        """The name in a summary or description."""
        return str(fields[f"{self.noun}Name"])

    def arn(self, fields: Mapping[str, Any]) -> str:
        """The ARN in a summary or description."""
        return str(fields[f"{self.noun}Arn"])

    def status(self, fields: Mapping[str, Any]) -> str:
        """`InService`, `InProgress`, …; empty for a kind without a status."""
        return str(fields.get(f"{self.noun}Status", ""))

    def key(self, name: str) -> dict[str, str]:
        """The request that names one resource."""
        return {f"{self.noun}Name": name}


PIPELINE = ResourceType("Pipeline", "PipelineSummaries")
TUNING = ResourceType("HyperParameterTuningJob", "HyperParameterTuningJobSummaries", stoppable=True)
TRAINING = ResourceType("TrainingJob", "TrainingJobSummaries", True, "ResourceConfig")
PROCESSING = ResourceType(
    "ProcessingJob", "ProcessingJobSummaries", True, "ProcessingResources.ClusterConfig"
)
TRANSFORM = ResourceType("TransformJob", "TransformJobSummaries", True, "TransformResources", "transform")
ENDPOINT = ResourceType("Endpoint", "Endpoints", billed_as="hosting")
CONFIG = ResourceType("EndpointConfig", "EndpointConfigs")
MODEL = ResourceType("Model", "Models")
GROUP = ResourceType("ModelPackageGroup", "ModelPackageGroupSummaryList")
JOBS = (TUNING, TRAINING, PROCESSING, TRANSFORM)
TYPES = (PIPELINE, *JOBS, ENDPOINT, CONFIG, MODEL, GROUP)
"""In the order in which they can be deleted."""
BY_WORD = {kind.word: kind for kind in TYPES}
RUNS = ("InProgress", "Stopping", "Creating", "Updating", "InService", "SystemUpdating", "RollingBack")
"""Statuses in which something is computed, or waits for requests, and is billed."""
OTHER_KINDS = (
    "schedule", "schedule-group", "rule", "autoscaling-target", "repository", "objects", "log-streams",
    "log-group", "files",
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
}
"""What must stay where something of a kind stays."""
MISSING = {
    "ValidationException", "ResourceNotFound", "ResourceNotFoundException", "NoSuchBucket", "404",
    "NoSuchKey",
    "RepositoryNotFoundException", "ObjectNotFoundException", "NotFoundException",
}  # fmt: skip
"""Codes by which AWS says that something does not exist."""
_FATAL = {
    "", "NoCredentials", "Expired", "ExpiredToken", "ExpiredTokenException", "RequestExpired",
    "InvalidClientTokenId",
    "UnrecognizedClientException", "SignatureDoesNotMatch", "Network",
}  # fmt: skip
_STORED = {"objects": "gigabyte_month", "repository": "image_gigabyte_month"}


@dataclass(frozen=True)
class Resource:
    """One resource of the project."""

    kind: str
    """The word of a `ResourceType`, `model-package`, or one of `OTHER_KINDS`."""
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

    @property
    def monthly(self) -> float:
        """US dollars a month for what it stores."""
        name = _STORED.get(self.kind)
        return float(prices().values["storage"][name]) * self.bytes / 1e9 if name else 0.0

    def age(self, now: datetime | None = None) -> str:
        """How long it has existed at `now` (default: the present): `3 h 12 min`, `5 days`."""
        if self.created is None:
            return ""
        minutes = max(0, int(((now or datetime.now(UTC)) - self.created).total_seconds() // 60))
        hours, rest = divmod(minutes, 60)
        if hours >= 48:
            return f"{hours // 24} days"
        return f"{hours} h {rest} min" if hours else f"{minutes} min"

    def to_json(self) -> dict[str, Any]:
        """The fields, for `--json`."""
        return {
            "kind": self.kind, "name": self.name, "arn": self.arn, "status": self.status,
            "detail": self.detail,
            "created": self.created.isoformat() if self.created else None, "dollars_an_hour": self.hourly,
            "bytes": self.bytes,
        }  # fmt: skip


@dataclass
class Inventory:
    """The resources, and where they could not be looked for."""

    items: list[Resource] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    """A sentence for each service that could not be read."""
    kept: list[str] = field(default_factory=list)
    """A sentence for each place where there is something that is not ours, which clean-up leaves."""

    def of(self, *words: str) -> list[Resource]:
        """The items of some kinds, in the order in which they were found."""
        return [item for item in self.items if item.kind in words]

    def chosen(self, keep: Iterable[str] = (), older_than: float | None = None) -> Inventory:
        """Without the kinds in `keep`, what is not `older_than` so many days, and what these need."""
        limit = None if older_than is None else datetime.now(UTC) - timedelta(days=older_than)
        young = [item for item in self.items if limit and (item.created is None or item.created > limit)]
        kept = [*keep, *(item.kind for item in young)]
        excluded = {*keep, *(word for kind in kept for word in NEEDS.get(kind, ()))}
        items = [item for item in self.items if item.kind not in excluded and item not in young]
        return Inventory(items, list(self.unreadable), list(self.kept))

    @property
    def running(self) -> list[Resource]:
        """What is billed by the hour, the dearest first; what has no known price comes before all."""
        items = [item for item in self.items if item.running or item.status == "WarmPool"]
        return sorted(items, key=lambda item: -(float("inf") if item.hourly is None else item.hourly))

    @property
    def stored(self) -> list[Resource]:
        """What is billed by the gigabyte."""
        return self.of(*_STORED)

    @property
    def hourly(self) -> float:
        """US dollars an hour for all that runs and has a known price."""
        return sum(item.hourly or 0.0 for item in self.running)

    @property
    def unpriced(self) -> list[str]:
        """Names of what runs without a known price."""
        return [item.name for item in self.running if item.hourly is None]

    def status(self) -> dict[str, Any]:
        """What runs and what is stored, with costs: `ncf sagemaker status --json`."""
        table = prices()
        return {
            "running": [item.to_json() for item in self.running],
            "dollars_an_hour": round(self.hourly, 6),
            "without_known_price": self.unpriced,
            "stored": [item.to_json() | {"dollars_a_month": round(item.monthly, 6)} for item in self.stored],
            "dollars_a_month_stored": round(sum(item.monthly for item in self.stored), 6),
            "prices": {"date": table.date, "region": table.region},
            "not_seen": self.unreadable,
            "kept": self.kept,
        }


def add_sagemaker(session: Session, inventory: Inventory) -> None:
    """Add the project's resources of SageMaker itself, in the order in which they can be deleted."""
    client, tagged = session.client("sagemaker"), _tagged(session, inventory)
    for kind in TYPES:
        with reading(session, inventory, kind.word):
            # Pipelines are filtered by the beginning of their name, all others by a part of it.
            filter_name = "PipelineNamePrefix" if kind is PIPELINE else "NameContains"
            listed = entries(
                client, kind.operation("list"), kind.summaries, **{filter_name: name_prefix(session)}
            )
            by_arn = {kind.arn(fields).lower(): fields for fields in listed}
            for arn in tagged.get(kind.word, ()):
                if arn.lower() not in by_arn and (fields := described(client, kind, arn.rpartition("/")[2])):
                    by_arn[arn.lower()] = fields
            for fields in by_arn.values():
                if owned(session, client.list_tags, ResourceArn=kind.arn(fields)):
                    item = _resource(client, kind, fields)
                    # This machine is not billed.
                    inventory.items += _with_versions(
                        client, replace(item, hourly=0.0) if session.local else item
                    )


@contextmanager
def reading(session: Session, inventory: Inventory, what: str) -> Iterator[None]:
    """Turn a refusal into a sentence of `inventory.unreadable`; bad credentials and no network end
    everything.

    `what` names the resources that the block looks for. Local mode refuses services that it lacks by
    `ConfigError`.
    """
    try:
        yield
    except CloudError as error:
        if error.code in _FATAL:
            raise
        inventory.unreadable.append(f"{what}: {error}")
    except ConfigError as error:
        if not session.local:
            inventory.unreadable.append(f"{what}: {error}")


def owned(session: Session, call: Callable[..., Any], **request: Any) -> bool:
    """Whether the tags that `call(**request)` lists are this project's; not where the resource is gone."""
    try:
        answer = call(**request)
    except CloudError as error:
        if error.code in MISSING:
            return False
        raise
    return project_of(answer.get("Tags", answer.get("tags", ()))) == session.project


def project_of(tags: Mapping[str, str] | Iterable[Mapping[str, str]]) -> str | None:
    """The project named in tags, which AWS's services write in three forms."""
    if not isinstance(tags, Mapping):
        tags = {tag.get("Key", tag.get("key", "")): tag.get("Value", tag.get("value", "")) for tag in tags}
    return tags.get(TAG)


def described(client: Any, kind: ResourceType, name: str) -> dict[str, Any] | None:
    """SageMaker's description of a resource, or None where it does not exist."""
    try:
        answer: dict[str, Any] = getattr(client, kind.operation("describe"))(**kind.key(name))
    except CloudError as error:
        if error.code in MISSING:
            return None
        raise
    return answer


def name_prefix(session: Session) -> str:
    """How names of the project begin, as `new_name` makes them."""
    return re.sub(r"[^A-Za-z0-9]+", "-", session.project).strip("-")


def utc(time: datetime | None) -> datetime | None:
    """The time in UTC."""
    return None if time is None else time.astimezone(UTC)


def words() -> tuple[str, ...]:
    """Every kind that a resource may have, as `--keep` takes them."""
    return (*BY_WORD, "model-package", *OTHER_KINDS)


def _tagged(session: Session, inventory: Inventory) -> dict[str, list[str]]:
    """ARNs of SageMaker that carry the tag, by kind."""
    arns: dict[str, list[str]] = {}
    with reading(session, inventory, "tags"):
        tagged = entries(
            session.client("resourcegroupstaggingapi"), "get_resources", "ResourceTagMappingList",
            TagFilters=[{"Key": TAG, "Values": [session.project]}], ResourceTypeFilters=["sagemaker"],
        )  # fmt: skip
        for entry in tagged:
            word = entry["ResourceARN"].split(":", 5)[-1].partition("/")[0]
            arns.setdefault(word, []).append(entry["ResourceARN"])
    return arns


def _resource(client: Any, kind: ResourceType, fields: dict[str, Any]) -> Resource:
    status, detail = kind.status(fields), ""
    cost: float | None = 0.0
    warm = fields.get("WarmPoolStatus", {}).get("Status") == "Available"
    if status in RUNS or warm:
        instances = list(_instances(client, kind, described(client, kind, kind.name(fields)) or fields))
        detail, cost = ", ".join(text for text, _ in instances), 0.0
        known = [hourly for _, hourly in instances if hourly is not None]
        cost = sum(known) if len(known) == len(instances) else None
    if warm and status not in RUNS:
        status, detail = "WarmPool", f"{detail}, kept warm"
    created = utc(fields.get("CreationTime"))
    return Resource(kind.word, kind.name(fields), kind.arn(fields), status, created, detail, cost)


def _instances(client: Any, kind: ResourceType, fields: dict[str, Any]) -> Iterator[tuple[str, float | None]]:
    """Yield `2 x ml.m5.large` and US dollars an hour; nothing for what has only jobs of its own."""
    groups: Iterable[tuple[str, int]] = ()
    if kind is ENDPOINT:
        groups = _variants(client, fields)
    elif kind.instances:
        for name in kind.instances.split("."):
            fields = fields.get(name, {})
        clusters = fields.get("InstanceGroups") or [fields]
        groups = [(group.get("InstanceType", ""), group.get("InstanceCount", 1)) for group in clusters]
    for instance, count in groups:
        hourly = price(instance, kind.billed_as) if count else 0.0
        yield f"{count} x {instance}" if count else instance, None if hourly is None else hourly * count


def _variants(client: Any, endpoint: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """The instance type and count of each variant of an endpoint; a serverless one has no instances."""
    name = endpoint.get("EndpointConfigName")
    config = described(client, CONFIG, name) if name else None
    current = {variant.get("VariantName"): variant for variant in endpoint.get("ProductionVariants", ())}
    for variant in (config or {}).get("ProductionVariants", ()):
        count = current.get(variant.get("VariantName"), {}).get("CurrentInstanceCount")
        if "ServerlessConfig" in variant:
            yield "serverless", 0
        else:
            yield variant.get("InstanceType", ""), count or variant.get("InitialInstanceCount", 1)


def _with_versions(client: Any, item: Resource) -> Iterator[Resource]:
    """The resource; the versions of a model group come before it."""
    if item.kind == GROUP.word:
        versions = entries(
            client, "list_model_packages", "ModelPackageSummaryList", ModelPackageGroupName=item.name
        )
        for version in versions:
            yield Resource(
                "model-package", f"{item.name}/{version.get('ModelPackageVersion', '')}",
                version["ModelPackageArn"],
                version.get("ModelApprovalStatus", ""), utc(version.get("CreationTime")),
            )  # fmt: skip
    yield item
