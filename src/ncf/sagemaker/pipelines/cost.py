"""What an execution of a pipeline costs at most: a definition and the parameters of a start in, an `Estimate` out.

Every job of the definition is counted once, for as long as it may run, whichever way its conditions go; what AWS repeats
after a fault of its own is not counted.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ncf.sagemaker.pipelines import execution
from ncf.sagemaker.pipelines.values import at_path, resolve
from ncf.sagemaker.prices import Estimate, Kind, estimate, one_by_one
from ncf.sagemaker.session import Session

_JOBS: Mapping[str, tuple[Kind, str]] = {
    "Training": ("training", "ResourceConfig"),
    "Processing": ("processing", "ProcessingResources.ClusterConfig"),
}
"""Types of steps with instances of their own, to where the step says which."""


def of_execution(
    definition: Mapping[str, Any], parameters: Mapping[str, str], done: Collection[str] = ()
) -> Estimate:
    """Of all steps but those that are done; raises `CloudError` where a step names no instances."""
    values = {one["Name"]: one.get("DefaultValue") for one in definition.get("Parameters", ())} | dict(
        parameters
    )
    steps = [step for step in _every(definition["Steps"]) if step["Name"] not in done]
    whole = one_by_one([_job(step, values) for step in steps if step["Type"] in _JOBS])
    return replace(whole, what=f"{'the rest of an' if done else 'an'} execution of {whole.what}")


def of_start(session: Session, name: str, parameters: Mapping[str, str]) -> Estimate:
    """Of an execution of the pipeline as it is now; raises `CloudError` where there is none."""
    return of_execution(json.loads(execution.known(session, name)["PipelineDefinition"]), parameters)


def of_retry(session: Session, arn: str) -> Estimate:
    """Of what is left of an execution."""
    client = session.client("sagemaker")
    text = client.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)["PipelineDefinition"]
    given = client.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)["PipelineParameters"]
    steps = execution.execution(session, arn).steps
    done = {one["StepName"] for one in steps if one["StepStatus"] == "Succeeded"}
    return of_execution(json.loads(text), {one["Name"]: one["Value"] for one in given}, done)


def _job(step: Mapping[str, Any], values: Mapping[str, Any]) -> Estimate:
    kind, where = _JOBS[step["Type"]]
    asked = step["Arguments"]
    cluster = resolve(at_path(asked, where), lambda name: values[name.removeprefix("Parameters.")])
    seconds = asked["StoppingCondition"]["MaxRuntimeInSeconds"]
    spot = bool(asked.get("EnableManagedSpotTraining"))
    return estimate(str(cluster["InstanceType"]), kind, int(cluster["InstanceCount"]), seconds, spot=spot)


def _every(steps: Collection[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for step in steps:
        yield step
        for branch in ("IfSteps", "ElseSteps"):
            yield from _every(step.get("Arguments", {}).get(branch, ()))
