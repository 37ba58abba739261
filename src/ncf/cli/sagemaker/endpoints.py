"""`ncf sagemaker deploy`, `rollback`, `endpoints`, `describe`, `delete`, `captured`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.errors import ConfigError, need

if TYPE_CHECKING:
    from ncf.sagemaker.endpoints.describe import EndpointProgress, Summary
    from ncf.sagemaker.session import Session

Endpoint = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="The endpoint; the project by default.", show_default=False),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Start, and do not wait until it is in service.")]
_INVOCATIONS, _BACKLOG = 1000.0, 5.0


@shared.with_session(shared.MAKES)
def deploy(
    session: "Session",
    model: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run, an artifact folder, or a model.tar.gz, here or in S3."),
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the endpoint; the project by default.", show_default=False)
    ] = None,
    instance_type: Annotated[
        str | None, typer.Option(help="SageMaker instance type; ml.c7i.large by default.", show_default=False)
    ] = None,
    instance_count: Annotated[int, typer.Option(help="Number of instances.")] = 1,
    serverless: Annotated[
        int | None,
        typer.Option(
            metavar="MB", help="No instances: memory while it computes, 1024 to 6144.", show_default=False
        ),
    ] = None,
    max_concurrency: Annotated[int, typer.Option(help="With --serverless: requests at once.")] = 10,
    asynchronous: Annotated[bool, typer.Option("--async", help="Requests and answers through S3.")] = False,
    output_prefix: Annotated[
        str | None,
        typer.Option(
            metavar="S3",
            help="With --async: where answers go; by default below the project.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes in a container; one a core by default.", show_default=False)
    ] = None,
    image: shared.Image = None,
    aws_image: Annotated[
        bool, typer.Option("--aws-image", help="AWS's PyTorch inference image with this package's source.")
    ] = False,
    variant: Annotated[str, typer.Option(help="Name of the production variant.")] = "AllTraffic",
    capture: Annotated[
        int | None,
        typer.Option(metavar="PERCENT", help="Record requests and answers to S3.", show_default=False),
    ] = None,
    autoscale: Annotated[
        str | None,
        typer.Option(metavar="MIN:MAX", help="As many instances as are needed.", show_default=False),
    ] = None,
    invocations_per_instance: Annotated[
        float | None,
        typer.Option(
            help="With --autoscale: requests a minute for each instance (1000), or waiting (5, --async).",
            show_default=False,
        ),
    ] = None,
    traffic: Annotated[
        Literal["all-at-once", "canary", "linear"], typer.Option(help="How an update takes over.")
    ] = "all-at-once",
    step: Annotated[int, typer.Option(help="Percent of the instances in a step of canary or linear.")] = 10,
    pause: Annotated[int, typer.Option(help="Seconds between steps, in which alarms may fire.")] = 60,
    alarm: Annotated[
        list[str] | None, typer.Option(help="CloudWatch alarm that undoes an update; repeat.")
    ] = None,
    no_wait: NoWait = False,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
    as_json: Json = False,
) -> None:
    """Serve a model: a new endpoint, or an update that loses no request and is undone if unhealthy.

    Examples:
        ncf sagemaker deploy runs/mine --local --name shop
        ncf sagemaker deploy runs/mine --autoscale 1:4 --traffic canary
    """
    if aws_image and image is None:
        need("sagemaker", "sagemaker")
    from dataclasses import asdict

    from ncf.sagemaker.endpoints import deploy as deployment
    from ncf.sagemaker.endpoints.autoscaling import Scaling
    from ncf.sagemaker.endpoints.describe import cost
    from ncf.sagemaker.endpoints.requests import Hosting

    if invocations_per_instance is not None and autoscale is None:
        raise ConfigError("--invocations-per-instance belongs to --autoscale MIN:MAX.")
    hosting = Hosting(
        instance_type=instance_type or ("local" if session.local else Hosting.instance_type),
        instance_count=instance_count, variant=variant, serverless_mb=serverless,
        max_concurrency=max_concurrency,
        asynchronous=asynchronous, output_prefix=output_prefix, workers=workers, aws_image=aws_image,
        capture=capture,
        traffic=traffic, step=step, pause=pause, alarms=tuple(alarm or ()),
    )  # fmt: skip
    target = invocations_per_instance or (_BACKLOG if asynchronous else _INVOCATIONS)
    scaling = Scaling.parse(autoscale, target) if autoscale is not None else None
    deployment.check(session, hosting, scaling, not no_wait)
    shared.accept_cost(session, cost(hosting, None if scaling is None else scaling.most), max_cost, yes)
    made = deployment.deploy(
        session,
        model,
        hosting,
        endpoint=name,
        image=image,
        scaling=scaling,
        wait=not no_wait,
        progress=_progress(),
    )
    if as_json:
        print_json(asdict(made))
        return
    verb = "is new" if made.created else "has a new version"
    typer.echo(f"{made.endpoint} {verb}: {made.status}, configuration {made.config}.")
    flags = " --local" if session.local else ""
    typer.echo(f"Ask it: ncf sagemaker invoke {made.endpoint} --user ID{flags}", err=True)


@shared.with_session(shared.READS)
def rollback(
    session: "Session", name: Endpoint = None, no_wait: NoWait = False, as_json: Json = False
) -> None:
    """Return to what the endpoint served before its last update, without losing a request.

    Examples:
        ncf sagemaker rollback shop
        ncf sagemaker rollback shop --local --no-wait
    """
    from ncf.sagemaker.endpoints import deploy as deployment

    endpoint = name or session.project
    config = deployment.rollback(session, endpoint, wait=not no_wait, progress=_progress())
    if as_json:
        print_json({"endpoint": endpoint, "config": config})
        return
    typer.echo(f"{endpoint} {'returns to' if no_wait else 'serves again with'} configuration {config}.")


@shared.with_session(shared.READS)
def endpoints(session: "Session", as_json: Json = False) -> None:
    """Show the project's endpoints: status, instances, since when, and cost an hour.

    Examples:
        ncf sagemaker endpoints
        ncf sagemaker endpoints --local --json
    """
    from rich.table import Table

    from ncf.sagemaker.endpoints.describe import summaries
    from ncf.tracking.console import OUT

    every = summaries(session)
    if as_json:
        print_json({"project": session.project, "endpoints": [summary.document() for summary in every]})
        return
    if not every:
        typer.echo(f"Project {session.project} has no endpoint.")
        return
    table = Table("endpoint", "status", "instances", "since (UTC)", "$ an hour")
    for summary in every:
        table.add_row(summary.name, summary.status, summary.instance or "", summary.since, _dollars(summary))
    OUT.print(table)


@shared.with_session(shared.READS)
def describe(session: "Session", name: Endpoint = None, as_json: Json = False) -> None:
    """Show everything about an endpoint, with the end of its log where it is not in service.

    Examples:
        ncf sagemaker describe shop
        ncf sagemaker describe shop --local --json
    """
    from ncf.sagemaker.endpoints.describe import existing, summary
    from ncf.sagemaker.endpoints.outcome import tail

    shown = summary(session, existing(session, name or session.project))
    log = [] if shown.status == "InService" else tail(session, shown.name)
    if as_json:
        print_json(shown.document() | {"log": log})
        return
    rows = {
        "endpoint": shown.name, "status": shown.status, "why": shown.reason, "instances": shown.instance,
        "$ an hour": _dollars(shown), "since (UTC)": shown.since, "configuration": shown.config,
        "before": shown.before, "model": shown.model, "model data": shown.model_uri, "image": shown.image,
        "asynchronous": "yes" if shown.asynchronous else None, "capture": shown.capture,
        "autoscaling": shown.scaling,
    }  # fmt: skip
    for label, value in rows.items():
        if value:
            typer.echo(f"{label:14} {value}")
    for line in log:
        typer.echo(f"  {line}")


@shared.with_session(shared.READS)
def delete(session: "Session", name: Endpoint = None, yes: shared.Yes = False, as_json: Json = False) -> None:
    """Delete an endpoint with its configurations, models, autoscaling and log group; may be repeated.

    Examples:
        ncf sagemaker delete shop
        ncf sagemaker delete shop --local --yes
    """
    from ncf.sagemaker.endpoints.outcome import delete

    endpoint = name or session.project
    if not yes and not typer.confirm(f"Delete {endpoint} with its configurations, models and log?", err=True):
        raise ConfigError("Nothing was deleted.")
    gone = delete(session, endpoint, progress=_progress())
    if as_json:
        print_json({"endpoint": endpoint, "deleted": gone})
        return
    for deleted in gone:
        typer.echo(f"Deleted: {deleted}")
    if not gone:
        typer.echo(f"There is no endpoint {endpoint}, and nothing that belongs to it.")


@shared.with_session(shared.HOSTED_STORES)
def captured(
    session: "Session",
    name: Endpoint = None,
    output: Annotated[
        str | None,
        typer.Option(help="File to write, a pair a line; standard output by default.", show_default=False),
    ] = None,
) -> None:
    """Show the requests and answers of an endpoint with --capture, a pair of JSON a line.

    Examples:
        ncf sagemaker captured shop
        ncf sagemaker captured shop --output pairs.jsonl
    """
    from ncf.data.files import atomic_file
    from ncf.sagemaker.endpoints.data_capture import captured

    pairs = captured(session, name or session.project)
    if output is None:
        for pair in pairs:
            print_json(pair.document())
        return
    count = 0
    with atomic_file(Path(output)) as temporary, temporary.open("w", encoding="utf-8") as file:
        for count, pair in enumerate(pairs, 1):  # noqa: B007
            file.write(json.dumps(pair.document(), ensure_ascii=False) + "\n")
    typer.echo(f"{count:,} pairs: {output}")


def _progress() -> "EndpointProgress":
    """Show on standard error what the endpoint is doing."""
    from ncf.sagemaker.endpoints.describe import EndpointProgress
    from ncf.tracking.console import log

    return EndpointProgress(log)


def _dollars(summary: "Summary") -> str:
    if summary.hourly is None:
        return "?"
    serverless = (summary.instance or "").startswith("serverless")
    return "0 at rest" if serverless else f"{summary.hourly:.3f}"
