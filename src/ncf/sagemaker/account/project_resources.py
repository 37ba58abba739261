"""What a project has beside SageMaker: schedules, scaling, images, objects, logs; and local mode's files.

In: a session and the inventory of what SageMaker has. Out: more items in it. How each is known to be the project's is in
the table of `ncf.sagemaker.account.inventory`. A session that has no such service (local mode) has nothing there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.account.inventory import (
    MISSING,
    Inventory,
    Resource,
    looking,
    owned,
    part_of_names,
    resources,
    tag_of,
    utc,
)
from ncf.sagemaker.paging import entries
from ncf.sagemaker.session import Session

ENDPOINT_LOGS = "/aws/sagemaker/Endpoints/"
JOB_LOGS = {
    "training-job": "/aws/sagemaker/TrainingJobs",
    "processing-job": "/aws/sagemaker/ProcessingJobs",
    "transform-job": "/aws/sagemaker/TransformJobs",
}
DIGEST = "ncf-sha256"
"""Metadata of every object that ncf puts (`ncf.sagemaker.storage`)."""
_HEADS = 500


def everything(session: Session) -> Inventory:
    """All that is the project's, and where one could not look."""
    inventory = Inventory()
    resources(session, inventory)
    for what, find in (
        ("schedules", _schedules), ("rules", _rules), ("autoscaling", _scaling), ("images", _repositories),
        ("objects", objects), ("log groups", _log_groups), ("log streams", _log_streams), ("files", _files),
    ):  # fmt: skip
        with looking(session, inventory, what):
            inventory.items += list(find(session, inventory))
    return inventory


def bucket(session: Session) -> str:
    """Name of the session's bucket, which need not exist: `Session.bucket` would make it."""
    return session.settings.bucket or f"sagemaker-{session.region}-{session.account}"


def _schedules(session: Session, inventory: Inventory) -> Iterator[Resource]:
    client = session.client("scheduler")
    pipelines = {item.arn.lower() for item in inventory.of("pipeline")}
    groups = [
        group
        for group in entries(client.list_schedule_groups, "ScheduleGroups")
        if owned(session, client.list_tags_for_resource, ResourceArn=group["Arn"])
    ]
    ours = {group["Name"] for group in groups}
    for one in entries(client.list_schedules, "Schedules"):
        if one["GroupName"] in ours or one.get("Target", {}).get("Arn", "").lower() in pipelines:
            yield Resource(
                "schedule", one["Name"], one["Arn"], one.get("State", ""), utc(one.get("CreationDate")),
                f"starts {one.get('Target', {}).get('Arn', '').rpartition('/')[2]}", fields={"GroupName": one["GroupName"]},
            )  # fmt: skip
    for group in groups:
        yield Resource("schedule-group", group["Name"], group["Arn"], created=utc(group.get("CreationDate")))


def _rules(session: Session, _: Inventory) -> Iterator[Resource]:
    client = session.client("events")
    for one in entries(client.list_rules, "Rules", NamePrefix=part_of_names(session)):
        if owned(session, client.list_tags_for_resource, ResourceARN=one["Arn"]):
            yield Resource(
                "rule",
                one["Name"],
                one["Arn"],
                one.get("State", ""),
                detail=one.get("ScheduleExpression", ""),
            )


def _scaling(session: Session, inventory: Inventory) -> Iterator[Resource]:
    client = session.client("application-autoscaling")
    endpoints = {item.name for item in inventory.of("endpoint")}
    for one in entries(client.describe_scalable_targets, "ScalableTargets", ServiceNamespace="sagemaker"):
        if one["ResourceId"].split("/")[1] in endpoints:
            yield Resource(
                "autoscaling-target", one["ResourceId"], one.get("ScalableTargetARN", ""), created=utc(one.get("CreationTime")),
                detail=f"{one['MinCapacity']} to {one['MaxCapacity']} instances",
                fields={"ScalableDimension": one["ScalableDimension"]},
            )  # fmt: skip


def _repositories(session: Session, _: Inventory) -> Iterator[Resource]:
    client = session.client("ecr")
    for one in entries(client.describe_repositories, "repositories", "nextToken"):
        if owned(session, client.list_tags_for_resource, resourceArn=one["repositoryArn"]):
            images = list(
                entries(
                    client.describe_images, "imageDetails", "nextToken", repositoryName=one["repositoryName"]
                )
            )
            size = sum(image.get("imageSizeInBytes", 0) for image in images)
            yield Resource(
                "repository", one["repositoryName"], one["repositoryArn"], created=utc(one.get("createdAt")),
                detail=f"{count(len(images), 'image')}, {gigabytes(size)}", bytes=size,
            )  # fmt: skip


def objects(session: Session, inventory: Inventory) -> Iterator[Resource]:
    """The project's prefix as one item, with all versions of its objects."""
    client, name, prefix = session.client("s3"), bucket(session), f"{session.project}/"
    try:
        client.head_bucket(Bucket=name, ExpectedBucketOwner=session.account)
    except CloudError as error:
        if error.code in MISSING:
            return
        raise
    found = list(versions(client, name, prefix))
    if not found:
        return
    uri = f"s3://{name}/{prefix}"
    proof = _put_by_ncf(client, name, found)
    if proof is None:
        inventory.blind.append(
            f"objects: nothing in the first {_HEADS} objects below {uri} was put there by ncf, so they are left: delete them "
            "yourself if they are this project's."
        )
        return
    size = sum(one.get("Size", 0) for one in found)
    newest = max(one["LastModified"] for one in found)
    yield Resource(
        "objects", uri, created=utc(newest), detail=f"{count(len(found), 'object')}, {gigabytes(size)}", bytes=size,
        fields={"proof": proof},
    )  # fmt: skip


