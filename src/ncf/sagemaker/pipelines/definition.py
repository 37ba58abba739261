"""The pipeline as SageMaker's JSON (version 2020-12-01): `definition(plan)` is a pure function.

prepare → train → evaluate → better? → register → promote, or else an end that says why not. Local mode interprets the
very same dictionary (`ncf.sagemaker.local.pipelines`).

The decision worth knowing: what the registered model is, the pipeline reads from a folder (`plan.champion`) and not from
the registry, since a schedule starts the pipeline with fixed parameters and a processing container has no AWS library.
The step `Promote` and `ncf sagemaker models approve` keep that folder true.
"""

from typing import Any

from ncf.sagemaker.pipelines import steps
from ncf.sagemaker.pipelines.steps import PipelinePlan

VERSION = "2020-12-01"


def definition(plan: PipelinePlan) -> dict[str, Any]:
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


def parameters(plan: PipelinePlan) -> list[dict[str, Any]]:
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


def _otherwise(plan: PipelinePlan) -> list[dict[str, Any]]:
    return [steps.not_better()] if plan.fail_if_not_better else []
