"""What a project has outside SageMaker: schedules, rules, autoscaling, images, objects, logs, and files of
local mode.

In: a session, and the inventory of what SageMaker has. Out: more resources in it. How each is known to belong
to the project is in the table of `ncf.sagemaker.account.inventory`. Local mode has only some of these
services.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.account.inventory import (
    MISSING,
    Inventory,
    Resource,
    add_sagemaker,
    name_prefix,
    owned,
    project_of,
    reading,
    utc,
)
from ncf.sagemaker.calls import entries
from ncf.sagemaker.jobs import logs
from ncf.sagemaker.local.state import record_in
from ncf.sagemaker.session import Session
from ncf.sagemaker.storage import DIGEST

JOB_LOGS = {"training-job": logs.TRAINING, "processing-job": logs.PROCESSING, "transform-job": logs.TRANSFORM}
UPLOADS = ("code", "data", "models", "pretrained", "registry")
RESULTS = ("async", "capture", "jobs", "pipelines", "prepare", "transforms")
"""The folders below `Session.uri()`: what ncf puts there carries its digest, and what AWS writes does not."""
_LOG_FOLDERS = [group.rpartition("/")[2] for group in (*JOB_LOGS.values(), logs.ENDPOINTS)]
_MOST_PROBED = 500
_UNTAGGED = ("PipelineExecution", "ModelPackage")
"""They belong to their pipeline and their group, which have tags."""


def everything(session: Session) -> Inventory:
    """All resources of the project, and where they could not be looked for."""
    inventory = Inventory()
    add_sagemaker(session, inventory)
    for what, find in (
        ("schedules", _schedules), ("rules", _rules), ("autoscaling", _autoscaling),
        ("images", _repositories),
        ("objects", _objects), ("log groups", _log_groups), ("log streams", _log_streams), ("files", _files),
    ):  # fmt: skip
        with reading(session, inventory, what):
            inventory.items += list(find(session, inventory))
    return inventory


def _schedules(session: Session, inventory: Inventory) -> Iterator[Resource]:
    client = session.client("scheduler")
    pipelines = {item.arn.lower() for item in inventory.of("pipeline")}
    groups = [
        group
        for group in entries(client, "list_schedule_groups", "ScheduleGroups")
        if owned(session, client.list_tags_for_resource, ResourceArn=group["Arn"])
    ]
    ours = {group["Name"] for group in groups}
    for schedule in entries(client, "list_schedules", "Schedules"):
        target = schedule.get("Target", {}).get("Arn", "")
        if schedule["GroupName"] in ours or target.lower() in pipelines:
            yield Resource(
                "schedule", schedule["Name"], schedule["Arn"], schedule.get("State", ""),
                utc(schedule.get("CreationDate")), f"starts {target.rpartition('/')[2]}",
                fields={"GroupName": schedule["GroupName"]},
            )  # fmt: skip
    for group in groups:
        yield Resource("schedule-group", group["Name"], group["Arn"], created=utc(group.get("CreationDate")))


def _rules(session: Session, _: Inventory) -> Iterator[Resource]:
    client = session.client("events")
    for rule in entries(client, "list_rules", "Rules", NamePrefix=name_prefix(session)):
        if owned(session, client.list_tags_for_resource, ResourceARN=rule["Arn"]):
            when = rule.get("ScheduleExpression", "")
            yield Resource("rule", rule["Name"], rule["Arn"], rule.get("State", ""), detail=when)


def _autoscaling(session: Session, inventory: Inventory) -> Iterator[Resource]:
    client = session.client("application-autoscaling")
    endpoints = {item.name for item in inventory.of("endpoint")}
    targets = entries(client, "describe_scalable_targets", "ScalableTargets", ServiceNamespace="sagemaker")
    for target in targets:
        if target["ResourceId"].split("/")[1] in endpoints:
            yield Resource(
                "autoscaling-target", target["ResourceId"], target.get("ScalableTargetARN", ""),
                created=utc(target.get("CreationTime")),
                detail=f"{target['MinCapacity']} to {target['MaxCapacity']} instances",
                fields={"ScalableDimension": target["ScalableDimension"]},
            )  # fmt: skip


def _repositories(session: Session, _: Inventory) -> Iterator[Resource]:
    client = session.client("ecr")
    for repository in entries(client, "describe_repositories", "repositories"):
        name, arn = repository["repositoryName"], repository["repositoryArn"]
        if owned(session, client.list_tags_for_resource, resourceArn=arn):
            images = list(entries(client, "describe_images", "imageDetails", repositoryName=name))
            size = sum(image.get("imageSizeInBytes", 0) for image in images)
            yield Resource(
                "repository", name, arn, created=utc(repository.get("createdAt")),
                detail=f"{count(len(images), 'image')}, {gigabytes(size)}", bytes=size,
            )  # fmt: skip


def _objects(session: Session, inventory: Inventory) -> Iterator[Resource]:
    """What is ours below the project's prefix as one resource, with all versions of the objects."""
    client, bucket, prefix = session.client("s3"), session.bucket_name, f"{session.project}/"
    try:
        client.head_bucket(Bucket=bucket, ExpectedBucketOwner=session.account)
    except CloudError as error:
        if error.code in MISSING:
            return
        raise
    objects, others = own_objects(client, bucket, prefix)
    uri = f"s3://{bucket}/{prefix}"
    if others:
        what = f"{count(len(others), 'object')} below {uri} that ncf did not put there"
        inventory.kept.append(f"{what}, such as {others[0]}.")
    if not objects:
        return
    proof = _uploaded_by_ncf(client, bucket, objects)
    if proof is None:
        inventory.unreadable.append(
            f"objects: ncf uploaded none of the first {_MOST_PROBED} objects below {uri}, so they are left: "
            "delete them yourself if they belong to this project."
        )
        return
    size = sum(version.get("Size", 0) for version in objects)
    newest = max(version["LastModified"] for version in objects)
    detail = f"{count(len(objects), 'object')}, {gigabytes(size)}"
    yield Resource("objects", uri, created=utc(newest), detail=detail, bytes=size, fields={"proof": proof})


