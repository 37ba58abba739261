"""`ncf sagemaker prepare`: prepare data on Spark."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.errors import need

if TYPE_CHECKING:
    from ncf.sagemaker.session import Session


@shared.with_session(shared.HOSTED_MAKES)
def prepare(
    session: "Session",
    input: Annotated[str, typer.Option(help="CSV or Parquet in S3: a file, a folder or a pattern.")],
    output: Annotated[str, typer.Option(help="Prepared folder to write.")],
    set: Annotated[
        list[str] | None,
        typer.Option("--set", help="Option of 'ncf prepare', such as min_user=5 or split=time; repeat."),
    ] = None,
    instance_type: shared.InstanceType = "ml.m5.2xlarge",
    instance_count: Annotated[int, typer.Option(help="Number of machines.")] = 2,
    volume_size: shared.VolumeSize = 100,
    max_run: shared.MaxRun = 4 * 3600,
    image: Annotated[
        str | None, typer.Option(help="Container image; AWS's Spark image.", show_default=False)
    ] = None,
    wheels: Annotated[
        str | None,
        typer.Option(help="Folder of wheels, for machines that reach no registry.", show_default=False),
    ] = None,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
    quiet: shared.Quiet = False,
    as_json: Json = False,
) -> None:
    """Prepare a table that is too large for one machine, on Spark; the result is that of 'ncf prepare'.

    Examples:
        ncf sagemaker prepare --input 's3://shelf/events/*.csv' --output data/mine
        ncf sagemaker prepare --input s3://shelf/events --output d --set min_user=5
    """
    if image is None:
        need("sagemaker", "sagemaker")
    from ncf.data import PrepareReport
    from ncf.data.options import read_options
    from ncf.errors import Interrupted
    from ncf.sagemaker.jobs import images, spark_prepare
    from ncf.sagemaker.prices import estimate
    from ncf.tracking import console

    values = shared.pairs_of(set, "--set", "min_user=5")
    read_options({name: text for name, text in values.items() if name != "name"})
    options = spark_prepare.SparkOptions(
        image or images.spark_image(session), instance_type, instance_count, volume_size, max_run
    )
    shared.accept_cost(session, estimate(instance_type, "processing", instance_count, max_run), max_cost, yes)
    log = (lambda _: None) if quiet else console.log
    sent = Path(wheels) if wheels is not None else None
    try:
        dataset = spark_prepare.prepare(session, input, Path(output), values, options, sent, log=log)
    except KeyboardInterrupt:
        raise Interrupted("The processing job was stopped; nothing was written here.") from None
    if as_json:
        print_json({"output": output, "digest": dataset.digest, "counts": dataset.description["counts"]})
        return
    for line in PrepareReport(dataset.description).lines():
        typer.echo(line)
    typer.echo(f"wrote     {output}")
