"""`ncf report`: what a run is good at, as a page and a model card."""

from typing import Annotated

import typer

from ncf.cli.options import Data, Json, RunPath, print_json


def report(
    run: RunPath,
    output: Annotated[
        str | None,
        typer.Option(help="The page's file; report.html in the run by default.", show_default=False),
    ] = None,
    data: Data = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that 'ncf report' has not made.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a page about a run (figures, curves, groups, calibration, examples) and its model card."""
    from ncf.analysis.report.write import write_report
    from ncf.cli import console

    if not as_json and console.ERR.is_terminal:
        console.log("Judging the test rows in their lists and in the whole catalogue …")
    made = write_report(run, output, data, overwrite=overwrite)
    if as_json:
        print_json({"run": run, **made.to_json()})
        return
    if made.missing:
        console.log(made.missing)
    typer.echo(f"Page: {made.page} (opens without a network); model card: {made.card}.")
