"""Training, processing and transform jobs: the same four calls, told apart by a `JobKind`.

A job is written down and its worker started at once; what it does is in `ncf.sagemaker.local.worker`. The state of a
job changes as on AWS: InProgress, then Completed, Failed or Stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ncf.sagemaker.local import docker, logs, models, process, requests
from ncf.sagemaker.local.listing import listed
from ncf.sagemaker.local.state import Record, Store, moment

RUNNING = ("InProgress", "Stopping")


@dataclass(frozen=True)
class JobKind:
    """What differs between the three, in AWS's own words."""

    word: str
    stem: str
    times: str
    """The beginning of the names of its times."""
    summaries: str
    unknown: str

    @property
    def name(self) -> str:
        """The key of its name."""
        return f"{self.stem}Name"

    @property
    def method(self) -> str:
        """The end of its methods' names."""
        return self.word.replace("-", "_")


TRAINING = JobKind(
    "training-job", "TrainingJob", "Training", "TrainingJobSummaries", "Requested resource not found."
)
PROCESSING = JobKind(
    "processing-job", "ProcessingJob", "Processing", "ProcessingJobSummaries",
    "Could not find requested job with name: {}",
)  # fmt: skip
TRANSFORM = JobKind(
    "transform-job", "TransformJob", "Transform", "TransformJobSummaries",
    "Could not find requested job with name: {}",
)  # fmt: skip


def create(store: Store, kind: JobKind, request: dict[str, Any]) -> dict[str, Any]:
    """Start a job; raises `CloudError` where Docker or the image is missing, `ClientError` as AWS does."""
    method, name = f"create_{kind.method}", request.get(kind.name)
    requests.check("sagemaker", method, request)
    assert isinstance(name, str)
    more, image = _needs(store, kind, method, request)
    docker.check_docker()
    docker.check_image(image)
    with store.locked():
        if store.read(kind.word, name):
            raise requests.refusal(
                method,
                "Job name must be unique within an AWS account and region, and a job with this name already exists "
                f"({store.arn(kind.word, name)})",
                "ResourceInUse",
            )
        record = store.create(
            kind.word, name, request, status="InProgress", secondary="Starting", image=image,
            transitions=[{"Status": "Starting", "StartTime": time.time()}], **more,
        )  # fmt: skip
        process.start(store, record)
    return {f"{kind.stem}Arn": record["arn"]}


def stop(store: Store, kind: JobKind, request: dict[str, Any]) -> dict[str, Any]:
    """Ask a job to stop: its containers get SIGTERM and two minutes, as on AWS."""
    method = f"stop_{kind.method}"
    record = found(store, kind, method, request)
    if record["status"] == "InProgress":
        move(store, kind.word, record["name"], "Stopping", "Stopping")
        process.terminate(store.folder(kind.word, record["name"]))
    elif record["status"] != "Stopping":
        raise requests.refusal(
            method,
            f"The request was rejected because the {kind.method.replace('_', ' ')} is in status {record['status']}.",
        )
    return {}


def delete(store: Store, kind: JobKind, request: dict[str, Any]) -> dict[str, Any]:
    """Remove a job that has ended, with its files."""
    record = found(store, kind, f"describe_{kind.method}", request)
    if record["status"] in RUNNING:
        raise requests.refusal(f"delete_{kind.method}", f"The job is {record['status']}: stop it first.")
    store.delete(kind.word, record["name"])
    return {}


def find(store: Store, kind: JobKind, request: dict[str, Any]) -> dict[str, Any]:
    """What is known of a job (DescribeTrainingJob, …)."""
    record = found(store, kind, f"describe_{kind.method}", request)
    answer = {**record["request"], **_summary(kind, record), **_ended(record)}
    if kind is TRAINING:
        answer |= _of_training(store, record)
    return answer


def search(store: Store, kind: JobKind, request: dict[str, Any]) -> dict[str, Any]:
    """Jobs of a kind (ListTrainingJobs, …)."""
    requests.check("sagemaker", f"list_{kind.method}s", request)
    return listed(store.all(kind.word), request, kind.summaries, lambda record: _summary(kind, record))


def found(store: Store, kind: JobKind, method: str, request: dict[str, Any]) -> Record:
    """The record that a request names; raises AWS's error where there is none."""
    requests.check("sagemaker", method, request)
    record = store.read(kind.word, request[kind.name])
    if record is None:
        raise requests.refusal(method, kind.unknown.format(request[kind.name]))
    return record


def move(store: Store, word: str, name: str, status: str, secondary: str, **more: Any) -> None:
    """Change the state of a job; one that has ended stays as it is."""
    with store.editing(word, name) as record:
        if record.get("status") in RUNNING:
            now = time.time()
            record["transitions"][-1]["EndTime"] = now
            record["transitions"].append({"Status": secondary, "StartTime": now})
            record |= {"status": status, "secondary": secondary, **more}
            if status not in RUNNING:
                record["ended"] = record["transitions"][-1]["EndTime"] = now


def _needs(store: Store, kind: JobKind, method: str, request: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What the worker must know besides the request, and the image."""
    if kind is TRAINING:
        image = request.get("AlgorithmSpecification", {}).get("TrainingImage")
        if not image or "ResourceConfig" not in request:
            raise requests.refusal(method, "Local mode needs a TrainingImage and a ResourceConfig.")
        return {}, image
    if kind is PROCESSING:
        return {}, request["AppSpecification"]["ImageUri"]
    if "DataProcessing" in request:
        raise requests.refusal(method, "Local mode neither filters nor joins: leave out DataProcessing.")
    container = models.container(store, method, request["ModelName"])
    return {"container": container}, container["Image"]


def _summary(kind: JobKind, record: Record) -> dict[str, Any]:
    answer = {
        kind.name: record["name"],
        f"{kind.stem}Arn": record["arn"],
        f"{kind.stem}Status": record["status"],
        "CreationTime": moment(record["created"]),
        "LastModifiedTime": moment(record["modified"]),
    }
    for key, word in (("started", "Start"), ("ended", "End")):
        if key in record:
            answer[f"{kind.times}{word}Time"] = moment(record[key])
    return answer


def _ended(record: Record) -> dict[str, Any]:
    words = {"FailureReason": record.get("reason"), "ExitMessage": record.get("message")}
    return {key: word for key, word in words.items() if word}


def _of_training(store: Store, record: Record) -> dict[str, Any]:
    streams = sorted(logs.stream_folder(store.home, TRAINING.word, record["name"]).glob("*.log"))
    defined = record["request"]["AlgorithmSpecification"].get("MetricDefinitions", ())
    answer: dict[str, Any] = {
        "SecondaryStatus": record["secondary"],
        "SecondaryStatusTransitions": [_transition(one) for one in record["transitions"]],
        "FinalMetricDataList": logs.metrics(streams, defined),
    }
    if "artifact" in record:
        answer["ModelArtifacts"] = {"S3ModelArtifacts": record["artifact"]}
    if "started" in record:
        seconds = round(record.get("ended", time.time()) - record["started"])
        answer |= {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": 0}
    return answer


def _transition(change: dict[str, Any]) -> dict[str, Any]:
    return {key: moment(value) if key.endswith("Time") else value for key, value in change.items()}
