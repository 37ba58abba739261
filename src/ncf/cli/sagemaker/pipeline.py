"""`ncf sagemaker pipeline …`: from a table of interactions to a registered model, repeatably."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.cli.help import App
from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.errors import CloudError, ConfigError

if TYPE_CHECKING:
    from ncf.sagemaker.pipelines.execution import Options
    from ncf.sagemaker.session import Session

app = App(help="Prepare, train, evaluate, and register if better: create, start, watch, schedule.")
Name = Annotated[str | None, typer.Option(help="The pipeline; PROJECT-pipeline.", show_default=False)]
InputData = Annotated[
    str | None,
    typer.Option("--data", help="Table of interactions or prepared folder: s3://, or here and then sent."),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", help="Parameter of this start, such as Epochs=3; repeat."),
]
Arn = Annotated[
    str | None, typer.Argument(metavar="[EXECUTION]", help="ARN or its end; by default the last execution.")
]
Prepare = Annotated[
    list[str] | None, typer.Option("--prepare", help="Option of the preparation, such as min_user=5; repeat.")
]
Instance = Annotated[str, typer.Option("--instance-type", help="Instance that trains.")]
Processing = Annotated[str, typer.Option(help="Instance that prepares and evaluates.")]
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
    name: Name = None,
    group: shared.Group = None,
    prepare: Prepare = None,
    image: shared.Image = None,
    instance_type: Instance = "ml.c7i.xlarge",
    processing_instance: Processing = "ml.m5.large",
    max_run: shared.MaxRun = 24 * 3600,
    spot: shared.Spot = False,
    minimum_gain: Gain = 0.0,
    alpha: Alpha = 0.05,
    floor: Floor = 0.0,
    approve: Approve = False,
    fail_if_not_better: FailIfNot = False,
) -> "Options":
    """The options of a pipeline, which `create` and `run` share."""
    from ncf.sagemaker.container.criteria import PromotionCriteria
    from ncf.sagemaker.pipelines.execution import Options

    return Options(
        name, image, group, None, shared.pairs_of(prepare, "--prepare", "min_user=5"), instance_type,
        processing_instance, max_run, spot, PromotionCriteria(minimum_gain, alpha, floor), approve,
        fail_if_not_better,
    )  # fmt: skip


@app.command()
@shared.with_session(shared.MAKES)
@shared.gathered("options", _options)
def create(
    session: "Session",
    options: "Options",
    recipe: shared.Recipe,
    data: InputData = None,
    set: shared.Set = None,
    dry_run: DryRun = False,
) -> None:
    """Create the pipeline, or change an existing one, and show what an execution may cost.

    Examples:
        ncf sagemaker pipeline create neumf --data s3://shelf/events.parquet
        ncf sagemaker pipeline create neumf --dry-run
    """
    from ncf.sagemaker.pipelines import execution
    from ncf.sagemaker.pipelines.cost import of_execution
    from ncf.sagemaker.pipelines.definition import definition

    if dry_run and data and "://" not in data:
        raise ConfigError("--dry-run sends nothing: give --data as an address, or leave it out.")
    plan = _plan(session, recipe, set, data, options)
    shared.show_cost(session, of_execution(definition(plan), {}))
    if data:
        plan = replace(plan, input_data=execution.input_data(session, data))
    if dry_run:
        print_json(definition(plan))
        return
    new = execution.upsert(session, plan)
    verb = "Created" if new else "Changed"
    typer.echo(f"{verb} the pipeline {plan.name}; models go to the group {plan.group}.")


@app.command()
@shared.with_session(shared.MAKES)
@shared.gathered("options", _options)
def run(
    session: "Session",
    options: "Options",
    recipe: shared.Recipe,
    data: InputData = None,
    set: shared.Set = None,
    parameter: Parameters = None,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
) -> None:
    """Create or change the pipeline, and run it; a failed execution is resumed if nothing has changed.

    Examples:
        ncf sagemaker pipeline run neumf --data data/mine --local
        ncf sagemaker pipeline run neumf --data data/mine --max-cost 2 --approve
    """
    from ncf.sagemaker.pipelines import execution
    from ncf.sagemaker.pipelines.cost import of_execution
    from ncf.sagemaker.pipelines.definition import definition

    plan, given = _plan(session, recipe, set, data, options), _parameters(parameter)
    shared.accept_cost(session, of_execution(definition(plan), given), max_cost, yes)
    if data:
        plan = replace(plan, input_data=execution.input_data(session, data))
    execution.upsert(session, plan)
    arn, resumed = execution.resume_or_start(session, plan.name, given)
    typer.echo(f"{'Resumed' if resumed else 'Started'} {arn}.")
    _follow(session, arn)


@app.command()
@shared.with_session(shared.READS)
def show(session: "Session", name: Name = None) -> None:
    """Print the pipeline's definition ('create --dry-run' shows it before the pipeline is made).

    Examples:
        ncf sagemaker pipeline show
        ncf sagemaker pipeline show --name shop-pipeline
    """
    from ncf.sagemaker.pipelines import execution as pipelines

    typer.echo(pipelines.known(session, pipelines.pipeline_name(session, name))["PipelineDefinition"])


@app.command()
@shared.with_session(shared.STORES)
def start(
    session: "Session",
    name: Name = None,
    parameter: Parameters = None,
    data: InputData = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end.")] = False,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
) -> None:
    """Start an execution.

    Examples:
        ncf sagemaker pipeline start --follow
        ncf sagemaker pipeline start -p Epochs=3 --max-cost 2
    """
    from ncf.sagemaker.pipelines import cost
    from ncf.sagemaker.pipelines import execution as pipelines

    pipeline, given = pipelines.pipeline_name(session, name), _parameters(parameter)
    if data:
        pipelines.check_input(data)
    shared.accept_cost(session, cost.of_start(session, pipeline, given), max_cost, yes)
    sent = {"InputData": pipelines.input_data(session, data)} if data else {}
    arn = pipelines.start(session, pipeline, given | sent)
    typer.echo(f"Started {arn}.")
    if follow:
        _follow(session, arn)


@app.command()
@shared.with_session(shared.STORES)
def status(
    session: "Session",
    execution: Arn = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end.")] = False,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """Show the steps of an execution: state, duration, and why one failed.

    Examples:
        ncf sagemaker pipeline status
        ncf sagemaker pipeline status --follow --json
    """
    from ncf.sagemaker.pipelines import execution as pipelines

    arn = _arn(session, execution, name)
    if follow and not as_json:
        _follow(session, arn)
        return
    now = pipelines.follow(session, arn) if follow else pipelines.execution(session, arn)
    if as_json:
        print_json(now.to_json(pipelines.verdict(session, now)))
        return
    _echo(now.lines())
    _conclude(session, now)


@app.command("list")
@shared.with_session(shared.READS)
def list_(session: "Session", name: Name = None) -> None:
    """List the executions of a pipeline, the newest first.

    Examples:
        ncf sagemaker pipeline list
        ncf sagemaker pipeline list --name shop-pipeline
    """
    from ncf.sagemaker.pipelines import execution as pipelines

    listed = pipelines.executions(session, pipelines.pipeline_name(session, name))
    for entry in listed:
        moment = f"{entry['StartTime']:%Y-%m-%d %H:%M:%S}"
        typer.echo(f"{moment}  {entry['PipelineExecutionStatus']:<10} {entry['PipelineExecutionArn']}")
    if not listed:
        typer.echo("It has not been started yet.")


@app.command()
@shared.with_session(shared.READS)
def stop(session: "Session", execution: Arn = None, name: Name = None) -> None:
    """Stop an execution and the job that it runs.

    Examples:
        ncf sagemaker pipeline stop
        ncf sagemaker pipeline stop --name shop-pipeline
    """
    from ncf.sagemaker.pipelines import execution as pipelines

    arn = _arn(session, execution, name)
    pipelines.stop(session, arn)
    typer.echo(f"{arn} is stopping.")


@app.command()
@shared.with_session(shared.STORES)
def retry(
    session: "Session",
    execution: Arn = None,
    name: Name = None,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
) -> None:
    """Resume an execution that failed or was stopped, without the steps that succeeded.

    Examples:
        ncf sagemaker pipeline retry
        ncf sagemaker pipeline retry --max-cost 2 --yes
    """
    from ncf.sagemaker.pipelines import cost
    from ncf.sagemaker.pipelines import execution as pipelines

    arn = _arn(session, execution, name)
    shared.accept_cost(session, cost.of_retry(session, arn), max_cost, yes)
    _follow(session, pipelines.retry(session, arn))


@app.command()
@shared.with_session(shared.READS)
def delete(session: "Session", name: Name = None, yes: shared.Yes = False) -> None:
    """Delete the pipeline; the models stay in the registry.

    Examples:
        ncf sagemaker pipeline delete
        ncf sagemaker pipeline delete --name shop-pipeline --yes
    """
    from ncf.sagemaker.pipelines import execution as pipelines

    pipeline = pipelines.pipeline_name(session, name)
    if not yes:
        typer.confirm(f"Delete the pipeline {pipeline}?", abort=True)
    pipelines.delete(session, pipeline)
    typer.echo(f"Deleted the pipeline {pipeline}.")


@app.command()
@shared.with_session((*shared.HOSTED_READS, "tags"))
def schedule(
    session: "Session",
    expression: Annotated[
        str | None, typer.Argument(help="'rate(7 days)' or 'cron(0 3 ? * MON *)'.", show_default=False)
    ] = None,
    scheduler_role: Annotated[
        str | None, typer.Option(help="ARN of the role that EventBridge Scheduler takes.", show_default=False)
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the schedule away.")] = False,
    parameter: Parameters = None,
    timezone: Annotated[str, typer.Option(help="Of the expression.")] = "UTC",
    name: Name = None,
) -> None:
    """Start the pipeline on a schedule (EventBridge Scheduler), and show what each execution may cost.

    Examples:
        ncf sagemaker pipeline schedule 'rate(7 days)' --scheduler-role ARN
        ncf sagemaker pipeline schedule --remove
    """
    from ncf.sagemaker.pipelines import cost, schedules
    from ncf.sagemaker.pipelines import execution as pipelines

    pipeline = pipelines.pipeline_name(session, name)
    if remove:
        schedules.unschedule(session, pipeline)
        typer.echo(f"{pipeline} no longer starts by itself.")
        return
    if expression is None or scheduler_role is None:
        raise ConfigError("A schedule needs an expression such as 'rate(7 days)', and --scheduler-role ARN.")
    given = _parameters(parameter)
    shared.show_cost(session, cost.of_start(session, pipeline, given))
    new = schedules.schedule(session, pipeline, expression, scheduler_role, given, timezone)
    typer.echo(f"{'Scheduled' if new else 'Changed the schedule of'} {pipeline}: {expression}, {timezone}.")


def _parameters(given: list[str] | None) -> dict[str, str]:
    """The parameters of a start, from `--parameter`."""
    return shared.pairs_of(given, "--parameter", "Epochs=3")


def _arn(session: Any, given: str | None, name: str | None) -> str:
    """ARN of the execution `given`, the last one of the pipeline by default; raises `CloudError`."""
    from ncf.sagemaker.pipelines import execution as pipelines

    if given and given.startswith("arn:"):
        return given
    for entry in pipelines.executions(session, pipelines.pipeline_name(session, name)):
        arn = str(entry["PipelineExecutionArn"])
        if given is None or arn.endswith(f"/{given}"):
            return arn
    raise CloudError("There is no such execution: 'ncf sagemaker pipeline list' shows them.")


def _follow(session: Any, arn: str) -> None:
    """Print each change until the end; raises `CloudError` for an execution that fails."""
    from ncf.sagemaker.pipelines import execution as pipelines

    changes = pipelines.Changes()
    _conclude(session, pipelines.follow(session, arn, lambda state: _echo(changes.lines(state))))


def _conclude(session: Any, now: Any) -> None:
    from ncf.sagemaker.pipelines import execution as pipelines

    document = pipelines.verdict(session, now)
    if document:
        typer.echo(document["verdict"]["sentence"])
    if now.package:
        typer.echo(f"Registered as {now.package}.")
    if now.status in ("Failed", "Stopped"):
        raise CloudError(f"The execution {now.status.lower()}: {now.reason}")


def _echo(lines: list[str]) -> None:
    for line in lines:
        typer.echo(line)


def _plan(session: Any, recipe: str, overrides: list[str] | None, data: str | None, options: Any) -> Any:
    """The plan of a pipeline; nothing is uploaded yet."""
    from ncf.config import Experiment
    from ncf.sagemaker.pipelines.execution import check_input, plan_of

    if data:
        check_input(data)
    return plan_of(session, Experiment.load(recipe, overrides or ()), options)
