"""Deletes what carries this project's tag, and only that.

In: a session and the inventory that was shown. Out: an `CleanupResult`. What still runs is stopped first; then things go in an
order in which nothing is needed any more by what is left; what cannot be deleted is listed with the reason, and the rest
goes on. The one decision worth knowing: what proves that a nameless thing is ours (the endpoint of a log group, the job of
a stream, our object in a prefix) goes after it, or leaves the tag on it, so that a clean-up that was interrupted can be
run again and finds the rest.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from ncf.data.files import storage_errors
from ncf.errors import CloudError, ConfigError, StorageError
from ncf.sagemaker.account import project_resources, resource_types
from ncf.sagemaker.account.inventory import MISSING, Inventory, Resource, described
from ncf.sagemaker.account.resource_types import BY_WORD, RUNS, STOPPABLE
from ncf.sagemaker.endpoints import removal
from ncf.sagemaker.paging import entries
from ncf.sagemaker.session import Session

ORDER = (
    "schedule", "schedule-group", "rule", "pipeline",
    "autoscaling-target", "endpoint", "endpoint-config", "model", "model-package", "model-package-group",
    "repository", "objects", "log-streams",
    "hyper-parameter-tuning-job", "training-job", "processing-job", "transform-job", "log-group", "files",
)  # fmt: skip
_BATCH = 1000
_POLL = 2.0


@dataclass
class CleanupResult:
    """What became of it."""

    deleted: list[Resource] = field(default_factory=list)
    failed: list[tuple[Resource, str]] = field(default_factory=list)
    """With the reason."""
    left: list[Resource] = field(default_factory=list)
    """What was not come to, after an interruption."""


def deletable(session: Session, inventory: Inventory) -> tuple[list[Resource], list[Resource]]:
    """What clean-up acts on, in its order; and finished jobs that AWS keeps as records for ever."""
    client = session.client("sagemaker")
    records = [item for item in inventory.items if not item.running and _is_record(client, item)]
    items = [item for item in inventory.items if item not in records]
    return sorted(items, key=lambda item: ORDER.index(item.kind)), records


def delete(
    session: Session,
    items: Sequence[Resource],
    log: Callable[[str], None] = print,
    *,
    wait: float = 900,
    poll: float = _POLL,
) -> CleanupResult:
    """Stop what runs, then delete; an interruption (ctrl-C) ends it with what is done so far in the outcome."""
    outcome = CleanupResult(left=list(items))
    work = _Work(session, log, wait, poll)
    try:
        stuck = work.stop(
            [item for item in items if item.kind in {kind.word for kind in resource_types.JOBS}]
        )
        for item in items:
            reason = stuck.get(item.name) or _reason(work, item)
            outcome.left.remove(item)
            if reason:
                outcome.failed.append((item, reason))
                log(f"{item.kind} {item.name}: not deleted: {reason}")
            else:
                outcome.deleted.append(item)
                log(f"{item.kind} {item.name}: deleted")
    except KeyboardInterrupt:
        log("Interrupted: run it again for what is left.")
    return outcome


def _is_record(client: Any, item: Resource) -> bool:
    kind = BY_WORD.get(item.kind)
    return kind is not None and not hasattr(client, kind.delete)


def _reason(work: _Work, item: Resource) -> str:
    """Delete one; why it did not go, or empty."""
    try:
        work.delete(item)
    except CloudError as error:
        return "" if error.code in MISSING and not _is_refusal(error) else str(error)
    except (ConfigError, StorageError) as error:
        return str(error)
    return ""


def _is_refusal(error: CloudError) -> bool:
    """SageMaker says by the same code that something is not there and that it may not be deleted."""
    said = str(error).lower()
    absent = ("could not find", "not found", "does not exist", "no such")
    return error.code == "ValidationException" and not any(words in said for words in absent)


class _Work:
    """The calls of one clean-up."""

    def __init__(self, session: Session, log: Callable[[str], None], wait: float, poll: float) -> None:
        self._session = session
        self._say = log
        self._wait = wait
        self._poll = poll

    def stop(self, jobs: Sequence[Resource]) -> dict[str, str]:
        """Stop jobs and give back warm pools; why some did not end, by name."""
        client, stuck, waiting = self._session.client("sagemaker"), dict[str, str](), list[Resource]()
        for job in jobs:
            kind = BY_WORD[job.kind]
            try:
                if job.status == "WarmPool":
                    client.update_training_job(
                        TrainingJobName=job.name, ResourceConfig={"KeepAlivePeriodInSeconds": 0}
                    )
                elif job.status in STOPPABLE and kind.stop:
                    self._say(f"{job.kind} {job.name}: stopping")
                    getattr(client, kind.stop)(**kind.key(job.name))
                if job.running or job.status == "WarmPool":
                    waiting.append(job)
            except CloudError as error:
                if self._still(job):
                    stuck[job.name] = str(error)
        for job in waiting:
            if not self._ends(lambda job=job: self._still(job)):  # type: ignore[misc]
                stuck[job.name] = f"it has not stopped after {self._wait:.0f} s; run clean-up again later"
        return stuck

    def delete(self, item: Resource) -> None:
        """Delete one thing."""
        special: dict[str, Callable[[Resource], None]] = {
            "schedule": self._schedule, "schedule-group": self._schedule_group, "rule": self._rule,
            "pipeline": self._pipeline, "autoscaling-target": self._scaling, "endpoint": self._endpoint,
            "model-package": self._package, "repository": self._repository, "objects": self._objects,
            "log-streams": self._streams, "log-group": self._log_group, "files": self._files,
        }  # fmt: skip
        if item.kind in special:
            special[item.kind](item)
            return
        kind, client = BY_WORD[item.kind], self._session.client("sagemaker")
        if hasattr(client, kind.delete):
            getattr(client, kind.delete)(**kind.key(item.name))

    def _still(self, job: Resource) -> bool:
        kind = BY_WORD[job.kind]
        now = described(self._session.client("sagemaker"), kind, job.name)
        warm = (now or {}).get("WarmPoolStatus", {}).get("Status") in ("Available", "InUse")
        return now is not None and (kind.status(now) in RUNS or warm)

    def _ends(self, still: Callable[[], bool]) -> bool:
        until = time.monotonic() + self._wait
        while still():
            if time.monotonic() > until:
                return False
            time.sleep(self._poll)
        return True

    def _schedule(self, item: Resource) -> None:
        self._session.client("scheduler").delete_schedule(Name=item.name, GroupName=item.fields["GroupName"])

    def _schedule_group(self, item: Resource) -> None:
        self._session.client("scheduler").delete_schedule_group(Name=item.name)

    def _rule(self, item: Resource) -> None:
        client = self._session.client("events")
        targets = [one["Id"] for one in entries(client.list_targets_by_rule, "Targets", Rule=item.name)]
        if targets:
            client.remove_targets(Rule=item.name, Ids=targets)
        client.delete_rule(Name=item.name)

    def _pipeline(self, item: Resource) -> None:
        client = self._session.client("sagemaker")
        running = [one["PipelineExecutionArn"] for one in self._executions(client, item)]
        for arn in running:
            self._say(f"pipeline {item.name}: stopping {arn.rpartition('/')[2]}")
            client.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=str(uuid4()))
        if not self._ends(lambda: any(self._executions(client, item))):
            raise CloudError(
                f"an execution has not stopped after {self._wait:.0f} s; run clean-up again later"
            )
        client.delete_pipeline(PipelineName=item.name, ClientRequestToken=str(uuid4()))

    def _executions(self, client: Any, item: Resource) -> Iterator[dict[str, Any]]:
        every = entries(client.list_pipeline_executions, "PipelineExecutionSummaries", PipelineName=item.name)
        return (one for one in every if one.get("PipelineExecutionStatus") in ("Executing", "Stopping"))

    def _scaling(self, item: Resource) -> None:
        self._session.client("application-autoscaling").deregister_scalable_target(
            ServiceNamespace="sagemaker",
            ResourceId=item.name,
            ScalableDimension=item.fields["ScalableDimension"],
        )

    def _endpoint(self, item: Resource) -> None:
        client = self._session.client("sagemaker")
        self._claim_log_group(item)
        client.delete_endpoint(EndpointName=item.name)
        if not self._ends(lambda: described(client, resource_types.ENDPOINT, item.name) is not None):
            raise CloudError(f"it is still there after {self._wait:.0f} s; run clean-up again later")

    def _claim_log_group(self, item: Resource) -> None:
        """Put the tag on the log group, which outlives the endpoint that tells whose it is."""
        try:
            removal.claim(self._session, item.name)
        except CloudError as error:
            self._say(f"endpoint {item.name}: its log group could not be tagged: {error}")

    def _package(self, item: Resource) -> None:
        self._session.client("sagemaker").delete_model_package(ModelPackageName=item.arn)

    def _repository(self, item: Resource) -> None:
        self._session.client("ecr").delete_repository(repositoryName=item.name, force=True)

    def _objects(self, item: Resource) -> None:
        """All versions, the one that proves whose they are at last."""
        client, (bucket, _, prefix) = (
            self._session.client("s3"),
            item.name.removeprefix("s3://").partition("/"),
        )
        found = sorted(
            project_resources.versions(client, bucket, prefix),
            key=lambda one: one["Key"] == item.fields["proof"],
        )
        for start in range(0, len(found), _BATCH):
            batch = [_version(one) for one in found[start : start + _BATCH]]
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
            if errors := answer.get("Errors"):
                first = errors[0]
                raise CloudError(
                    f"{len(errors)} objects, the first {first.get('Key')}: {first.get('Message')}"
                )
            if len(found) > _BATCH:
                self._say(f"objects {item.name}: {start + len(batch)} of {len(found)} deleted")

    def _streams(self, item: Resource) -> None:
        logs, group = self._session.client("logs"), item.fields["group"]
        for name in project_resources.stream_names(logs, group, item.fields["job"]):
            logs.delete_log_stream(logGroupName=group, logStreamName=name)

    def _log_group(self, item: Resource) -> None:
        self._session.client("logs").delete_log_group(logGroupName=item.name)

    def _files(self, item: Resource) -> None:
        for folder in project_resources.local_folders(Path(item.name)):
            if folder.is_dir():
                with storage_errors(folder):
                    shutil.rmtree(folder)


def _version(one: dict[str, Any]) -> dict[str, str]:
    known = {"Key": one["Key"]}
    if one.get("VersionId") not in (None, "null"):
        known["VersionId"] = one["VersionId"]
    return known
