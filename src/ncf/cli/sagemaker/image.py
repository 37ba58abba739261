"""`ncf sagemaker push-image`."""

from typing import TYPE_CHECKING, Annotated

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared

if TYPE_CHECKING:
    from ncf.sagemaker.session import Session


@shared.with_session((*shared.HOSTED_READS, "kms_key", "tags"))
def push_image(
    session: "Session",
    image: Annotated[
        str, typer.Option(help="An image on this machine; 'make image' builds it.")
    ] = "ncf:local",
    repository: Annotated[
        str | None, typer.Option(help="Repository in ECR; the project's name by default.", show_default=False)
    ] = None,
    image_tag: Annotated[
        str | None, typer.Option(help="Tag in ECR; the version of ncf by default.", show_default=False)
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="How many images a new repository keeps.")] = 10,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Json = False,
) -> None:
    """Push the image to ECR, where hosted SageMaker finds it; the repository is made where it is not there."""
    from ncf.cli import console
    from ncf.sagemaker.jobs.push import push_image

    log = (lambda _: None) if quiet else console.log
    uri = push_image(session, image, repository, tag=image_tag, keep=keep, log=log)
    if as_json:
        print_json({"image": uri})
        return
    typer.echo(f"Pushed {uri}")
