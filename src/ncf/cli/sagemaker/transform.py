"""`ncf sagemaker transform`: recommendations for many users by batch transform."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncf.cli.options import ExcludeItems, Json, items_to_exclude, print_json
from ncf.cli.sagemaker import options as shared
from ncf.errors import need

if TYPE_CHECKING:
    from ncf.sagemaker.session import Session


@shared.with_session(shared.MAKES)
def transform(
    session: "Session",
    run: Annotated[
        str, typer.Argument(metavar="RUN_OR_MODEL", help="A run or artifact here, or a model of SageMaker's.")
    ],
    output: Annotated[str, typer.Option(help="File to write: .parquet, .csv or .jsonl.")],
    users: Annotated[
        str | None,
        typer.Option(
            help="One id a line, CSV with user_id, or JSON lines; all users by default.", show_default=False
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="How many items a user.")] = 10,
    exclude: ExcludeItems = None,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Include items that users have already used.")
    ] = False,
    instance_type: shared.InstanceType = "ml.c7i.xlarge",
    instance_count: shared.InstanceCount = 1,
    max_run: shared.MaxRun = 3600,
    image: shared.Image = None,
    script_mode: shared.ScriptMode = False,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
    quiet: shared.Quiet = False,
    as_json: Json = False,
) -> None:
    """Recommend to many users in containers of this job alone; the rows are those of 'ncf batch'.

    Examples:
        ncf sagemaker transform runs/mine --output all.parquet
        ncf sagemaker transform runs/mine --output some.csv --users users.txt --local
    """
    if script_mode and image is None:
        need("sagemaker", "sagemaker")
    from ncf.data.id_lists import read_ids
    from ncf.errors import Interrupted
    from ncf.sagemaker.jobs import images
    from ncf.sagemaker.jobs import transform as batch
    from ncf.sagemaker.prices import estimate
    from ncf.serving.artifact import open_artifact
    from ncf.serving.batch import check_output
    from ncf.tracking import console

    check_output(Path(output))
    names = open_artifact(run).column_names if Path(run).exists() else {}
    ids = read_ids(users, "user", names.get("user")) if users is not None else None
    excluded = items_to_exclude(exclude, names.get("item"))
    shared.accept_cost(session, estimate(instance_type, "transform", instance_count, max_run), max_cost, yes)
    if script_mode:
        uri = image or images.pytorch_image(session, instance_type, "inference")
    else:
        uri = images.own_image(session, image)
    options = batch.TransformOptions(
        uri, instance_type, instance_count, k, not include_seen, tuple(excluded), script_mode, max_run
    )
    log = (lambda _: None) if quiet else console.log
    try:
        done = batch.transform(session, run, Path(output), ids, options, log=log)
    except KeyboardInterrupt:
        raise Interrupted(
            "The transform job was stopped and its model deleted; nothing was written."
        ) from None
    written = done.written
    if as_json:
        counts = {"users": written.users, "rows": written.rows, "fallbacks": done.fallbacks}
        print_json({"job": done.job, "output": output, **counts, "seconds": written.seconds})
        return
    unknown = f"; {done.fallbacks:,} unknown users got popular items" if done.fallbacks else ""
    typer.echo(
        f"{written.rows:,} rows for {written.users:,} users in {written.seconds:.1f} s: {output}{unknown}"
    )
