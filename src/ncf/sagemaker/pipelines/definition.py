"""The pipeline as SageMaker's JSON (version 2020-12-01): `definition(plan)` is a pure function.

prepare → train → evaluate → better? → register → promote, or else an end that says why not. Local mode
interprets the very same dictionary. A step has a name, a type, and the arguments of the call that it makes:

| step | type | call |
| --- | --- | --- |
| Prepare, Evaluate, Promote | Processing | CreateProcessingJob: `container.pipeline_steps` in our image |
| Train | Training | CreateTrainingJob |
| IsBetter | Condition | none |
| Register | RegisterModel | CreateModelPackage |
| NotBetter | Fail | none |

The one decision worth knowing: the pipeline finds the registered model in a folder (`plan.champion`), not in
the registry, since a schedule starts it with fixed parameters and a processing container has no AWS library.
The step `Promote` and `ncf sagemaker models approve` keep that folder up to date.
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

VERSION = "2020-12-01"
Approval = Literal["PendingManualApproval", "Approved"]
Step = dict[str, Any]
PREPARE, TRAIN, EVALUATE, REGISTER, PROMOTE = "Prepare", "Train", "Evaluate", "Register", "Promote"
IS_BETTER, NOT_BETTER = "IsBetter", "NotBetter"
EVALUATION = "Evaluation"
"""The property file that Evaluate writes."""
PROPERTIES = (
    "recipe", "experiment_digest", "data_name", "data_digest", "hr_at_10", "ndcg_at_10", "rival", "gain",
    "p_value",
)  # fmt: skip
_FOLDER = "/opt/ml/processing"
_MODEL = of_step(TRAIN, "ModelArtifacts.S3ModelArtifacts")
_FORMATS = ["application/json", "application/jsonlines", "text/csv"]
_RETRIES = [
    {"ExceptionType": codes, "IntervalSeconds": seconds, "BackoffRate": 2.0, "MaxAttempts": 5}
    for codes, seconds in (
        (["Step.SERVICE_FAULT", "Step.THROTTLING"], 30),
        (["SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR"], 300),
    )
]


@dataclass(frozen=True)
class PipelinePlan:
    """Everything that a pipeline's definition depends on."""

    name: str
    experiment: Experiment
    image: str
    role: str
    group: str
    """The model package group."""
    base: str
    """URI below which each execution has a folder."""
    champion: str
    """URI of the folder of the approved model."""
    training: Mapping[str, Any]
    """The request of `ncf sagemaker train`; the URIs of data, results and checkpoints are replaced."""
    input_data: str = ""
    """Default URI of interactions or a prepared folder; where it is empty, every start must give one."""
    prepare: Mapping[str, str] = field(default_factory=dict)
    """Options of the preparation, by the names of `PrepareOptions`."""
    processing_instance: str = "ml.m5.large"
    volume_gb: int = 30
    longest_seconds: int = 24 * 3600
    """Of a processing job."""
    bar: PromotionCriteria = field(default_factory=PromotionCriteria)
    approval: Approval = "PendingManualApproval"
    fail_if_not_better: bool = False
    """Whether an execution whose model is not better counts as failed, for alarms."""
    kms_key: str | None = None
    vpc: Mapping[str, Any] | None = None
    tags: tuple[Mapping[str, str], ...] = ()


def definition(plan: PipelinePlan) -> dict[str, Any]:
    """The whole definition."""
    otherwise = [_not_better()] if plan.fail_if_not_better else []
    return {
        "Version": VERSION,
        "Metadata": {},
        "Parameters": _parameters(plan),
        "Steps": [
            _prepare(plan), _train(plan), _evaluate(plan),
            _is_better([_register(plan), _promote(plan)], otherwise),
        ],
    }  # fmt: skip


def _parameters(plan: PipelinePlan) -> list[dict[str, Any]]:
    """What a start may change."""
    train = plan.experiment.train
    texts = {
        "InputData": plan.input_data,
        "ProcessingInstanceType": plan.processing_instance,
        "TrainingInstanceType": plan.training["ResourceConfig"]["InstanceType"],
        "ModelApprovalStatus": plan.approval,
        "Epochs": str(train.epochs),
        "BatchSize": str(train.batch_size),
        "LearningRate": str(train.learning_rate),
        "Seed": str(train.seed),
    }
    numbers = {"MinimumGain": plan.bar.minimum_gain, "Alpha": plan.bar.alpha, "Floor": plan.bar.floor}
    defaults = [("String", name, text) for name, text in texts.items()]
    defaults += [("Float", name, number) for name, number in numbers.items()]
    return [
        {"Name": name, "Type": kind, **({} if value == "" else {"DefaultValue": value})}
        for kind, name, value in defaults
    ]


