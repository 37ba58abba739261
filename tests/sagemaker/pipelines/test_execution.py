"""The definition: every reference leads somewhere, and every call that a step makes is one that AWS would
take."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ncf.config import Experiment
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.container.criteria import PromotionCriteria
from ncf.sagemaker.container.hyperparameters import from_hyperparameters
from ncf.sagemaker.local import requests
from ncf.sagemaker.pipelines import execution
from ncf.sagemaker.pipelines.definition import PipelinePlan, definition
from ncf.sagemaker.pipelines.execution import Options
from ncf.sagemaker.pipelines.values import at_path, joined, references, resolve
from ncf.sagemaker.session import Session, Settings
from support import experiment

ACCOUNT, ROLE = "123456789012", "arn:aws:iam::123456789012:role/ncf"
IMAGE = f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com/ncf:1"
CALLS = {
    "Processing": ("create_processing_job", "ProcessingJobName"),
    "Training": ("create_training_job", "TrainingJobName"),
    "RegisterModel": ("create_model_package", None),
}
PROPERTIES = {
    "ModelArtifacts.S3ModelArtifacts", "ModelPackageArn", "PropertyFiles.Evaluation",
    "ProcessingOutputConfig.Outputs['data'].S3Output.S3Uri",
    "ProcessingOutputConfig.Outputs['evaluation'].S3Output.S3Uri",
}  # fmt: skip


class Hosted(Session):
    """A hosted session that asks nobody."""

    account, region, role, bucket = ACCOUNT, "eu-west-1", ROLE, "mine"  # type: ignore[assignment]

    def __init__(self, **settings: Any) -> None:
        super().__init__(Settings(**settings))


def plan(
    recipe: Experiment | None = None, settings: dict[str, Any] | None = None, **options: Any
) -> PipelinePlan:
    """A plan with an image of another account, which is believed to be there."""
    given = {"image": IMAGE.replace(ACCOUNT, "999999999999"), "data": "s3://mine/ratings.csv"} | options
    return execution.plan_of(Hosted(**settings or {}), recipe or experiment("neumf"), Options(**given))


FULL = {
    "kms_key": "arn:aws:kms:eu-west-1:123456789012:key/1",
    "subnets": ("subnet-1",),
    "security_groups": ("sg-1",),
}
PLANS = {
    "plain": plan(),
    "all options": plan(
        settings=FULL, spot=True, prepare={"min_user": "5"}, fail_if_not_better=True, approve=True,
        bar=PromotionCriteria(0.01, 0.01, 0.2),
    ),
}  # fmt: skip


def steps_of(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every step in the order in which it runs, branches included."""
    for step in document["Steps"]:
        yield step
        for branch in ("IfSteps", "ElseSteps"):
            yield from step["Arguments"].get(branch, ())


@pytest.fixture(params=PLANS.values(), ids=PLANS)
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    return definition(request.param)


def test_every_reference_leads_to_a_parameter_a_fact_or_an_earlier_step(document: dict[str, Any]) -> None:
    parameters = {one["Name"] for one in document["Parameters"]}
    earlier: set[str] = set()
    used: set[str] = set()
    for step in steps_of(document):
        own = {name: value for name, value in step["Arguments"].items() if not name.endswith("Steps")}
        for reference in references(own):
            root, _, rest = reference.partition(".")
            if root == "Parameters":
                used.add(rest)
            elif root == "Steps":
                name, _, path = rest.partition(".")
                assert name in earlier
                assert path in PROPERTIES
            else:
                assert reference == "Execution.PipelineExecutionId"
        earlier.add(step["Name"])
    assert used == parameters


def test_every_call_is_one_that_aws_takes(document: dict[str, Any]) -> None:
    values = {one["Name"]: one.get("DefaultValue", "x") for one in document["Parameters"]}

    def get(reference: str) -> Any:
        root, _, path = reference.partition(".")
        if root == "Parameters":
            return values[path]
        if "PropertyFiles" in path:
            return {
                "properties": dict.fromkeys(
                    (
                        "recipe",
                        "experiment_digest",
                        "data_name",
                        "data_digest",
                        "hr_at_10",
                        "ndcg_at_10",
                        "rival",
                        "gain",
                        "p_value",
                    ),
                    "x",
                ),
                "verdict": {"register": 1},
            }
        if path.endswith("ModelPackageArn"):
            return f"arn:aws:sagemaker:eu-west-1:{ACCOUNT}:model-package/ncf-models/1"
        return "abc123" if root == "Execution" else "s3://mine/somewhere"

    checked = []
    for step in steps_of(document):
        if step["Type"] in CALLS:
            method, name = CALLS[step["Type"]]
            request = resolve(step["Arguments"], get) | ({name: "pipelines-abc-1"} if name else {})
            operation = "".join(word.title() for word in method.split("_"))
            assert requests.refusal("sagemaker", operation, request) is None
            checked.append(step["Name"])
    assert checked == ["Prepare", "Train", "Evaluate", "Register", "Promote"]


