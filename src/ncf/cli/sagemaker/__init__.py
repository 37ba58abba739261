"""`ncf sagemaker …`: the same commands for hosted SageMaker and, with `--local`, for containers on this machine."""

import typer

app = typer.Typer(
    help="Amazon SageMaker, hosted or --local: train, tune, deploy, invoke, transform, pipeline, clean up.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def sagemaker() -> None:
    """Amazon SageMaker, hosted or on this machine's Docker."""