def own_objects(client: Any, bucket: str, prefix: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Versions below a project's prefix that are ours, and the keys of the others.

    What carries our digest is ours, and what lies in a job's or endpoint's own folder of results, since what
    AWS writes there carries none. The delete marker of another's object stays: its versions would reappear.
    """
    ours, others, markers = list[dict[str, Any]](), dict[str, None](), list[dict[str, Any]]()
    for version in versions(client, bucket, prefix):
        key = version["Key"]
        folder, *rest = key.removeprefix(prefix).split("/")
        # The pipeline's step that evaluates writes the champion, as AWS writes all outputs: without a digest.
        if (folder in RESULTS and len(rest) > 1) or (folder == "registry" and rest[1:2] == ["champion"]):
            ours.append(version)
        elif folder in UPLOADS and "Size" not in version:
            markers.append(version)
        elif folder in UPLOADS and _has_digest(client, bucket, version):
            ours.append(version)
        elif not key.endswith("/"):  # Consoles make such objects to show a folder.
            others[key] = None
    uploaded = {version["Key"] for version in ours} - set(others)
    return ours + [marker for marker in markers if marker["Key"] in uploaded], list(others)


def _has_digest(client: Any, bucket: str, version: dict[str, Any]) -> bool:
    head = client.head_object(Bucket=bucket, Key=version["Key"], **version_id(version))
    return DIGEST in head["Metadata"]


def versions(client: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield all versions of all objects below a prefix, and their delete markers."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Versions", ())
        yield from page.get("DeleteMarkers", ())


def version_id(version: dict[str, Any]) -> dict[str, str]:
    """The request field that names a version; none in a bucket that keeps no versions."""
    return {"VersionId": version["VersionId"]} if version.get("VersionId") not in (None, "null") else {}


def _uploaded_by_ncf(client: Any, bucket: str, objects: list[dict[str, Any]]) -> str | None:
    """The key of one object that carries our digest, or None.

    Outputs of jobs carry none and may fill whole folders, so one object of each folder is asked in turn.
    """
    folders: dict[str, list[dict[str, Any]]] = {}
    for version in objects:
        if "Size" in version:
            folders.setdefault(version["Key"].rpartition("/")[0], []).append(version)
    turns = [version for turn in zip_longest(*folders.values()) for version in turn if version is not None]
    for version in turns[:_MOST_PROBED]:
        if _has_digest(client, bucket, version):
            return str(version["Key"])
    return None


def _log_groups(session: Session, inventory: Inventory) -> Iterator[Resource]:
    client, prefix = session.client("logs"), f"{logs.ENDPOINTS}/"
    endpoints = {item.name for item in inventory.of("endpoint")}
    for group in entries(client, "describe_log_groups", "logGroups", logGroupNamePrefix=prefix):
        name, arn = group["logGroupName"], group.get("arn", "").removesuffix(":*")
        endpoint = name.removeprefix(prefix)
        if endpoint in endpoints or (
            endpoint.startswith(name_prefix(session))
            and arn
            and project_of(client.list_tags_for_resource(resourceArn=arn).get("tags", {})) == session.project
        ):
            size, created = group.get("storedBytes", 0), group.get("creationTime")
            moment = None if created is None else datetime.fromtimestamp(created / 1000, UTC)
            yield Resource("log-group", name, arn, created=moment, detail=gigabytes(size), bytes=size)


def _log_streams(session: Session, inventory: Inventory) -> Iterator[Resource]:
    client = session.client("logs")
    for word, group in JOB_LOGS.items():
        for job in inventory.of(word):
            if streams := logs.stream_names(client, group, f"{job.name}/"):
                yield Resource(
                    "log-streams", f"{group}/{job.name}", created=job.created,
                    detail=count(len(streams), "stream"),
                    fields={"group": group, "job": job.name},
                )  # fmt: skip


def _files(session: Session, inventory: Inventory) -> Iterator[Resource]:
    """Local mode's data, code, artifacts and logs, unless another project uses `home` too."""
    home = session.settings.home.resolve()
    if not session.local:
        return
    files, foreign = own_files(home)
    if foreign:
        what = f"{count(len(foreign), 'file')} in {home} that ncf did not write"
        inventory.kept.append(f"{what}, such as {foreign[0].relative_to(home)}.")
    if not files:
        return
    if others := sorted(_projects(home) - {session.project}):
        names = ", ".join(others)
        inventory.unreadable.append(
            f"files: {home} is also used by {names}, so its storage and logs are left."
        )
        return
    stats = [path.lstat() for path in files]
    newest = datetime.fromtimestamp(max((stat.st_mtime for stat in stats), default=0), UTC)
    detail = f"{count(len(stats), 'file')}, {gigabytes(sum(stat.st_size for stat in stats))}"
    yield Resource("files", str(home), created=newest, detail=detail)


def own_files(home: Path) -> tuple[list[Path], list[Path]]:
    """Files in the folders of local mode that hold no resources (what `Session.uri` names, and logs): those
    that it writes, and the others.
    """
    ours, others = list[Path](), list[Path]()
    for path in sorted([*(home / "storage").rglob("*"), *(home / "logs").rglob("*")]):
        if path.is_symlink() or not path.is_dir():
            top, folder, *rest = path.relative_to(home).parts
            writes = folder in (*UPLOADS, *RESULTS) if top == "storage" else folder in _LOG_FOLDERS
            (ours if writes and len(rest) > (top == "storage") else others).append(path)
    return ours, others


def _projects(home: Path) -> set[str]:
    """The projects of all resources in local mode's folder; one without its tag counts as another project."""
    records = (record_in(path) for path in home.glob("*/*/state.json"))
    return {
        project_of(record["tags"]) or "something without a project"
        for record in records
        if record is not None and record["kind"] not in _UNTAGGED
    }


def count(number: int, noun: str) -> str:
    """`1 object`, `2 objects`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def gigabytes(size: int) -> str:
    """`1.2 GB`, or a smaller unit."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
