"""Preparation on Spark as a SageMaker Processing job in AWS's Spark image; then the prepared folder comes here.

In: an address in S3 and options. Out: a prepared folder, the one that `ncf prepare` would make of the same table. The
one decision worth knowing: Spark reads the table where it lies, instead of a copy on each machine, and the package goes
with the job as source. Each machine first installs what that source needs, from the registry that pip finds there or from
the wheels that are sent along; then AWS's `smspark-submit` makes a cluster of the machines.

| below `session.uri()` | what |
| --- | --- |
| `prepare/JOB/code` | `start.sh`, `submit.py`, `ncf.zip`, `requirements.txt`, wheels |
| `prepare/JOB/work` | what Spark's machines tell each other; may be deleted afterwards |
| `prepare/JOB/data/prepared` | the folder |

Sources: CreateProcessingJob, Amazon SageMaker API Reference; aws/sagemaker-spark-container (`smspark-submit`).
"""

import shlex
import tempfile
import time
import zipfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ncf
from ncf.data import Dataset
from ncf.data.folder import refuse_foreign
from ncf.errors import ConfigError
from ncf.sagemaker import names
from ncf.sagemaker.aws_errors import missing_extra
from ncf.sagemaker.jobs import logs
from ncf.sagemaker.jobs.requests import HOUR, takes_volume_key, vpc
from ncf.sagemaker.jobs.training import OVER, JobFailed
from ncf.sagemaker.session import Session

SPARK = "3.5"
"""The newest Spark that AWS has an image of with a Python that ncf runs on, which is 3.12."""
_PYTHON = "py312"
_LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
_FOLDER = "/opt/ml/processing"
_MESSAGE = "/opt/ml/output/message"
_NEEDS = ("polars", "filelock", "numpy")
_ARROW = "pyarrow>=15"
_START = f"""#!/bin/sh
set -eu
cd {_FOLDER}/input/code
python3 -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
exec smspark-submit --py-files {_FOLDER}/input/code/ncf.zip {_FOLDER}/input/code/submit.py "$@"
"""


@dataclass(frozen=True)
class SparkOptions:
    """Where a preparation runs."""

    image: str
    instance_type: str = "ml.m5.2xlarge"
    instance_count: int = 2
    volume_gb: int = 100
    """Of each machine; the first needs room for the prepared folder."""
    max_run: int = 4 * HOUR

    def __post_init__(self) -> None:
        if min(self.instance_count, self.volume_gb, self.max_run) < 1:
            raise ConfigError("--instance-count, --volume-size and --max-run must be 1 or more.")


def prepare(
    session: Session,
    source: str,
    output: Path,
    values: Mapping[str, str],
    options: SparkOptions,
    wheels: Path | None = None,
    *,
    log: Callable[[str], None] = print,
    sleep: Callable[[float], None] = time.sleep,
) -> Dataset:
    """Prepare the table at an S3 address into the folder `output`; raises `JobFailed` where the job does.

    `values` are fields of `PrepareOptions`, and `name`, as text. A preparation that is broken off stops its job.
    """
    refuse_foreign(output)
    if not source.startswith("s3://"):
        raise ConfigError(
            f"Spark's machines read the table from S3, and {source} is no s3:// address: upload it first."
        )
    job = names.new_name(session.project, "prepare")
    with tempfile.TemporaryDirectory(prefix="ncf-spark-") as folder:
        write_code(Path(folder), wheels)
        code = session.upload(Path(folder), "prepare", job, "code")
    request = processing_request(session, job, source, code, values, options)
    log(f"Processing job {job}: Spark on {options.instance_count} x {options.instance_type}.")
    _run(session, request, log, sleep)
    session.download(session.uri("prepare", job, "data", "prepared"), output)
    return Dataset.open(output, verify="full")


