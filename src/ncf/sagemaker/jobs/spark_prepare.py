"""Preparation on Spark as a SageMaker Processing job in AWS's Spark image; then the prepared folder is
downloaded.

In: an address in S3 and options. Out: a prepared folder, the same that `ncf prepare` would make of the table.
The one decision worth knowing: Spark reads the table in place, instead of a copy on each machine, and the
package travels with the job as source. Each machine first installs what that source needs, from its pip
registry or from wheels that are sent along; then AWS's `smspark-submit` makes a cluster of the machines.

| below `session.uri()` | what |
| --- | --- |
| `prepare/JOB/code` | `start.sh`, `submit.py`, `ncf.zip`, `requirements.txt`, wheels |
| `prepare/JOB/work` | what Spark's machines exchange; may be deleted afterwards |
| `prepare/JOB/data/prepared` | the folder |

Sources: CreateProcessingJob, Amazon SageMaker API Reference; aws/sagemaker-spark-container
(`smspark-submit`).
"""

import shlex
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ncf
from ncf.data import Dataset
from ncf.data.folder import refuse_foreign
from ncf.errors import ConfigError
from ncf.sagemaker import names
from ncf.sagemaker.jobs.package import wheels_in
from ncf.sagemaker.jobs.requests import HOUR, takes_volume_key, vpc
from ncf.sagemaker.jobs.run import run_job
from ncf.sagemaker.session import Session

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
    """Seconds."""

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
    """Prepare the table at the S3 address `source` into the folder `output`; raises `JobFailed` where the job
    does.

    `values` are fields of `PrepareOptions`, and `name`, as text. `wheels` is a folder of packages for
    machines without a registry. `log` receives the job's log. An interrupted preparation stops its job.
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
    client = session.client("sagemaker")
    calls = client.create_processing_job, client.describe_processing_job, client.stop_processing_job
    run_job(session, "Processing", calls, request, log, sleep=sleep)
    session.download(session.uri("prepare", job, "data", "prepared"), output)
    return Dataset.open(output, verify="full")


def processing_request(
    session: Session, job: str, source: str, code: str, values: Mapping[str, str], options: SparkOptions
) -> dict[str, Any]:
    """The request of CreateProcessingJob; `code` is the URI of `write_code`'s files."""
    arguments = [source, f"{_FOLDER}/output/data/prepared", session.uri("prepare", job, "work")]
    arguments += [f"{name}={value}" for name, value in sorted(values.items())]
    cluster: dict[str, Any] = {
        "InstanceType": options.instance_type, "InstanceCount": options.instance_count,
        "VolumeSizeInGB": options.volume_gb,
    }  # fmt: skip
    target = {
        "S3Uri": session.uri("prepare", job, "data"), "LocalPath": f"{_FOLDER}/output/data",
        "S3UploadMode": "EndOfJob",
    }  # fmt: skip
    source_code = {
        "S3Uri": code, "LocalPath": f"{_FOLDER}/input/code", "S3DataType": "S3Prefix", "S3InputMode": "File",
        "S3DataDistributionType": "FullyReplicated",
    }  # fmt: skip
    outputs: dict[str, Any] = {"Outputs": [{"OutputName": "data", "S3Output": target}]}
    if key := session.settings.kms_key:
        outputs["KmsKeyId"] = key
        if takes_volume_key(options.instance_type):
            cluster["VolumeKmsKeyId"] = key
    request: dict[str, Any] = {
        "ProcessingJobName": job,
        "AppSpecification": {
            "ImageUri": options.image,
            "ContainerEntrypoint": ["/bin/sh", f"{_FOLDER}/input/code/start.sh"],
            # `smspark-submit` hands its arguments to a shell.
            "ContainerArguments": [shlex.quote(argument) for argument in arguments],
        },
        "Environment": {"NCF_MESSAGE": _MESSAGE},
        "RoleArn": session.role,
        "ProcessingResources": {"ClusterConfig": cluster},
        "ProcessingInputs": [{"InputName": "code", "S3Input": source_code}],
        "ProcessingOutputConfig": outputs,
        "StoppingCondition": {"MaxRuntimeInSeconds": options.max_run},
        "Tags": session.tags(),
    }
    if network := vpc(session):
        request["NetworkConfig"] = {"VpcConfig": network}
    return request


def write_code(folder: Path, wheels: Path | None = None) -> None:
    """Write what a job's machines need: the data wing as a zip, the program, requirements or `wheels`."""
    source = Path(ncf.__file__).parent
    parts = [source / f"{name}.py" for name in ("__init__", "errors", "runtime")]
    parts += sorted((source / "data").rglob("*.py"))
    with zipfile.ZipFile(folder / "ncf.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in parts:
            packed.write(path, f"ncf/{path.relative_to(source).as_posix()}")
    (folder / "submit.py").write_bytes((source / "data/out_of_core/spark_submit.py").read_bytes())
    (folder / "start.sh").write_text(_START, "utf-8")
    lines = [*(f"{name}=={version(name)}" for name in _NEEDS), _ARROW]
    if wheels is not None:
        paths = wheels_in(wheels, ["--python-version 3.12", *lines])
        (folder / "wheels").mkdir()
        for path in paths:
            (folder / "wheels" / path.name).write_bytes(path.read_bytes())
        lines = ["--no-index", "--find-links wheels", *lines]
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
