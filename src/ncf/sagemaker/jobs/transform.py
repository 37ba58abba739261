"""Batch transform: recommendations for many users on instances that exist only for this job, as `ncf batch`
writes them.

In: a run (or a model that SageMaker has) and users. Out: a parquet, CSV or JSON-lines file. The one decision
worth knowing: this call owns what it starts. However it ends, the job is stopped and the model that it made
is deleted.

Source: CreateTransformJob, Amazon SageMaker API Reference.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncf.data.files import sha256_of
from ncf.data.id_lists import Id
from ncf.errors import ConfigError
from ncf.sagemaker import names
from ncf.sagemaker.endpoints import requests as endpoint_requests
from ncf.sagemaker.endpoints.requests import Hosting
from ncf.sagemaker.jobs import package, users
from ncf.sagemaker.jobs.requests import HOUR, takes_volume_key
from ncf.sagemaker.jobs.run import run_job
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
    """Items a user."""
    exclude_seen: bool = True
    exclude: tuple[Id, ...] = ()
    """Items that may not appear."""
    aws_image: bool = False
    """The image is AWS's PyTorch inference image: the code travels with the model."""
    max_run: int = HOUR
    """Seconds after which the job is stopped from here; SageMaker itself has no limit for it."""

    def __post_init__(self) -> None:
        if min(self.instance_count, self.k, self.max_run) < 1:
            raise ConfigError("--instance-count, -k and --max-run must be 1 or more.")


@dataclass(frozen=True)
class Transformed:
    """What was written, and how many users the model did not know."""

    job: str
    written: Written
    fallbacks: int
    """Users who got popular or trending items."""


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
    """Recommend to `user_ids`, or to every user of the artifact, and write the file `output`.

    `source` is a run, an artifact, or the name of a model that SageMaker has already. `log` receives the
    job's log. Raises `JobFailed` where the job fails.
    """
    check_output(output)
    began, job = time.perf_counter(), names.new_name(session.project, "transform")
    artifact = open_artifact(source) if Path(source).exists() else None
    ids = _user_ids(user_ids, artifact)
    with tempfile.TemporaryDirectory(prefix="ncf-transform-") as folder:
        requests, answers = Path(folder) / "requests", Path(folder) / "answers"
        requests.mkdir()
        users.write_requests(
            ids, requests, options.instance_count, options.k, options.exclude_seen, options.exclude
        )
        session.upload(requests, "transforms", job, "input")
        with _model(session, source, artifact, job, options) as model:
            log(f"Transform job {job}: {len(ids):,} users.")
            request, client = transform_request(session, job, model, options), session.client("sagemaker")
            calls = client.create_transform_job, client.describe_transform_job, client.stop_transform_job
            run_job(session, "Transform", calls, request, log, max_run=options.max_run, sleep=sleep)
        session.download(session.uri("transforms", job, "output"), answers)
        lists = list(users.read_answers(answers, ids))
    user_kind, item_kind = users.kinds(lists)
    if artifact:
        # Ids that a file gives as text stay text; those of the artifact keep its type.
        user_kind = "string" if user_kind == "string" else artifact.users.kind
        item_kind = artifact.items.kind
    tables = users.tables(lists, user_kind, item_kind)
    rows = write_tables(tables, columns(user_kind, item_kind), output)
    written = Written(len(ids), rows, round(time.perf_counter() - began, 4))
    return Transformed(
        job, written, sum(ranking["source"] in ("popularity", "trending") for ranking in lists)
    )


def transform_request(session: Session, job: str, model: str, options: TransformOptions) -> dict[str, Any]:
    """The request of CreateTransformJob for those names; each line of the input is a request."""
    resources: dict[str, Any] = {
        "InstanceType": options.instance_type, "InstanceCount": options.instance_count,
    }  # fmt: skip
    result: dict[str, Any] = {
        "S3OutputPath": session.uri("transforms", job, "output"), "Accept": _JSON_LINES,
        "AssembleWith": "Line",
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
            "DataSource": {"S3DataSource": source}, "ContentType": _JSON_LINES, "SplitType": "Line",
        },
        "TransformOutput": result,
        "TransformResources": resources,
        "Tags": session.tags(),
    }  # fmt: skip


def model_request(session: Session, name: str, uri: str, options: TransformOptions) -> dict[str, Any]:
    """The request of CreateModel for the archive at `uri`."""
    hosting = Hosting(aws_image=options.aws_image)
    return endpoint_requests.model_request(session, name, None, options.image, uri, hosting)


def _user_ids(user_ids: Sequence[Id] | None, artifact: Artifact | None) -> Sequence[Id]:
    if user_ids is not None:
        return user_ids
    if artifact is None:
        raise ConfigError("The users of a model in SageMaker are not known here: give --users FILE.")
    ids: list[Id] = artifact.users.ids.tolist()
    return ids


@contextmanager
def _model(
    session: Session, source: str, artifact: Artifact | None, job: str, options: TransformOptions
) -> Iterator[str]:
    """The existing model of that name, or a new one that is deleted after the block."""
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
