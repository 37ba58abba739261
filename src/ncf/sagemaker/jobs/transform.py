"""Batch transform: recommendations for many users on instances that come for it and go, as a file like `ncf batch`'s.

In: a run (or a model that SageMaker has) and users. Out: a parquet, CSV or JSON-lines file. The one decision worth
knowing: this call owns what it starts. However it ends, the job is stopped and the model that it made is deleted.

Source: CreateTransformJob, Amazon SageMaker API Reference.
"""

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncf.data.files import sha256_of
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker import names
from ncf.sagemaker.endpoints import requests as endpoint_requests
from ncf.sagemaker.endpoints.requests import Hosting
from ncf.sagemaker.jobs import logs, package, users
from ncf.sagemaker.jobs.requests import HOUR, takes_volume_key
from ncf.sagemaker.jobs.training import OVER, JobFailed
from ncf.sagemaker.jobs.users import Id
from ncf.sagemaker.session import Session
from ncf.serving.artifact import Artifact, open_artifact
from ncf.serving.batch import Written, check_output, columns, write_tables

_CONCURRENT, _PAYLOAD_MB = 4, 6
_JSON_LINES = "application/jsonlines"
_TIMEOUT, _RETRIES = 600, 3


@dataclass(frozen=True)
class TransformOptions:
    """Where a transform job runs and what it asks for."""

    image: str
    instance_type: str = "ml.c7i.xlarge"
    instance_count: int = 1
    k: int = 10
    exclude_seen: bool = True
    aws_image: bool = False
    """The image is AWS's PyTorch inference image: the code goes with the model."""
    max_run: int = HOUR
    """Seconds after which the job is stopped from here; SageMaker itself has no limit for it."""

    def __post_init__(self) -> None:
        if min(self.instance_count, self.k, self.max_run) < 1:
            raise ConfigError("--instance-count, -k and --max-run must be 1 or more.")


@dataclass(frozen=True)
class Transformed:
    """What was written, and for how many users the model had nothing but popularity."""

    job: str
    written: Written
    fallbacks: int


def transform(
    session: Session,
    source: str,
    output: Path,
    user_ids: Sequence[Id] | None,
    options: TransformOptions,
    *,
    log: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep,
) -> Transformed:
    """Recommend to `user_ids`, or to every user of the artifact; raises `JobFailed` where the job does.

    `source` is a run, an artifact, or the name of a model that SageMaker has already.
    """
    check_output(output)
    began, job = time.perf_counter(), names.new_name(session.project, "transform")
    artifact = open_artifact(source) if Path(source).exists() else None
    asked = _asked(user_ids, artifact)
    with tempfile.TemporaryDirectory(prefix="ncf-transform-") as folder:
        requests, answers = Path(folder) / "requests", Path(folder) / "answers"
        requests.mkdir()
        users.write_requests(asked, requests, options.instance_count, options.k, options.exclude_seen)
        session.upload(requests, "transforms", job, "input")
        with _model(session, source, artifact, job, options) as model:
            log(f"Transform job {job}: {len(asked):,} users.")
            _run(session, transform_request(session, job, model, options), options.max_run, log, sleep)
        session.download(session.uri("transforms", job, "output"), answers)
        lists = list(users.read_answers(answers, asked))
    found = users.kinds(lists)
    user_kind, item_kind = (artifact.users.kind, artifact.items.kind) if artifact else found
    if found[0] == "string":
        user_kind = "string"
    parts = users.tables(lists, user_kind, item_kind)
    rows = write_tables(parts, columns(user_kind, item_kind), output)
    written = Written(len(asked), rows, round(time.perf_counter() - began, 4))
    return Transformed(job, written, sum(one["source"] == "popularity" for one in lists))


