"""Deletes what carries this project's tag, and only that.

In: a session and the inventory that was shown. Out: a `CleanupResult`. Running jobs are stopped first. Then
resources are deleted in an order in which nothing that is left depends on what is gone. What cannot be
deleted is listed with the reason, and the rest continues. The one decision worth knowing: the proof that a
resource without a tag is ours (the endpoint of a log group, the job of a log stream, our object in a prefix)
is deleted after it, or leaves the tag on it. So an interrupted clean-up can be run again and finds the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from ncf.data.files import storage_errors
from ncf.errors import CloudError, ConfigError, StorageError
from ncf.sagemaker.account import project_resources
from ncf.sagemaker.account.inventory import (
    BY_WORD,
    ENDPOINT,
    JOBS,
    MISSING,
    RUNS,
    Inventory,
    Resource,
    described,
)
from ncf.sagemaker.calls import entries, wait_until
from ncf.sagemaker.endpoints import outcome
from ncf.sagemaker.jobs import logs
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
    """What was deleted and what was not."""

    deleted: list[Resource] = field(default_factory=list)
    failed: list[tuple[Resource, str]] = field(default_factory=list)
    """With the reason."""
    left: list[Resource] = field(default_factory=list)
    """What an interrupted clean-up did not reach."""


def deletable(session: Session, inventory: Inventory) -> tuple[list[Resource], list[Resource]]:
    """What clean-up deletes, in its order; and finished jobs that AWS keeps as records for ever."""
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
    """Stop what runs, then delete `items` in the order given; ctrl-C ends it, with what was done so far in
    the result.

    `log` receives a line for each resource. `wait` is how many seconds a job, execution or endpoint may take
    to end, `poll` the pause between two looks.
    """
    result = CleanupResult(left=list(items))
    work = _Deleter(session, log, wait, poll)
    job_kinds = {kind.word for kind in JOBS}
    try:
        stuck = work.stop([item for item in items if item.kind in job_kinds])
        for item in items:
            reason = stuck.get(item.name) or _failure(work, item)
            result.left.remove(item)
            if reason:
                result.failed.append((item, reason))
                log(f"{item.kind} {item.name}: not deleted: {reason}")
            else:
                result.deleted.append(item)
                log(f"{item.kind} {item.name}: deleted")
    except KeyboardInterrupt:
        log("Interrupted: run it again for what is left.")
    return result


def _is_record(client: Any, item: Resource) -> bool:
    """Whether AWS has no call that deletes such a resource: transform jobs, except in local mode."""
    kind = BY_WORD.get(item.kind)
    return kind is not None and not hasattr(client, kind.operation("delete"))


def _failure(work: _Deleter, item: Resource) -> str:
    """Delete one resource; why that failed, or an empty text."""
    try:
        work.delete(item)
    except CloudError as error:
        return "" if error.code in MISSING and not _is_refusal(error) else str(error)
    except (ConfigError, StorageError) as error:
        return str(error)
    return ""


def _is_refusal(error: CloudError) -> bool:
    """Whether it may not be deleted: SageMaker uses the same code, with another text, for what is missing."""
    text = str(error).lower()
    absent = ("could not find", "not found", "does not exist", "no such")
    return error.code == "ValidationException" and not any(words in text for words in absent)


class _Deleter:
    """The calls of one clean-up."""

    def __init__(self, session: Session, log: Callable[[str], None], wait: float, poll: float) -> None:
        self._session, self._log, self._wait, self._poll = session, log, wait, poll

    def stop(self, jobs: Sequence[Resource]) -> dict[str, str]:
        """Stop jobs and release warm pools; returns why some did not end, by name."""
        client, stuck, waiting = self._session.client("sagemaker"), dict[str, str](), list[Resource]()
        for job in jobs:
            kind = BY_WORD[job.kind]
            try:
                if job.status == "WarmPool":
                    released = {"KeepAlivePeriodInSeconds": 0}
                    client.update_training_job(TrainingJobName=job.name, ResourceConfig=released)
                elif job.status == "InProgress":
                    self._log(f"{job.kind} {job.name}: stopping")
                    getattr(client, kind.operation("stop"))(**kind.key(job.name))
                if job.running or job.status == "WarmPool":
                    waiting.append(job)
            except CloudError as error:
                if self._runs(job):
                    stuck[job.name] = str(error)
        for job in waiting:
            try:
                self._await_end(lambda job=job: self._runs(job), "it has not stopped")  # type: ignore[misc]
            except CloudError as error:
                stuck[job.name] = str(error)
        return stuck

    def delete(self, item: Resource) -> None:
        """Delete one resource; raises `CloudError`, `ConfigError` or `StorageError` where that fails."""
        special: dict[str, Callable[[Resource], Any]] = {
            "schedule": self._schedule, "schedule-group": self._schedule_group, "rule": self._rule,
            "pipeline": self._pipeline, "autoscaling-target": self._autoscaling, "endpoint": self._endpoint,
            "model-package": self._package, "repository": self._repository, "objects": self._objects,
            "log-streams": self._streams, "log-group": self._log_group, "files": self._files,
        }  # fmt: skip
        if item.kind in special:
            special[item.kind](item)
            return
        kind, client = BY_WORD[item.kind], self._session.client("sagemaker")
        if hasattr(client, kind.operation("delete")):
            getattr(client, kind.operation("delete"))(**kind.key(item.name))

    def _runs(self, job: Resource) -> bool:
        kind = BY_WORD[job.kind]
        fields = described(self._session.client("sagemaker"), kind, job.name) or {}
        warm = fields.get("WarmPoolStatus", {}).get("Status") in ("Available", "InUse")
        return kind.status(fields) in RUNS or warm

    def _await_end(self, runs: Callable[[], bool], what: str) -> None:
        """Wait until `runs` says no; raises `CloudError` with `what` where that takes too long."""
        try:
            wait_until(runs, lambda now: not now, patience=self._wait, first=self._poll, longest=self._poll)
        except TimeoutError:
            raise CloudError(f"{what} after {self._wait:.0f} s; run clean-up again later") from None

    def _schedule(self, item: Resource) -> None:
        self._session.client("scheduler").delete_schedule(Name=item.name, GroupName=item.fields["GroupName"])

    def _schedule_group(self, item: Resource) -> None:
        self._session.client("scheduler").delete_schedule_group(Name=item.name)

    def _rule(self, item: Resource) -> None:
        client = self._session.client("events")
        targets = [
            target["Id"] for target in entries(client, "list_targets_by_rule", "Targets", Rule=item.name)
        ]
        if targets:
            client.remove_targets(Rule=item.name, Ids=targets)
        client.delete_rule(Name=item.name)

    def _pipeline(self, item: Resource) -> None:
        client = self._session.client("sagemaker")
        for execution in list(self._executions(client, item)):
            arn = execution["PipelineExecutionArn"]
            self._log(f"pipeline {item.name}: stopping {arn.rpartition('/')[2]}")
            client.stop_pipeline_execution(PipelineExecutionArn=arn, ClientRequestToken=str(uuid4()))
        self._await_end(lambda: any(self._executions(client, item)), "an execution has not stopped")
        client.delete_pipeline(PipelineName=item.name, ClientRequestToken=str(uuid4()))

    def _executions(self, client: Any, item: Resource) -> Iterator[dict[str, Any]]:
        """The executions that run."""
        summaries = entries(
            client, "list_pipeline_executions", "PipelineExecutionSummaries", PipelineName=item.name
        )
        return (one for one in summaries if one.get("PipelineExecutionStatus") in ("Executing", "Stopping"))

    def _autoscaling(self, item: Resource) -> None:
        self._session.client("application-autoscaling").deregister_scalable_target(
            ServiceNamespace="sagemaker",
            ResourceId=item.name,
            ScalableDimension=item.fields["ScalableDimension"],
        )

    def _endpoint(self, item: Resource) -> None:
        client = self._session.client("sagemaker")
        try:
            # The log group outlives the endpoint, which alone proves whose it is: so it gets the tag first.
            outcome.claim_log_group(self._session, item.name)
        except CloudError as error:
            self._log(f"endpoint {item.name}: its log group could not be tagged: {error}")
        client.delete_endpoint(EndpointName=item.name)
        self._await_end(lambda: described(client, ENDPOINT, item.name) is not None, "it is still there")

    def _package(self, item: Resource) -> None:
        self._session.client("sagemaker").delete_model_package(ModelPackageName=item.arn)

    def _repository(self, item: Resource) -> None:
        self._session.client("ecr").delete_repository(repositoryName=item.name, force=True)

    def _objects(self, item: Resource) -> None:
        """Delete all versions of our objects; the one that proves that the results are ours comes last."""
        client = self._session.client("s3")
        bucket, _, prefix = item.name.removeprefix("s3://").partition("/")
        versions = sorted(
            project_resources.own_objects(client, bucket, prefix)[0],
            key=lambda version: version["Key"] == item.fields["proof"],
        )
        for start in range(0, len(versions), _BATCH):
            part = versions[start : start + _BATCH]
            batch = [{"Key": version["Key"], **project_resources.version_id(version)} for version in part]
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
            if errors := answer.get("Errors"):
                first = errors[0]
                sentence = f"{len(errors)} objects, the first {first.get('Key')}: {first.get('Message')}"
                raise CloudError(sentence)
            if len(versions) > _BATCH:
                self._log(f"objects {item.name}: {start + len(batch)} of {len(versions)} deleted")

    def _streams(self, item: Resource) -> None:
        client, group = self._session.client("logs"), item.fields["group"]
        for name in logs.stream_names(client, group, f"{item.fields['job']}/"):
            client.delete_log_stream(logGroupName=group, logStreamName=name)

    def _log_group(self, item: Resource) -> None:
        self._session.client("logs").delete_log_group(logGroupName=item.name)

    def _files(self, item: Resource) -> None:
        """Delete our files, and the folders that are empty then."""
        home = Path(item.name)
        with storage_errors(home):
            for path in project_resources.own_files(home)[0]:
                path.unlink()
                for folder in path.relative_to(home).parents[:-1]:
                    with suppress(OSError):  # There are other files in it.
                        (home / folder).rmdir()