def test_container_arguments_are_short_enough(document: dict[str, Any]) -> None:
    """At most 256 characters each (CreateProcessingJob); a model's address is the longest."""
    long = (
        "s3://"
        + "b" * 63
        + "/ncf/pipelines/ncf-pipeline/abcdefghijkl/training"
        + "/pipelines-abcdefghijkl-Train-0123456789/output/model.tar.gz"
    )
    promote = next(one for one in steps_of(document) if one["Name"] == "Promote")
    written = resolve(promote["Arguments"]["AppSpecification"]["ContainerArguments"], lambda _: long)
    assert max(map(len, written)) <= 256


def test_conditions_are_not_nested(document: dict[str, Any]) -> None:
    """SageMaker admits none within another's branches."""
    inner = [one for step in document["Steps"] for branch in ("IfSteps", "ElseSteps")
             for one in step["Arguments"].get(branch, ())]  # fmt: skip
    assert "Condition" not in {one["Type"] for one in inner}
    assert len({one["Name"] for one in steps_of(document)}) == len(list(steps_of(document)))


def test_the_training_step_trains_the_recipe() -> None:
    recipe = experiment("neumf", epochs=7)
    made = plan(recipe)
    train = definition(made)["Steps"][1]["Arguments"]
    defaults = {one["Name"]: one["DefaultValue"] for one in definition(made)["Parameters"]}
    values = resolve(train["HyperParameters"], lambda name: defaults[name.removeprefix("Parameters.")])
    assert from_hyperparameters(values).digest() == recipe.digest()


def test_key_and_network_reach_every_job() -> None:
    for step in steps_of(definition(PLANS["all options"])):
        if step["Type"] in ("Processing", "Training"):
            text = str(step["Arguments"])
            assert text.count(FULL["kms_key"]) == 2, step["Name"]
            assert "subnet-1" in text
            assert "ncf:project" in text


def test_two_executions_write_to_different_places() -> None:
    places = [one for step in steps_of(definition(PLANS["plain"])) for one in outputs(step)]
    assert len(places) == 5
    shared = [place for place in places if "Execution.PipelineExecutionId" not in set(references(place))]
    assert shared == [PLANS["plain"].champion]


def outputs(step: dict[str, Any]) -> list[Any]:
    arguments = step["Arguments"]
    written = [
        one["S3Output"]["S3Uri"] for one in arguments.get("ProcessingOutputConfig", {}).get("Outputs", ())
    ]
    training = (
        [arguments["OutputDataConfig"]["S3OutputPath"], arguments["CheckpointConfig"]["S3Uri"]]
        if step["Type"] == "Training"
        else []
    )
    return written + training


def test_the_definition_does_not_depend_on_what_was_asked_before() -> None:
    assert definition(PLANS["plain"]) == definition(replace(PLANS["plain"]))


def test_values_are_found_by_index_by_name_and_in_texts() -> None:
    value = {"Outputs": [{"OutputName": "a", "Uri": "x"}, {"OutputName": "b", "Uri": "y"}]}
    assert at_path(value, "Outputs['b'].Uri") == "y"
    assert at_path(value, "Outputs[0].Uri") == "x"
    assert resolve(joined("-", "a", 1, True, {"Get": "x"}), lambda _: 0.5) == "a-1-true-0.5"
    with pytest.raises(CloudError, match=r"The step left no Outputs\['c'\]"):
        at_path(value, "Outputs['c'].Uri")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"prepare": {"mini": "5"}}, "mini is not an option of the preparation"),
        ({"prepare": {"min_user": "five"}}, "min_user must be a number"),
        ({"prepare": {"split": "first"}}, "--split must be one of"),
        ({"data": "nowhere.csv"}, "There is no nowhere.csv"),
        ({"name": "a pipeline"}, "The pipeline's name 'a pipeline' is not possible"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_made(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan(**options)
    assert sentence in str(refused.value)
