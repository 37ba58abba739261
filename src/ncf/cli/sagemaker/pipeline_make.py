"""`ncf sagemaker pipeline create` and `run`: the two that say what the pipeline is."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.cli.options import print_json
from ncf.cli.sagemaker import options as shared
from ncf.cli.sagemaker.options import MaxCost, Yes, pairs_of
from ncf.cli.sagemaker.pipeline import InputData, Name, Parameters, app, follow_to_the_end, parameters_of
from ncf.errors import ConfigError

if TYPE_CHECKING:
    from ncf.sagemaker.pipelines.execution import Options
    from ncf.sagemaker.session import Session

__all__ = ["app", "create", "run"]

Recipe = Annotated[str, typer.Argument(help="A TOML file, as for 'ncf train'.")]
Group = Annotated[str | None, typer.Option(help="Model group; PROJECT-models.", show_default=False)]
Prepare = Annotated[
    list[str] | None, typer.Option("--prepare", help="Option of the preparation, such as min_user=5; repeat.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: section.key=value.")]
Image = Annotated[
    str | None, typer.Option(help="Our image; NCF_IMAGE, or this project's.", show_default=False)
]
Instance = Annotated[str, typer.Option("--instance-type", help="Instance that trains.")]
Processing = Annotated[str, typer.Option(help="Instance that prepares and evaluates.")]
MaxRun = Annotated[int, typer.Option("--max-run", help="Seconds after which a job is stopped.")]
Spot = Annotated[bool, typer.Option("--spot", help="Train on spot instances.")]
Gain = Annotated[float, typer.Option(help="NDCG@10 must rise by more than this.")]
Alpha = Annotated[float, typer.Option(help="The paired test's p must be below this.")]
Floor = Annotated[float, typer.Option(help="NDCG@10 must be at least this.")]
Approve = Annotated[bool, typer.Option("--approve", help="A better model is approved without a person.")]
FailIfNot = Annotated[
    bool,
    typer.Option("--fail-if-not-better", help="An execution whose model is not better counts as failed."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the definition as JSON and make nothing.")]


def _options(
    name: Name = None, group: Group = None, prepare: Prepare = None, image: Image = None,
    instance_type: Instance = "ml.c7i.xlarge", processing_instance: Processing = "ml.m5.large",
    max_run: MaxRun = 24 * 3600, spot: Spot = False, minimum_gain: Gain = 0.0, alpha: Alpha = 0.05, floor: Floor = 0.0,
    approve: Approve = False, fail_if_not_better: FailIfNot = False,
) -> "Options":  # fmt: skip
    """What both commands say of a pipeline."""
    from ncf.sagemaker.container.criteria import PromotionCriteria
    from ncf.sagemaker.pipelines.execution import Options

    return Options(
        name, image, group, None, pairs_of(prepare, "--prepare", "min_user=5"), instance_type, processing_instance,
        max_run, spot, PromotionCriteria(minimum_gain, alpha, floor), approve, fail_if_not_better,
    )  # fmt: skip


@app.command()
@shared.with_session(shared.MAKES)
@shared.gathered("options", _options)
def create(
    session: "Session",
    options: "Options",
    recipe: Recipe,
    data: InputData = None,
    set: Set = None,
    dry_run: DryRun = False,
) -> None:
    """Create the pipeline, or change it if it is there; says what an execution may cost."""
    from ncf.cli.sagemaker.cost import tell_cost
    from ncf.sagemaker.pipelines import execution
    from ncf.sagemaker.pipelines.cost import of_execution
    from ncf.sagemaker.pipelines.definition import definition

    if dry_run and data and "://" not in data:
        raise ConfigError("--dry-run sends nothing: give --data as an address, or leave it out.")
    plan = _plan(session, recipe, set, data, options)
    tell_cost(session, of_execution(definition(plan), {}))
    if data:
        plan = replace(plan, input_data=execution.input_data(session, data))
    if dry_run:
        print_json(definition(plan))
        return
    new = execution.upsert(session, plan)
    typer.echo(
        f"{'Created' if new else 'Changed'} the pipeline {plan.name}; models go to the group {plan.group}."
    )


@app.command()
@shared.with_session(shared.MAKES)
@shared.gathered("options", _options)
def run(
    session: "Session",
    options: "Options",
    recipe: Recipe,
    data: InputData = None,
    set: Set = None,
    parameter: Parameters = None,
    max_cost: MaxCost = None,
    yes: Yes = False,
) -> None:
    """Create or change, start, and wait; the last execution is gone on with if it failed and nothing has changed."""
    from ncf.cli.sagemaker.cost import accept_cost
    from ncf.sagemaker.pipelines import execution
    from ncf.sagemaker.pipelines.cost import of_execution
    from ncf.sagemaker.pipelines.definition import definition

    plan, given = _plan(session, recipe, set, data, options), parameters_of(parameter)
    accept_cost(session, of_execution(definition(plan), given), max_cost, yes)
    if data:
        plan = replace(plan, input_data=execution.input_data(session, data))
    execution.upsert(session, plan)
    arn, resumed = execution.resume_or_start(session, plan.name, given)
    typer.echo(f"{'Goes on with' if resumed else 'Started'} {arn}.")
    follow_to_the_end(session, arn)


def _plan(session: Any, recipe: str, overrides: list[str] | None, data: str | None, options: Any) -> Any:
    """The plan, for which nothing is sent yet."""
    from ncf.config import Experiment
    from ncf.sagemaker.pipelines.execution import check_input, plan_of

    if data:
        check_input(data)
    return plan_of(session, Experiment.load(recipe, overrides or ()), options)
