"""`ncf artifact pack`."""

from pathlib import Path
from typing import Annotated

import typer

from ncf.cli.options import Json, RunPath, print_json

app = typer.Typer(help="Artifacts as files: pack.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def artifact() -> None:
    """Artifacts as files."""


@app.command()
def pack(
    run: RunPath,
    output: Annotated[str, typer.Option(help="File to write; replaced at the end if it is there.")] = (
        "model.tar.gz"
    ),
    code: Annotated[
        bool, typer.Option("--code", help="Add code/, with which AWS's PyTorch containers serve the model.")
    ] = False,
    wheels: Annotated[
        str | None,
        typer.Option(help="Folder of wheels to add to code/, for a container without a network."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack the artifact of a run into model.tar.gz as SageMaker has it, the same to the byte every time."""
    from ncf.data.files import sha256_of
    from ncf.sagemaker.jobs.package import pack_model

    target = pack_model(run, Path(output), code=code, wheels=None if wheels is None else Path(wheels))
    size, digest = target.stat().st_size, sha256_of(target)
    if as_json:
        print_json({"output": output, "bytes": size, "sha256": digest})
        return
    typer.echo(f"{size / 2**20:,.1f} MiB, sha256 {digest[:12]}…: {output}")
