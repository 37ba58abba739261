"""What ncf makes in SageMaker, as a table: how each kind is listed, looked at, stopped and deleted.

In: nothing. Out: `KINDS`, in the order in which they can be deleted. The one decision worth knowing: the calls are
written as names, so that the inventory, the clean-up and the IAM policy (which is made from the names that appear in the
source) all read the same table. Source: Amazon SageMaker API Reference.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ResourceType:
    """One kind of resource of the service `sagemaker`."""

    word: str
    """As in its ARN, and as `--keep` takes it."""
    noun: str
    """As in the names of fields: `TrainingJob` has `TrainingJobName`, `TrainingJobArn`."""
    list: str
    summaries: str
    describe: str
    delete: str
    """AWS has no call that deletes a transform job; local mode has."""
    stop: str | None = None
    starts_with: bool = False
    """The list filters by the beginning of the name instead of a part of it."""

    def name(self, fields: dict[str, Any]) -> str:
        """The name in a summary or description."""
        return str(fields[f"{self.noun}Name"])

    def arn(self, fields: dict[str, Any]) -> str:
        """The ARN in a summary or description."""
        return str(fields[f"{self.noun}Arn"])

    def status(self, fields: dict[str, Any]) -> str:
        """`InService`, `InProgress`, …; empty for what has none."""
        return str(fields.get(f"{self.noun}Status", ""))

    def key(self, name: str) -> dict[str, str]:
        """The request that names one."""
        return {f"{self.noun}Name": name}

    def asked(self, part: str) -> dict[str, str]:
        """The request that lists those with a part of a name."""
        return {"PipelineNamePrefix" if self.starts_with else "NameContains": part}


PIPELINE = ResourceType(
    "pipeline", "Pipeline", "list_pipelines", "PipelineSummaries", "describe_pipeline", "delete_pipeline", starts_with=True
)  # fmt: skip
TUNING = ResourceType(
    "hyper-parameter-tuning-job", "HyperParameterTuningJob", "list_hyper_parameter_tuning_jobs",
    "HyperParameterTuningJobSummaries", "describe_hyper_parameter_tuning_job", "delete_hyper_parameter_tuning_job",
    "stop_hyper_parameter_tuning_job",
)  # fmt: skip
TRAINING = ResourceType(
    "training-job", "TrainingJob", "list_training_jobs", "TrainingJobSummaries", "describe_training_job",
    "delete_training_job", "stop_training_job",
)  # fmt: skip
PROCESSING = ResourceType(
    "processing-job", "ProcessingJob", "list_processing_jobs", "ProcessingJobSummaries", "describe_processing_job",
    "delete_processing_job", "stop_processing_job",
)  # fmt: skip
TRANSFORM = ResourceType(
    "transform-job", "TransformJob", "list_transform_jobs", "TransformJobSummaries", "describe_transform_job",
    "delete_transform_job", "stop_transform_job",
)  # fmt: skip
ENDPOINT = ResourceType(
    "endpoint", "Endpoint", "list_endpoints", "Endpoints", "describe_endpoint", "delete_endpoint"
)
CONFIG = ResourceType(
    "endpoint-config", "EndpointConfig", "list_endpoint_configs", "EndpointConfigs", "describe_endpoint_config",
    "delete_endpoint_config",
)  # fmt: skip
MODEL = ResourceType("model", "Model", "list_models", "Models", "describe_model", "delete_model")
GROUP = ResourceType(
    "model-package-group", "ModelPackageGroup", "list_model_package_groups", "ModelPackageGroupSummaryList",
    "describe_model_package_group", "delete_model_package_group",
)  # fmt: skip

JOBS = (TUNING, TRAINING, PROCESSING, TRANSFORM)
KINDS = (PIPELINE, *JOBS, ENDPOINT, CONFIG, MODEL, GROUP)
BY_WORD = {kind.word: kind for kind in KINDS}
RUNS = ("InProgress", "Stopping", "Creating", "Updating", "InService", "SystemUpdating", "RollingBack")
"""Statuses in which something is computed, or waits to be asked, and is billed."""
STOPPABLE = ("InProgress",)
