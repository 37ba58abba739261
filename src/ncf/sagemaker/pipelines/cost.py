"""The largest cost of a pipeline's execution: a definition and the parameters of a start in, an `Estimate`
out.

Every job of the definition counts once, for its longest run, whichever way its conditions go. Repetitions
after faults of AWS do not count.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ncf.sagemaker.pipelines import execution
from ncf.sagemaker.pipelines.values import at_path, resolve
from ncf.sagemaker.prices import Estimate, Kind, estimate, in_sequence
from ncf.sagemaker.session import Session

_JOBS: Mapping[str, tuple[Kind, str]] = {
    "Training": ("training", "ResourceConfig"),
    "Processing": ("processing", "ProcessingResources.ClusterConfig"),
}
"""Types of steps with instances of their own, and the path to these in the step's arguments."""


def of_execution(
    definition: Mapping[str, Any], parameters: Mapping[str, str], done: Collection[str] = ()
) -> Estimate:
    """The cost of all steps but those in `done`; raises `CloudError` where a step names no instances."""
    defaults = {entry["Name"]: entry.get("DefaultValue") for entry in definition.get("Parameters", ())}
    values = defaults | dict(parameters)
    steps = [step for step in _every(definition["Steps"]) if step["Name"] not in done]
    whole = in_sequence([_job(step, values) for step in steps if step["Type"] in _JOBS])
    return replace(whole, what=f"{'the rest of an' if done else 'an'} execution of {whole.what}")


def of_start(session: Session, name: str, parameters: Mapping[str, str]) -> Estimate:
    """The cost of an execution of the existing pipeline `name`; raises `CloudError` where there is none."""
    return of_execution(json.loads(execution.known(session, name)["PipelineDefinition"]), parameters)


def of_retry(session: Session, arn: str) -> Estimate:
    """The cost of the steps of an execution that have not succeeded."""
    definition, parameters = execution.definition_of(session, arn)
    steps = execution.execution(session, arn).steps
    done = {step["StepName"] for step in steps if step["StepStatus"] == "Succeeded"}
    return of_execution(definition, parameters, done)


def _job(step: Mapping[str, Any], values: Mapping[str, Any]) -> Estimate:
    kind, path = _JOBS[step["Type"]]
    arguments = step["Arguments"]
    cluster = resolve(at_path(arguments, path), lambda name: values[name.removeprefix("Parameters.")])
    seconds = arguments["StoppingCondition"]["MaxRuntimeInSeconds"]
    spot = bool(arguments.get("EnableManagedSpotTraining"))
    return estimate(str(cluster["InstanceType"]), kind, int(cluster["InstanceCount"]), seconds, spot=spot)


def _every(steps: Collection[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield the steps, and those inside conditions."""
    for step in steps:
        yield step
        for branch in ("IfSteps", "ElseSteps"):
            yield from _every(step.get("Arguments", {}).get(branch, ()))