def transform_request(session: Session, job: str, model: str, options: TransformOptions) -> dict[str, Any]:
    """CreateTransformJob: a line of the input is a request of its own."""
    resources: dict[str, Any] = {
        "InstanceType": options.instance_type, "InstanceCount": options.instance_count,
    }  # fmt: skip
    result: dict[str, Any] = {
        "S3OutputPath": session.uri("transforms", job, "output"), "Accept": _JSON_LINES, "AssembleWith": "Line",
    }  # fmt: skip
    if key := session.settings.kms_key:
        result["KmsKeyId"] = key
        if takes_volume_key(options.instance_type):
            resources["VolumeKmsKeyId"] = key
    source = {"S3DataType": "S3Prefix", "S3Uri": f"{session.uri('transforms', job, 'input')}/"}
    return {
        "TransformJobName": job,
        "ModelName": model,
        "MaxConcurrentTransforms": _CONCURRENT,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": _TIMEOUT, "InvocationsMaxRetries": _RETRIES},
        "MaxPayloadInMB": _PAYLOAD_MB,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": source},
            "ContentType": _JSON_LINES,
            "SplitType": "Line",
        },
        "TransformOutput": result,
        "TransformResources": resources,
        "Tags": session.tags(),
    }


def model_request(session: Session, name: str, uri: str, options: TransformOptions) -> dict[str, Any]:
    """CreateModel for the time of one job."""
    hosting = Hosting(aws_image=options.aws_image)
    return endpoint_requests.model_request(session, name, None, options.image, uri, hosting)


def _asked(user_ids: Sequence[Id] | None, artifact: Artifact | None) -> Sequence[Id]:
    if user_ids is not None:
        return user_ids
    if artifact is None:
        raise ConfigError("The users of a model that SageMaker has are not known here: give --users FILE.")
    ids: list[Id] = artifact.users.ids.tolist()
    return ids


@contextmanager
def _model(
    session: Session, source: str, artifact: Artifact | None, job: str, options: TransformOptions
) -> Iterator[str]:
    """The model that is there, or one that is made now and goes with the block."""
    client = session.client("sagemaker")
    if artifact is None:
        client.describe_model(ModelName=source)
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="ncf-model-") as folder:
        packed = package.pack_model(source, Path(folder) / "model.tar.gz", code=options.aws_image)
        uri = session.upload(packed, "models", sha256_of(packed)[:16], packed.name)
    client.create_model(**model_request(session, job, uri, options))
    try:
        yield job
    finally:
        client.delete_model(ModelName=job)


def _run(
    session: Session,
    request: dict[str, Any],
    max_run: int,
    log: Callable[[str], None],
    sleep: Callable[[float], None],
) -> None:
    """Start the job, follow it to its end, and stop it where this does not come about."""
    client, name = session.client("sagemaker"), request["TransformJobName"]
    end, last = time.monotonic() + max_run, deque[str](maxlen=20)
    described: dict[str, Any] = {"TransformJobStatus": "InProgress"}

    def ended() -> bool:
        nonlocal described
        described = client.describe_transform_job(TransformJobName=name)
        if time.monotonic() > end and described["TransformJobStatus"] not in OVER:
            raise CloudError(
                f"The transform job {name} took more than --max-run {max_run} seconds and was stopped."
            )
        return described["TransformJobStatus"] in OVER

    client.create_transform_job(**request)
    try:
        for line in logs.follow(session, logs.TRANSFORM, f"{name}/", ended, sleep=sleep):
            last.append(line.text)
            log(line.text)
    except BaseException:
        _stop(client, name)
        raise
    status = described["TransformJobStatus"]
    if status != "Completed":
        what = "failed" if status == "Failed" else "was stopped"
        reason = str(described.get("FailureReason", "see its log")).rstrip(".")
        raise JobFailed(f"The transform job {name} {what}: {reason}.", status, list(last))


def _stop(client: Any, name: str) -> None:
    """Stop it; one that is over already cannot be."""
    try:
        client.stop_transform_job(TransformJobName=name)
    except CloudError as error:
        if error.code != "ValidationException":
            raise
