"""`ncf sagemaker deploy`, `ncf sagemaker rollback`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.errors import ConfigError

if TYPE_CHECKING:
    from ncf.sagemaker.endpoints.state import EndpointProgress
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
    instance_count: Annotated[int, typer.Option(help="How many instances.")] = 1,
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
            help="With --async: where answers go; below the project by default.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes in a container; one a core by default.", show_default=False)
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(help="Container image; NCF_IMAGE, or the one of push-image.", show_default=False),
    ] = None,
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
            help="With --autoscale: requests a minute for each instance, 1000 by default; with --async: waiting ones, 5.",
            show_default=False,
        ),
    ] = None,
    traffic: Annotated[
        str, typer.Option(help="How an update takes over: all-at-once, canary or linear.")
    ] = "all-at-once",
    step: Annotated[int, typer.Option(help="Percent of the instances in a step of canary or linear.")] = 10,
    pause: Annotated[int, typer.Option(help="Seconds between steps, in which alarms may ring.")] = 60,
    alarm: Annotated[
        list[str] | None, typer.Option(help="CloudWatch alarm that undoes an update; repeat.")
    ] = None,
    no_wait: NoWait = False,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
    as_json: Json = False,
) -> None:
    """Serve a model: a new endpoint, or the next version of one without losing a request; undone if it is not healthy."""
    from dataclasses import asdict
    from typing import cast, get_args

    from ncf.cli.sagemaker.cost import accept_cost
    from ncf.sagemaker.endpoints import deploy as deployment
    from ncf.sagemaker.endpoints.autoscaling import Scaling
    from ncf.sagemaker.endpoints.describe import cost
    from ncf.sagemaker.endpoints.requests import Hosting, Traffic

    if traffic not in get_args(Traffic):
        raise ConfigError(f"--traffic is all-at-once, canary or linear, and not {traffic!r}.")
    if invocations_per_instance is not None and autoscale is None:
        raise ConfigError("--invocations-per-instance belongs to --autoscale MIN:MAX.")
    hosting = Hosting(
        instance_type=instance_type or ("local" if session.local else Hosting.instance_type), instance_count=instance_count, variant=variant, serverless_mb=serverless,
        max_concurrency=max_concurrency, asynchronous=asynchronous, output_prefix=output_prefix, workers=workers,
        aws_image=aws_image, capture=capture, traffic=cast(Traffic, traffic), step=step, pause=pause,
        alarms=tuple(alarm or ()),
    )  # fmt: skip
    target = invocations_per_instance or (_BACKLOG if asynchronous else _INVOCATIONS)
    scaling = Scaling.parse(autoscale, target) if autoscale is not None else None
    deployment.check(session, hosting, scaling, not no_wait)
    accept_cost(session, cost(hosting, None if scaling is None else scaling.most), max_cost, yes)
    made = deployment.deploy(
        session, model, hosting, endpoint=name, image=image, scaling=scaling, wait=not no_wait, watch=watch()
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
    session: "Session",
    name: Endpoint = None,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> None:
    """Go back to what the endpoint served before its last update, without losing a request."""
    from ncf.sagemaker.endpoints import deploy as deployment

    endpoint = name or session.project
    config = deployment.rollback(session, endpoint, wait=not no_wait, watch=watch())
    if as_json:
        print_json({"endpoint": endpoint, "config": config})
        return
    typer.echo(f"{endpoint} {'goes back to' if no_wait else 'serves again by'} configuration {config}.")


def watch() -> "EndpointProgress":
    """Tell what the endpoint is doing on standard error."""
    from ncf.cli.console import log
    from ncf.sagemaker.endpoints.state import EndpointProgress

    return EndpointProgress(log)