def processing_request(
    session: Session,
    job: str,
    source: str,
    code: str,
    values: Mapping[str, str],
    options: SparkOptions,
) -> dict[str, Any]:
    """CreateProcessingJob. `smspark-submit` hands its arguments to a shell, so each is quoted."""
    arguments = [source, f"{_FOLDER}/output/data/prepared", session.uri("prepare", job, "work")]
    arguments += [f"{name}={value}" for name, value in sorted(values.items())]
    cluster: dict[str, Any] = {
        "InstanceType": options.instance_type, "InstanceCount": options.instance_count,
        "VolumeSizeInGB": options.volume_gb,
    }  # fmt: skip
    outputs: dict[str, Any] = {"Outputs": [_output(session.uri("prepare", job, "data"))]}
    if key := session.settings.kms_key:
        outputs["KmsKeyId"] = key
        if takes_volume_key(options.instance_type):
            cluster["VolumeKmsKeyId"] = key
    request: dict[str, Any] = {
        "ProcessingJobName": job,
        "AppSpecification": {
            "ImageUri": options.image,
            "ContainerEntrypoint": ["/bin/sh", f"{_FOLDER}/input/code/start.sh"],
            "ContainerArguments": [shlex.quote(argument) for argument in arguments],
        },
        "Environment": {"NCF_MESSAGE": _MESSAGE},
        "RoleArn": session.role,
        "ProcessingResources": {"ClusterConfig": cluster},
        "ProcessingInputs": [_input(code)],
        "ProcessingOutputConfig": outputs,
        "StoppingCondition": {"MaxRuntimeInSeconds": options.max_run},
        "Tags": session.tags(),
    }
    if network := vpc(session):
        request["NetworkConfig"] = {"VpcConfig": network}
    return request


def spark_image(session: Session) -> str:
    """AWS's Spark image of this region, as the SDK's table has it."""
    try:
        from sagemaker.core import image_uris
    except ImportError:
        raise missing_extra("sagemaker-core") from None
    try:
        uri: str = image_uris.retrieve(
            "spark", session.region, version=SPARK, py_version=_PYTHON, instance_type="ml.m5.xlarge"
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(
            f"The SDK knows no Spark image for this ({' '.join(str(error).split())[:200]}): give --image."
        ) from None
    return uri


def write_code(folder: Path, wheels: Path | None = None) -> None:
    """What a job's machines are given: the data wing as a zip, the program, and what they install."""
    source = Path(ncf.__file__).parent
    parts = [source / "__init__.py", source / "errors.py", *sorted((source / "data").rglob("*.py"))]
    with zipfile.ZipFile(folder / "ncf.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in parts:
            packed.write(path, f"ncf/{path.relative_to(source).as_posix()}")
    (folder / "submit.py").write_bytes((source / "data/out_of_core/spark_submit.py").read_bytes())
    (folder / "start.sh").write_text(_START, "utf-8")
    needed: Sequence[str] = [*(f"{name}=={version(name)}" for name in _NEEDS), _ARROW]
    if wheels is not None:
        found = sorted(wheels.glob("*.whl"))
        if not found:
            raise ConfigError(
                f"{wheels} has no wheels: fill it with 'pip download --only-binary :all: --python-version 3.12 "
                f"--dest {wheels} {' '.join(needed)}'."
            )
        (folder / "wheels").mkdir()
        for path in found:
            (folder / "wheels" / path.name).write_bytes(path.read_bytes())
        needed = ["--no-index", "--find-links wheels", *needed]
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in needed), "utf-8")


def _input(uri: str) -> dict[str, Any]:
    source = {
        "S3Uri": uri, "LocalPath": f"{_FOLDER}/input/code", "S3DataType": "S3Prefix", "S3InputMode": "File",
        "S3DataDistributionType": "FullyReplicated",
    }  # fmt: skip
    return {"InputName": "code", "S3Input": source}


def _output(uri: str) -> dict[str, Any]:
    where = {"S3Uri": uri, "LocalPath": f"{_FOLDER}/output/data", "S3UploadMode": "EndOfJob"}
    return {"OutputName": "data", "S3Output": where}


def _run(
    session: Session, request: dict[str, Any], log: Callable[[str], None], sleep: Callable[[float], None]
) -> None:
    """Start the job, follow it to its end, and stop it where this does not come about."""
    client, name = session.client("sagemaker"), request["ProcessingJobName"]
    last = deque[str](maxlen=20)
    described: dict[str, Any] = {}

    def ended() -> bool:
        nonlocal described
        described = client.describe_processing_job(ProcessingJobName=name)
        return described["ProcessingJobStatus"] in OVER

    client.create_processing_job(**request)
    try:
        for line in logs.follow(session, _LOG_GROUP, f"{name}/", ended, sleep=sleep):
            last.append(line.text)
            log(line.text)
    except BaseException:
        client.stop_processing_job(ProcessingJobName=name)
        raise
    status = described["ProcessingJobStatus"]
    if status != "Completed":
        what = "failed" if status == "Failed" else "was stopped"
        reason = described.get("ExitMessage") or described.get("FailureReason") or "see its log"
        raise JobFailed(f"The processing job {name} {what}: {str(reason).rstrip('.')}.", status, list(last))
