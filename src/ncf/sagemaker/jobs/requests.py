"""CreateTrainingJob as a pure function: a session's facts, an experiment and options in, the request out.

The request is the same for hosted SageMaker and for local mode. The one decision worth knowing: every job has
a folder for checkpoints, so any job that stopped, for whatever reason, can be resumed (`--resume`).

| below `session.uri()` | what |
| --- | --- |
| `data/DIGEST/` | a prepared data folder, uploaded once |
| `pretrained/DIGEST/gmf`, `…/mlp` | artifacts to fuse |
| `code/DIGEST/sourcedir.tar.gz` | the source for AWS's image |
| `jobs/JOB/output/` | model.tar.gz and output.tar.gz |
| `jobs/JOB/checkpoints/` | the run as it grows |

Source: CreateTrainingJob, Amazon SageMaker API Reference.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ncf.config import Experiment
from ncf.errors import ConfigError
from ncf.sagemaker.container.distribution import TORCHRUN, Distribution
from ncf.sagemaker.container.hyperparameters import to_hyperparameters
from ncf.sagemaker.container.metric_lines import metric_definitions
from ncf.sagemaker.session import Session

HOUR = 3600
LONGEST_KEPT_ALIVE = 6 * HOUR
"""Seconds that a warm pool may wait for the next job."""
_WITH_DISKS = ("g4dn", "g5", "g6", "p3dn", "p4d", "p4de", "p5", "m5d", "c5d", "r5d")
"""Families with local disks, which the hardware encrypts; they refuse a volume key."""


@dataclass(frozen=True)
class TrainingOptions:
    """How and where a job runs, apart from what it computes. URIs are those of `session.upload`."""

    name: str
    data: str
    """Channel `train`."""
    image: str
    instance_type: str = "ml.c7i.xlarge"
    instance_count: int = 1
    volume_gb: int = 30
    max_run: int = HOUR
    """Seconds."""
    spot: bool = False
    max_wait: int | None = None
    """With spot: seconds for waiting and running together; `max_run` and an hour by default."""
    keep_alive: int | None = None
    """Seconds that the instances wait for another job (a warm pool)."""
    pretrained: str | None = None
    """Channel `pretrained`, folders gmf/ and mlp/."""
    checkpoints: str | None = None
    """Instead of the job's own folder."""
    code: str | None = None
    """Script mode: the packed source for AWS's image."""
    environment: Mapping[str, str] = field(default_factory=dict)
    distribution: Distribution = TORCHRUN
    """How the instances train one model."""

    def __post_init__(self) -> None:
        if min(self.instance_count, self.volume_gb, self.max_run) < 1:
            raise ConfigError("--instance-count, --volume-size and --max-run must be 1 or more.")
        if self.max_wait is not None and not self.spot:
            raise ConfigError("--max-wait only applies to --spot: give --spot too, or --max-run.")
        if self.max_wait is not None and self.max_wait < self.max_run:
            raise ConfigError(
                f"--max-wait ({self.max_wait} s) includes the run: it must be at least --max-run "
                f"({self.max_run} s)."
            )
        if self.keep_alive is not None and self.spot:
            raise ConfigError("Spot instances cannot be kept warm: leave out --keep-alive or --spot.")
        if self.keep_alive is not None and not 0 < self.keep_alive <= LONGEST_KEPT_ALIVE:
            raise ConfigError(f"--keep-alive takes 1 to {LONGEST_KEPT_ALIVE} seconds.")


def training_request(session: Session, experiment: Experiment, options: TrainingOptions) -> dict[str, Any]:
    """The request of one training job; asks AWS only for what the session needs: account, role, bucket."""
    return {
        "TrainingJobName": options.name,
        **job_definition(session, options),
        "HyperParameters": {**to_hyperparameters(experiment), **script_hyperparameters(session, options)},
        "CheckpointConfig": {
            "S3Uri": options.checkpoints or session.uri("jobs", options.name, "checkpoints"),
            "LocalPath": "/opt/ml/checkpoints",
        },
        "Tags": session.tags(),
    }


def job_definition(session: Session, options: TrainingOptions) -> dict[str, Any]:
    """The part of a request that single training jobs and those of a tuner share."""
    request: dict[str, Any] = {
        "AlgorithmSpecification": {
            "TrainingImage": options.image, "TrainingInputMode": "File",
            "MetricDefinitions": metric_definitions(),
        },
        "RoleArn": session.role,
        "InputDataConfig": [_channel("train", options.data)],
        "OutputDataConfig": {"S3OutputPath": session.uri("jobs")},
        "ResourceConfig": {
            "InstanceType": options.instance_type, "InstanceCount": options.instance_count,
            "VolumeSizeInGB": options.volume_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": options.max_run},
    }  # fmt: skip
    if options.pretrained:
        request["InputDataConfig"].append(_channel("pretrained", options.pretrained))
    if options.keep_alive:
        request["ResourceConfig"]["KeepAlivePeriodInSeconds"] = options.keep_alive
    if options.spot:
        request["EnableManagedSpotTraining"] = True
        request["StoppingCondition"]["MaxWaitTimeInSeconds"] = options.max_wait or options.max_run + HOUR
    if variables := {**options.environment, **options.distribution.environment}:
        request["Environment"] = variables
    _protect(session, options, request)
    return request


def script_hyperparameters(session: Session, options: TrainingOptions) -> dict[str, str]:
    """Hyperparameters for the training toolkit of AWS's images; none for our own image."""
    if options.code is None:
        return {}
    values = {
        "sagemaker_program": "train.py",
        "sagemaker_submit_directory": options.code,
        "sagemaker_container_log_level": 20,
        "sagemaker_region": session.region,
        "sagemaker_job_name": options.name,
    }
    encoded = {name: json.dumps(value) for name, value in values.items()}
    return encoded | options.distribution.hyperparameters(options.instance_type)


def vpc(session: Session) -> dict[str, list[str]] | None:
    """`VpcConfig` of the settings; raises `ConfigError` where half of it is missing."""
    subnets, groups = session.settings.subnets, session.settings.security_groups
    if not subnets and not groups:
        return None
    if not subnets or not groups:
        raise ConfigError("A VPC needs both --subnet and --security-group.")
    return {"SecurityGroupIds": list(groups), "Subnets": list(subnets)}


def takes_volume_key(instance_type: str) -> bool:
    """Whether the volume of such an instance can be encrypted with our key."""
    return instance_type.removeprefix("ml.").partition(".")[0] not in _WITH_DISKS


def _channel(name: str, uri: str) -> dict[str, Any]:
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": f"{uri.rstrip('/')}/",
        "S3DataDistributionType": "FullyReplicated",
    }
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def _protect(session: Session, options: TrainingOptions, request: dict[str, Any]) -> None:
    """Add the VPC, and the key for results and volumes."""
    if network := vpc(session):
        request["VpcConfig"] = network
    if key := session.settings.kms_key:
        request["OutputDataConfig"]["KmsKeyId"] = key
        if takes_volume_key(options.instance_type):
            request["ResourceConfig"]["VolumeKmsKeyId"] = key
