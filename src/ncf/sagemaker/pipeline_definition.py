"""The pipeline as SageMaker's JSON (version 2020-12-01): `definition(plan)` is a pure function.

prepare → train → evaluate → better? → register → promote, or else an end that says why not. Local mode interprets the
very same dictionary (`ncf.sagemaker.local.pipelines`).

The decision worth knowing: what the registered model is, the pipeline reads from a folder (`plan.champion`) and not from
the registry, since a schedule starts the pipeline with fixed parameters and a processing container has no AWS library.
The step `Promote` and `ncf sagemaker models approve` keep that folder true.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ncf.config import Experiment
from ncf.sagemaker import pipeline_steps as steps
from ncf.sagemaker.bar import Bar

VERSION = "2020-12-01"
Approval = Literal["PendingManualApproval", "Approved"]


@dataclass(frozen=True)
class Plan:
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
    bar: Bar = field(default_factory=Bar)
    approval: Approval = "PendingManualApproval"
    fail_if_not_better: bool = False
    """Whether an execution whose model is not better counts as failed, as an alarm would want it."""
    kms_key: str | None = None
    vpc: Mapping[str, Any] | None = None
    tags: tuple[Mapping[str, str], ...] = ()


def definition(plan: Plan) -> dict[str, Any]:
    """The whole definition."""
    return {
        "Version": VERSION,
        "Metadata": {},
        "Parameters": parameters(plan),
        "Steps": [
            steps.prepare(plan),
            steps.train(plan),
            steps.evaluate(plan),
            steps.is_better([steps.register(plan), steps.promote(plan)], _otherwise(plan)),
        ],
    }


def parameters(plan: Plan) -> list[dict[str, Any]]:
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
    return [
        *({"Name": name, "Type": "String", **({"DefaultValue": text} if text else {})} for name, text in texts.items()),
        *({"Name": name, "Type": "Float", "DefaultValue": number} for name, number in numbers.items()),
    ]  # fmt: skip


def _otherwise(plan: Plan) -> list[dict[str, Any]]:
    return [steps.not_better()] if plan.fail_if_not_better else []
