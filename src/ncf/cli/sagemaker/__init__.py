"""`ncf sagemaker …`: the same commands for hosted SageMaker and, with `--local`, for this machine."""

import typer

from ncf.cli.sagemaker import endpoints, invoke, jobs, models, pipeline, prepare, transform, tune, upkeep

app = typer.Typer(
    help="Amazon SageMaker, hosted or --local: train, tune, deploy, invoke, transform, pipeline, clean up.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def sagemaker() -> None:
    """Amazon SageMaker, hosted or on this machine's Docker."""


for command in (
    upkeep.status, upkeep.cleanup, upkeep.policy, upkeep.double,
    prepare.prepare, jobs.push_image, jobs.train, jobs.fetch, jobs.jobs, jobs.logs, jobs.stop, tune.tune,
    transform.transform,
    endpoints.deploy, endpoints.rollback, endpoints.endpoints, endpoints.describe, endpoints.delete,
    endpoints.captured,
    invoke.invoke,
):  # fmt: skip
    app.command()(command)

app.add_typer(pipeline.app, name="pipeline")
app.add_typer(models.app, name="models")