def _prepare(plan: PipelinePlan) -> Step:
    """The step that runs `ncf prepare` on InputData."""
    options = [f"{name}={value}" for name, value in sorted(plan.prepare.items())]
    return _processing(
        plan, PREPARE, ["prepare", *options],
        {"raw": parameter("InputData")}, {"data": _of_execution(plan, "data")},
    )  # fmt: skip


def _train(plan: PipelinePlan) -> Step:
    """The step that trains as `ncf sagemaker train` does, on what Prepare made."""
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


def _evaluate(plan: PipelinePlan) -> Step:
    """The step that compares the new model with the approved one."""
    criteria = {"minimum_gain": "MinimumGain", "alpha": "Alpha", "floor": "Floor"}
    values = [joined("", f"{name}=", parameter(source)) for name, source in criteria.items()]
    step = _processing(
        plan, EVALUATE, ["evaluate", *values],
        {"data": _output_of(PREPARE, "data"), "model": _MODEL, "champion": plan.champion},
        {"evaluation": _of_execution(plan, "evaluation")},
    )  # fmt: skip
    file = {"PropertyFileName": EVALUATION, "OutputName": "evaluation", "FilePath": "evaluation.json"}
    return step | {"PropertyFiles": [file]}


def _is_better(then: Sequence[Step], otherwise: Sequence[Step]) -> Step:
    """The step that asks whether Evaluate found the new model better."""
    better = from_file(EVALUATE, EVALUATION, "verdict.register")
    condition = {"Type": "Equals", "LeftValue": better, "RightValue": 1}
    return {
        "Name": IS_BETTER, "Type": "Condition",
        "Arguments": {"Conditions": [condition], "IfSteps": list(then), "ElseSteps": list(otherwise)},
    }  # fmt: skip


def _register(plan: PipelinePlan) -> Step:
    """The step that adds a version to the model group, with its figures, its card and its origin."""
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
                "Statistics": {
                    "ContentType": "application/json", "S3Uri": joined("/", evaluation, "evaluation.json"),
                }
            }
        },
        "ModelCard": {"ModelCardStatus": "Draft", "ModelCardContent": json.dumps(_card(plan))},
        "CustomerMetadataProperties": properties | {
            "execution": of_execution("PipelineExecutionId"),
            "model_card": joined("/", evaluation, "MODEL_CARD.md"),
        },
    }  # fmt: skip
    return {"Name": REGISTER, "Type": "RegisterModel", "Arguments": arguments}


def _promote(plan: PipelinePlan) -> Step:
    """The step after which the next execution is compared with this model, if it is approved."""
    values = [
        joined("", "package=", of_step(REGISTER, "ModelPackageArn")),
        joined("", "model=", _MODEL),
        joined("", "status=", parameter("ModelApprovalStatus")),
    ]
    return _processing(plan, PROMOTE, ["promote", *values], {"model": _MODEL}, {"champion": plan.champion})


def _not_better() -> Step:
    """The step that ends the execution as failed."""
    where = joined("/", _output_of(EVALUATE, "evaluation"), "evaluation.json")
    return {
        "Name": NOT_BETTER, "Type": "Fail",
        "Arguments": {
            "ErrorMessage": joined(
                "", "The new model is not better than the registered one; the figures are in ", where
            )
        },
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
    source = {
        "S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated",
        "S3InputMode": "File",
        "LocalPath": f"{_FOLDER}/input/{name}",
    }  # fmt: skip
    return {"InputName": name, "S3Input": source}


def _output(name: str, uri: Value) -> dict[str, Any]:
    where = {"S3Uri": uri, "LocalPath": f"{_FOLDER}/output/{name}", "S3UploadMode": "EndOfJob"}
    return {"OutputName": name, "S3Output": where}


def _output_of(step: str, output: str) -> Value:
    return of_step(step, f"ProcessingOutputConfig.Outputs['{output}'].S3Output.S3Uri")


def _of_execution(plan: PipelinePlan, folder: str) -> Value:
    """A folder of this execution alone, so that two at once do not conflict."""
    return joined("/", plan.base, of_execution("PipelineExecutionId"), folder)


def _key(plan: PipelinePlan, name: str) -> dict[str, str]:
    return {name: plan.kms_key} if plan.kms_key else {}


def _card(plan: PipelinePlan) -> dict[str, Any]:
    """What is known before the run, in the form of the registry's model cards, without figures."""
    return {
        "model_overview": {"model_creator": "ncf"},
        "intended_uses": {
            "purpose_of_model": "Ranks items for a user from implicit feedback "
            "(neural collaborative filtering).",
            "intended_uses": "Recommendations of items of the catalogue that the model was trained on.",
        },
        "additional_information": {
            "caveats_and_recommendations": "Scores order the items of one user and are no probabilities. "
            "Users who were not in training are answered by popularity. The figures are of the protocol "
            "that is named with them.",
            "custom_details": {
                "recipe": plan.experiment.name, "pipeline": plan.name,
                "settings": plan.experiment.model_dump_json(include={"model", "train"}),
            },
        },
    }  # fmt: skip
