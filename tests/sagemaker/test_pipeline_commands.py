"""What `ncf sagemaker pipeline` says of costs before it starts or sends anything, and how it goes on after a
failure."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from aws import Aws
from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.pipelines.cost import of_execution
from pipeline_aws import Commands, container

if TYPE_CHECKING:
    from hosted.inline import Spec

DAY = (
    "Cost: an execution of 4 jobs (3 on 1 x ml.m5.large, 1 on 1 x ml.c7i.xlarge): up to $0.214 an "
    "hour, at most $13.42 in 96 h"
)


def breaking(step: str) -> Callable[["Spec"], int]:
    """Containers of which those of one step fail."""
    return lambda spec: 1 if spec.command[:1] == [step] or spec.kind == step else container(spec)


def started(aws: Aws) -> list[str]:
    """The steps whose jobs were made, in order."""
    made = [one for one in aws.records() if one.kind.name in ("ProcessingJob", "TrainingJob")]
    return [one.name.split("-")[2] for one in sorted(made, key=lambda one: one.created)]


def test_create_and_start_say_what_an_execution_may_cost(ncf: Commands) -> None:
    ncf.create()
    assert ncf.said.startswith(DAY)
    ncf("pipeline", "start", "--bucket", "mine", "-p", "TrainingInstanceType=ml.m5.large", "--max-cost", "12")
    assert "4 jobs (4 on 1 x ml.m5.large): up to $0.115 an hour, at most $11.04 in 96 h" in ncf.said


def test_a_limit_of_cost_starts_and_sends_nothing(aws: Aws, ncf: Commands) -> None:
    with pytest.raises(ConfigError, match=r"Nothing was started: an execution of 4 jobs .*--max-cost 13"):
        ncf("pipeline", "run", str(ncf.recipe), *ncf.options, "--max-cost", "13")
    assert [call.operation for call in aws.calls() if call.operation.startswith(("Put", "Create"))] == [
        "CreateBucket"
    ]
    ncf.create()
    sent = len(aws.calls("PutObject"))
    with pytest.raises(ConfigError, match="Nothing was started"):
        ncf("pipeline", "start", "--bucket", "mine", "--data", str(ncf.recipe), "--max-cost", "13")
    with pytest.raises(ConfigError, match="price of an execution of 4 jobs"):
        ncf("pipeline", "start", "--max-cost", "99", "-p", "TrainingInstanceType=ml.x9.huge")
    with pytest.raises(ConfigError, match=r"There is no nowhere\.csv"):
        ncf("pipeline", "start", "--bucket", "mine", "--data", "nowhere.csv")
    assert len(aws.calls("PutObject")) == sent
    assert aws.calls("StartPipelineExecution") == []


def test_a_retry_repeats_nothing_that_succeeded_and_costs_the_rest(aws: Aws, ncf: Commands) -> None:
    ncf.create()
    aws.run(breaking("evaluate"))
    with pytest.raises(CloudError, match="The execution failed"):
        ncf.start("-p", "Epochs=3")
    with pytest.raises(ConfigError, match="the rest of an execution of 2 jobs .*--max-cost 5"):
        ncf("pipeline", "retry", "--bucket", "mine", "--max-cost", "5")
    assert aws.calls("RetryPipelineExecution") == []
    aws.run(container)
    said = ncf("pipeline", "retry", "--bucket", "mine", "--max-cost", "6")
    assert "the rest of an execution of 2 jobs (2 on 1 x ml.m5.large)" in ncf.said
    assert "Registered as arn:aws:sagemaker:" in said
    assert started(aws) == ["Prepare", "Train", "Evaluate", "Evaluate", "Promote"]
    with pytest.raises(CloudError, match="can be retried"):
        ncf("pipeline", "retry", "--bucket", "mine")


def test_run_goes_on_with_what_failed_if_nothing_was_changed(aws: Aws, ncf: Commands) -> None:
    run = ("pipeline", "run", str(ncf.recipe), *ncf.options, "-p", "Epochs=3")
    aws.run(breaking("train"))
    with pytest.raises(CloudError, match="The execution failed"):
        ncf(*run)
    aws.run(container)
    assert "Resumed arn:" in ncf(*run)
    assert ncf.said.startswith(DAY)
    assert started(aws) == ["Prepare", "Train", "Train", "Evaluate", "Promote"]
    assert "Started arn:" in ncf(*run)


def test_a_step_of_another_kind_costs_nothing_and_spot_is_said() -> None:
    train = {
        "ResourceConfig": {"InstanceType": {"Get": "Parameters.Type"}, "InstanceCount": 2},
        "StoppingCondition": {"MaxRuntimeInSeconds": 1800}, "EnableManagedSpotTraining": True,
    }  # fmt: skip
    inner = {"Name": "Train", "Type": "Training", "Arguments": train}
    steps = [{"Name": "If", "Type": "Condition", "Arguments": {"Conditions": [], "IfSteps": [inner]}}]
    definition = {"Parameters": [{"Name": "Type", "DefaultValue": "ml.m5.large"}], "Steps": steps}
    found = of_execution(definition, {})
    assert found.total == pytest.approx(0.115)
    assert "spot" in found.sentence()
    assert of_execution(definition, {}, {"Train"}).total == 0
