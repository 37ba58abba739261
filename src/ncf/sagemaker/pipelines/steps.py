"""Each step of the pipeline as SageMaker's JSON: a name, a type, and the arguments of the call that it makes.

| step | type | call |
| --- | --- | --- |
| Prepare, Evaluate, Promote | Processing | CreateProcessingJob, `python -m ncf.sagemaker.container.pipeline_steps …` in our image |
| Train | Training | CreateTrainingJob |
| IsBetter | Condition | none |
| Register | RegisterModel | CreateModelPackage |
| NotBetter | Fail | none |
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ncf.config import Experiment
from ncf.sagemaker.container.criteria import PromotionCriteria
from ncf.sagemaker.pipelines.values import Value, from_file, joined, of_execution, of_step, parameter

Approval = Literal["PendingManualApproval", "Approved"]
Step = dict[str, Any]
PREPARE, TRAIN, EVALUATE, REGISTER, PROMOTE = "Prepare", "Train", "Evaluate", "Register", "Promote"
IS_BETTER, NOT_BETTER = "IsBetter", "NotBetter"
EVALUATION = "Evaluation"
"""The property file that Evaluate leaves."""
PROPERTIES = (
    "recipe", "experiment_digest", "data_name", "data_digest", "hr_at_10", "ndcg_at_10", "rival", "gain", "p_value",
)  # fmt: skip
_FOLDER = "/opt/ml/processing"
_MODEL = of_step(TRAIN, "ModelArtifacts.S3ModelArtifacts")
_FORMATS = ["application/json", "application/jsonlines", "text/csv"]
_RETRIES = [
    {
        "ExceptionType": ["Step.SERVICE_FAULT", "Step.THROTTLING"],
        "IntervalSeconds": 30, "BackoffRate": 2.0, "MaxAttempts": 5,
    },
    {
        "ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR"],
        "IntervalSeconds": 300, "BackoffRate": 2.0, "MaxAttempts": 5,
    },
]  # fmt: skip


@dataclass(frozen=True)
class PipelinePlan:
    """Everything that decides a pipeline."""

    name: str
    experiment: Experiment
    image: str
    role: str
    group: str
    """The model package group."""
    base: str
    """Address below which each execution has a folder."""
    champion: str
    """Address of the folder of the approved model."""
    training: Mapping[str, Any]
    """The request of `ncf sagemaker train`; where its data, results and checkpoints are is replaced."""
    input_data: str = ""
    """Where the interactions or the prepared folder are, by default; empty: every start must say it."""
    prepare: Mapping[str, str] = field(default_factory=dict)
    """Options of the preparation, by the names of `PrepareOptions`."""
    processing_instance: str = "ml.m5.large"
    volume_gb: int = 30
    longest_seconds: int = 24 * 3600
    """Of a processing job."""
    bar: PromotionCriteria = field(default_factory=PromotionCriteria)
    approval: Approval = "PendingManualApproval"
    fail_if_not_better: bool = False
    """Whether an execution whose model is not better counts as failed, as an alarm would want it."""
    kms_key: str | None = None
    vpc: Mapping[str, Any] | None = None
    tags: tuple[Mapping[str, str], ...] = ()


def prepare(plan: PipelinePlan) -> Step:
    """`ncf prepare` on InputData."""
    options = [f"{name}={value}" for name, value in sorted(plan.prepare.items())]
    return _processing(
        plan, PREPARE, ["prepare", *options],
        {"raw": parameter("InputData")}, {"data": _of_execution(plan, "data")},
    )  # fmt: skip


def train(plan: PipelinePlan) -> Step:
    """The training job of `ncf sagemaker train`, on what Prepare made."""
    request = copy.deepcopy(dict(plan.training))
    del request["TrainingJobName"]
    request["HyperParameters"] |= {
        "train.epochs": parameter("Epochs"), "train.batch_size": parameter("BatchSize"),
        "train.learning_rate": parameter("LearningRate"), "train.seed": parameter("Seed"),
    }  # fmt: skip
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"] = _output_of(PREPARE, "data")
    request["OutputDataConfig"]["S3OutputPath"] = _of_execution(plan, "training")
    request["CheckpointConfig"]["S3Uri"] = _of_execution(plan, "checkpoints")
    request["ResourceConfig"]["InstanceType"] = parameter("TrainingInstanceType")
    return {"Name": TRAIN, "Type": "Training", "Arguments": request, "RetryPolicies": _RETRIES}


def evaluate(plan: PipelinePlan) -> Step:
    """The new model against the approved one."""
    bar = {"minimum_gain": "MinimumGain", "alpha": "Alpha", "floor": "Floor"}
    values = [joined("", f"{name}=", parameter(behind)) for name, behind in bar.items()]
    step = _processing(
        plan, EVALUATE, ["evaluate", *values],
        {"data": _output_of(PREPARE, "data"), "model": _MODEL, "champion": plan.champion},
        {"evaluation": _of_execution(plan, "evaluation")},
    )  # fmt: skip
    file = {"PropertyFileName": EVALUATION, "OutputName": "evaluation", "FilePath": "evaluation.json"}
    return step | {"PropertyFiles": [file]}


def is_better(then: Sequence[Step], otherwise: Sequence[Step]) -> Step:
    """Whether Evaluate found the new model better."""
    condition = {
        "Type": "Equals",
        "LeftValue": from_file(EVALUATE, EVALUATION, "verdict.register"),
        "RightValue": 1,
    }
    return {
        "Name": IS_BETTER, "Type": "Condition",
        "Arguments": {"Conditions": [condition], "IfSteps": list(then), "ElseSteps": list(otherwise)},
    }  # fmt: skip


def register(plan: PipelinePlan) -> Step:
    """A new version in the model package group, with its figures, its card and where it comes from."""
    evaluation = _output_of(EVALUATE, "evaluation")
    properties = {name: from_file(EVALUATE, EVALUATION, f"properties.{name}") for name in PROPERTIES}
    arguments = {
        "ModelPackageGroupName": plan.group,
        "ModelPackageDescription": f"{plan.experiment.name} of the pipeline {plan.name}",
        "ModelApprovalStatus": parameter("ModelApprovalStatus"),
        "InferenceSpecification": {
            "Containers": [{"Image": plan.image, "ModelDataUrl": _MODEL}],
            "SupportedContentTypes": _FORMATS, "SupportedResponseMIMETypes": _FORMATS,
        },
        "ModelMetrics": {
            "ModelQuality": {
                "Statistics": {"ContentType": "application/json", "S3Uri": joined("/", evaluation, "evaluation.json")}
            }
        },
        "ModelCard": {"ModelCardStatus": "Draft", "ModelCardContent": json.dumps(_card(plan))},
        "CustomerMetadataProperties": properties | {
            "execution": of_execution("PipelineExecutionId"), "model_card": joined("/", evaluation, "MODEL_CARD.md"),
        },
    }  # fmt: skip
    return {"Name": REGISTER, "Type": "RegisterModel", "Arguments": arguments}


def promote(plan: PipelinePlan) -> Step:
    """An approved model becomes what the next execution is compared with."""
    values = [
        joined("", "package=", of_step(REGISTER, "ModelPackageArn")),
        joined("", "model=", _MODEL),
        joined("", "status=", parameter("ModelApprovalStatus")),
    ]
    return _processing(plan, PROMOTE, ["promote", *values], {"model": _MODEL}, {"champion": plan.champion})


def not_better() -> Step:
    """Ends the execution as failed."""
    where = joined("/", _output_of(EVALUATE, "evaluation"), "evaluation.json")
    return {
        "Name": NOT_BETTER, "Type": "Fail",
        "Arguments": {"ErrorMessage": joined("", "The new model is not better than the registered one; the figures are in ", where)},
    }  # fmt: skip


def _processing(
    plan: PipelinePlan,
    name: str,
    command: Sequence[Value],
    inputs: Mapping[str, Value],
    outputs: Mapping[str, Value],
) -> Step:
    cluster = {
        "InstanceType": parameter("ProcessingInstanceType"), "InstanceCount": 1,
        "VolumeSizeInGB": plan.volume_gb, **_key(plan, "VolumeKmsKeyId"),
    }  # fmt: skip
    arguments = {
        "AppSpecification": {
            "ImageUri": plan.image,
            "ContainerEntrypoint": ["python", "-m", "ncf.sagemaker.container.pipeline_steps"],
            "ContainerArguments": list(command),
        },
        "RoleArn": plan.role,
        "ProcessingResources": {"ClusterConfig": cluster},
        "ProcessingInputs": [_input(name, uri) for name, uri in inputs.items()],
        "ProcessingOutputConfig": {
            "Outputs": [_output(name, uri) for name, uri in outputs.items()],
            **_key(plan, "KmsKeyId"),
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": plan.longest_seconds},
        "Tags": list(plan.tags),
    }
    if plan.vpc:
        arguments["NetworkConfig"] = {"VpcConfig": dict(plan.vpc)}
    return {"Name": name, "Type": "Processing", "Arguments": arguments, "RetryPolicies": _RETRIES}


def _input(name: str, uri: Value) -> dict[str, Any]:
    source = _source(uri) | {
        "S3InputMode": "File",
        "LocalPath": f"{_FOLDER}/input/{name}",
    }
    return {"InputName": name, "S3Input": source}


def _output(name: str, uri: Value) -> dict[str, Any]:
    where = {"S3Uri": uri, "LocalPath": f"{_FOLDER}/output/{name}", "S3UploadMode": "EndOfJob"}
    return {"OutputName": name, "S3Output": where}


def _source(uri: Value) -> dict[str, Any]:
    return {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}


def _output_of(step: str, output: str) -> Value:
    return of_step(step, f"ProcessingOutputConfig.Outputs['{output}'].S3Output.S3Uri")


def _of_execution(plan: PipelinePlan, folder: str) -> Value:
    """A folder of this execution alone, so that two at once do not meet."""
    return joined("/", plan.base, of_execution("PipelineExecutionId"), folder)


def _key(plan: PipelinePlan, name: str) -> dict[str, str]:
    return {name: plan.kms_key} if plan.kms_key else {}


def _card(plan: PipelinePlan) -> dict[str, Any]:
    """What is known before the run, in the registry's form of a model card; the figures are in the metrics."""
    return {
        "model_overview": {"model_creator": "ncf"},
        "intended_uses": {
            "purpose_of_model": "Ranks items for a user from implicit feedback (neural collaborative filtering).",
            "intended_uses": "Recommendations of items of the catalogue that the model was trained on.",
        },
        "additional_information": {
            "caveats_and_recommendations": "Scores order the items of one user and are no probabilities. Users who were "
            "not in training are answered by popularity. The figures are of the protocol that is named with them.",
            "custom_details": {
                "recipe": plan.experiment.name, "pipeline": plan.name,
                "settings": plan.experiment.model_dump_json(include={"model", "train"}),
            },
        },
    }  # fmt: skip