def versions(client: Any, name: str, prefix: str) -> Iterator[dict[str, Any]]:
    """All versions of all objects below a prefix, and marks of deletion."""
    marks: dict[str, str] = {}
    while True:
        page = client.list_object_versions(Bucket=name, Prefix=prefix, **marks)
        yield from page.get("Versions", ())
        yield from page.get("DeleteMarkers", ())
        if not page.get("IsTruncated"):
            return
        names = (("KeyMarker", "NextKeyMarker"), ("VersionIdMarker", "NextVersionIdMarker"))
        marks = {asked: page[said] for asked, said in names if page.get(said)}


def _put_by_ncf(client: Any, name: str, found: list[dict[str, Any]]) -> str | None:
    """The key of one object that carries our digest; folders are asked in turn, for outputs carry none."""
    folders: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        if "Size" in one:
            folders.setdefault(one["Key"].rpartition("/")[0], []).append(one)
    turns = sorted(
        ((place, one) for folder in folders.values() for place, one in enumerate(folder)), key=lambda x: x[0]
    )
    for _, one in turns[:_HEADS]:
        version = {"VersionId": one["VersionId"]} if one.get("VersionId") not in (None, "null") else {}
        if DIGEST in client.head_object(Bucket=name, Key=one["Key"], **version)["Metadata"]:
            return str(one["Key"])
    return None


def _log_groups(session: Session, inventory: Inventory) -> Iterator[Resource]:
    client = session.client("logs")
    endpoints = {item.name for item in inventory.of("endpoint")}
    for one in entries(
        client.describe_log_groups, "logGroups", "nextToken", logGroupNamePrefix=ENDPOINT_LOGS
    ):
        name, arn = one["logGroupName"], one.get("arn", "").removesuffix(":*")
        if name.removeprefix(ENDPOINT_LOGS) in endpoints or (
            name.startswith(f"{ENDPOINT_LOGS}{part_of_names(session)}") and _claimed(session, client, arn)
        ):
            size = one.get("storedBytes", 0)
            created = (
                datetime.fromtimestamp(one["creationTime"] / 1000, UTC) if "creationTime" in one else None
            )
            yield Resource("log-group", name, arn, created=created, detail=gigabytes(size), bytes=size)


def _claimed(session: Session, client: Any, arn: str) -> bool:
    return (
        bool(arn)
        and tag_of(client.list_tags_for_resource(resourceArn=arn).get("tags", {})) == session.project
    )


def _log_streams(session: Session, inventory: Inventory) -> Iterator[Resource]:
    client = session.client("logs")
    for word, group in JOB_LOGS.items():
        for job in inventory.of(word):
            streams = stream_names(client, group, job.name)
            if streams:
                yield Resource(
                    "log-streams", f"{group}/{job.name}", created=job.created, detail=count(len(streams), "stream"),
                    fields={"group": group, "job": job.name},
                )  # fmt: skip


def stream_names(client: Any, group: str, job: str) -> list[str]:
    """The log streams of one job."""
    found = entries(
        client.describe_log_streams,
        "logStreams",
        "nextToken",
        logGroupName=group,
        logStreamNamePrefix=f"{job}/",
    )
    try:
        return [one["logStreamName"] for one in found]
    except CloudError as error:
        if error.code in MISSING:
            return []
        raise


def _files(session: Session, inventory: Inventory) -> Iterator[Resource]:
    """Local mode's copies of data, code and artifacts, and its logs, where nothing else in `home` is another project's."""
    home = session.settings.home.resolve()
    there = [folder for folder in local_folders(home) if folder.is_dir()]
    if not session.local or not there:
        return
    if others := sorted(_projects(home) - {session.project}):
        inventory.blind.append(
            f"files: {home} is also used by {', '.join(others)}, so its storage and logs are left."
        )
        return
    files = [path for folder in there for path in folder.rglob("*") if path.is_file()]
    newest = datetime.fromtimestamp(max((path.stat().st_mtime for path in files), default=0), UTC)
    size = gigabytes(sum(path.stat().st_size for path in files))
    yield Resource("files", str(home), created=newest, detail=f"{count(len(files), 'file')}, {size}")


_UNTAGGED = ("PipelineExecution", "ModelPackage")
"""They belong to their pipeline and their group, which have tags."""


def local_folders(home: Path) -> list[Path]:
    """What local mode keeps apart from its resources: URIs of `Session.uri`, and logs."""
    return [home / "storage", home / "logs"]


def _projects(home: Path) -> set[str]:
    """The projects of all resources in local mode's folder; one that could have a tag and has none counts as nameless."""
    records = (json.loads(path.read_text("utf-8")) for path in home.glob("*/*/state.json"))
    return {
        tag_of(record.get("tags", ())) or "something without a project"
        for record in records
        if "tags" in record and record["kind"] not in _UNTAGGED
    }


def count(number: int, noun: str) -> str:
    """`1 object`, `2 objects`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def gigabytes(size: int) -> str:
    """`1.2 GB`, or smaller units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
