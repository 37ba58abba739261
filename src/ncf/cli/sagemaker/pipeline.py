"""`ncf sagemaker pipeline …`: from a table of interactions to a registered model, as one thing that can be repeated."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.cli.sagemaker.options import MaxCost, Yes, pairs_of
from ncf.errors import CloudError, ConfigError

if TYPE_CHECKING:
    from ncf.sagemaker.session import Session

app = typer.Typer(
    help="Prepare, train, evaluate, and register if better: create, start, watch, schedule.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
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


@app.command()
@shared.with_session(shared.READS)
def show(
    session: "Session",
    name: Name = None,
) -> None:
    """Print the definition of the pipeline, as AWS has it ('create --dry-run' shows one before it is made)."""
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
    max_cost: MaxCost = None,
    yes: Yes = False,
) -> None:
    """Start an execution."""
    from ncf.cli.sagemaker.cost import accept_cost
    from ncf.sagemaker.pipelines import cost
    from ncf.sagemaker.pipelines import execution as pipelines

    pipeline, given = pipelines.pipeline_name(session, name), parameters_of(parameter)
    if data:
        pipelines.check_input(data)
    accept_cost(session, cost.of_start(session, pipeline, given), max_cost, yes)
    sent = {"InputData": pipelines.input_data(session, data)} if data else {}
    arn = pipelines.start(session, pipeline, given | sent)
    typer.echo(f"Started {arn}.")
    if follow:
        follow_to_the_end(session, arn)


@app.command()
@shared.with_session(shared.STORES)
def status(
    session: "Session",
    execution: Arn = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for the end.")] = False,
    name: Name = None,
    as_json: Json = False,
) -> None:
    """The steps of an execution: state, duration, and why one failed."""
    from ncf.sagemaker.pipelines import execution as pipelines

    arn = _arn(session, execution, name)
    if follow and not as_json:
        follow_to_the_end(session, arn)
        return
    now = pipelines.follow(session, arn) if follow else pipelines.execution(session, arn)
    if as_json:
        from ncf.sagemaker.pipelines.execution import as_record

        print_json(as_record(now, pipelines.verdict(session, now)))
        return
    _print(session, now)


@app.command("list")
@shared.with_session(shared.READS)
def list_(
    session: "Session",
    name: Name = None,
) -> None:
    """The executions of a pipeline, the newest first."""
    from ncf.sagemaker.pipelines import execution as pipelines

    found = pipelines.executions(session, pipelines.pipeline_name(session, name))
    for one in found:
        moment = f"{one['StartTime']:%Y-%m-%d %H:%M:%S}"
        typer.echo(f"{moment}  {one['PipelineExecutionStatus']:<10} {one['PipelineExecutionArn']}")
    if not found:
        typer.echo("It has not been started yet.")


@app.command()
@shared.with_session(shared.READS)
def stop(
    session: "Session",
    execution: Arn = None,
    name: Name = None,
) -> None:
    """Stop an execution and the job that it runs."""
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
    max_cost: MaxCost = None,
    yes: Yes = False,
) -> None:
    """Go on with an execution that failed or was stopped; steps that succeeded are not repeated."""
    from ncf.cli.sagemaker.cost import accept_cost
    from ncf.sagemaker.pipelines import cost
    from ncf.sagemaker.pipelines import execution as pipelines

    arn = _arn(session, execution, name)
    accept_cost(session, cost.of_retry(session, arn), max_cost, yes)
    follow_to_the_end(session, pipelines.retry(session, arn))


@app.command()
@shared.with_session(shared.READS)
def delete(
    session: "Session",
    name: Name = None,
    yes: Yes = False,
) -> None:
    """Delete the pipeline; the models stay in the registry."""
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
    """Start the pipeline by the clock (EventBridge Scheduler); says what each execution may cost."""
    from ncf.cli.sagemaker.cost import tell_cost
    from ncf.sagemaker.pipelines import cost, schedules
    from ncf.sagemaker.pipelines import execution as pipelines

    pipeline = pipelines.pipeline_name(session, name)
    if remove:
        schedules.unschedule(session, pipeline)
        typer.echo(f"{pipeline} starts by hand only.")
        return
    if expression is None or scheduler_role is None:
        raise ConfigError(
            "Say when and as whom: an expression such as 'rate(7 days)', and --scheduler-role ARN."
        )
    given = parameters_of(parameter)
    tell_cost(session, cost.of_start(session, pipeline, given))
    new = schedules.schedule(session, pipeline, expression, scheduler_role, given, timezone)
    typer.echo(f"{'Scheduled' if new else 'Changed the schedule of'} {pipeline}: {expression}, {timezone}.")


def parameters_of(given: list[str] | None) -> dict[str, str]:
    """Parameters of a start."""
    return pairs_of(given, "--parameter", "Epochs=3")


def _arn(session: Any, given: str | None, name: str | None) -> str:
    """The execution that is meant."""
    from ncf.sagemaker.pipelines import execution as pipelines

    if given and given.startswith("arn:"):
        return given
    found = pipelines.executions(session, pipelines.pipeline_name(session, name))
    arns = [str(one["PipelineExecutionArn"]) for one in found]
    arn = next((one for one in arns if given is None or one.endswith(f"/{given}")), None)
    if arn is None:
        raise CloudError("There is no such execution: 'ncf sagemaker pipeline list' shows them.")
    return arn


def follow_to_the_end(session: Any, arn: str) -> None:
    """Print each change; an execution that failed is an error."""
    from ncf.sagemaker.pipelines import execution as pipelines
    from ncf.sagemaker.pipelines.execution import Changes

    changes = Changes()
    now = pipelines.follow(session, arn, lambda state: _say(changes.lines(state)))
    _conclude(session, now)


def _print(session: Any, now: Any) -> None:
    from ncf.sagemaker.pipelines.execution import lines

    _say(lines(now))
    _conclude(session, now)


def _conclude(session: Any, now: Any) -> None:
    from ncf.sagemaker.pipelines import execution as pipelines
    from ncf.sagemaker.pipelines.execution import reason

    found = pipelines.verdict(session, now)
    if found:
        typer.echo(found["verdict"]["sentence"])
    if now.package:
        typer.echo(f"Registered as {now.package}.")
    if now.status in ("Failed", "Stopped"):
        raise CloudError(f"The execution {now.status.lower()}: {reason(now)}")


def _say(lines: list[str]) -> None:
    for line in lines:
        typer.echo(line)
