"""`ncf sagemaker …`: the same commands for hosted SageMaker and, with `--local`, for containers on this machine."""

import typer

from ncf.cli.sagemaker import (
    deploy,
    endpoints,
    image,
    invoke,
    jobs,
    models,
    pipeline_make,
    prepare,
    transform,
    tune,
    upkeep,
)

app = typer.Typer(
    help="Amazon SageMaker, hosted or --local: train, tune, deploy, invoke, transform, pipeline, clean up.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def sagemaker() -> None:
    """Amazon SageMaker, hosted or on this machine's Docker."""


for command in (upkeep.status, upkeep.cleanup, upkeep.policy, upkeep.double):
    app.command()(command)


for job_command in (
    prepare.prepare, image.push_image, jobs.train, jobs.fetch, jobs.jobs, jobs.logs, jobs.stop, tune.tune, transform.transform,
):  # fmt: skip
    app.command()(job_command)

for endpoint_command in (
    deploy.deploy, deploy.rollback, endpoints.endpoints, endpoints.describe, endpoints.delete, endpoints.captured,
    invoke.invoke,
):  # fmt: skip
    app.command()(endpoint_command)

app.add_typer(pipeline_make.app, name="pipeline")
app.add_typer(models.app, name="models")
