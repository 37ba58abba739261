"""`ncf recommend`, `ncf batch`, `ncf serve`, `ncf artifact pack`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ncf.cli.answers import print_answer
from ncf.cli.help import App
from ncf.cli.options import (
    BruteForce,
    Candidate,
    Exclude,
    ExcludeItems,
    History,
    IncludeSeen,
    Items,
    Json,
    RunPath,
    SimilarTo,
    Strict,
    User,
    exactly_one,
    items_to_exclude,
    print_json,
)

artifact_app = App(help="Pack a run's artifact as a file.", callback=lambda: None)


def recommend(
    run: RunPath,
    user: User = None,
    users_file: Annotated[
        str | None, typer.Option(help="One user id a line, a table with user_id, or JSON lines.")
    ] = None,
    history: History = None,
    similar_to: SimilarTo = None,
    trending: Annotated[
        bool, typer.Option("--trending", help="What was used most lately (train.trending).")
    ] = False,
    k: Items = 10,
    candidate: Candidate = None,
    exclude: Exclude = None,
    include_seen: IncludeSeen = False,
    strict: Strict = False,
    exact: BruteForce = False,
    as_json: Json = False,
) -> None:
    """Recommend items to users or to a new visitor, or find similar items.

    Examples:
        ncf recommend runs/mine --user user7 -k 3
        ncf recommend runs/mine --history jazz1 --history jazz2 --json
    """
    from ncf.serving.documents import Subject, list_document
    from ncf.serving.recommender import Recommender

    users: list[int | str] = list(user or [])
    visitor = history if not users else None
    exactly_one(
        {
            "--user": users or None,
            "--users-file": users_file,
            "--history": visitor,
            "--similar-to": similar_to,
            "--trending": trending or None,
        }
    )
    recommender = Recommender.open(run, exact=exact)
    if users_file is not None:
        from ncf.data.id_lists import read_ids

        users = read_ids(users_file, "user", recommender.artifact.column_names.get("user"))
    filters: dict[str, Any] = {"candidates": candidate, "exclude": exclude or ()}
    if trending:
        answers = [recommender.trending(k, **filters)]
    elif similar_to is not None:
        answers = [recommender.similar_items(similar_to, k, **filters)]
    elif visitor is not None:
        answers = [recommender.recommend_visitor(visitor, k, exclude_seen=not include_seen, **filters)]
    else:
        answers = recommender.recommend(
            users, k, history=history, exclude_seen=not include_seen, strict=strict, **filters
        )
    subject: Subject = "item" if similar_to is not None else "user"
    lists = [list_document(recommender, answer, subject, describe=True) for answer in answers]
    print_answer({"recommendations": lists}, as_json)


def batch(
    run: RunPath,
    output: Annotated[str, typer.Option(help="File to write: .parquet, .csv or .jsonl.")],
    k: Annotated[int, typer.Option("--k", "-k", help="Number of items per user.")] = 10,
    exclude: ExcludeItems = None,
    include_seen: IncludeSeen = False,
    exact: BruteForce = False,
    as_json: Json = False,
) -> None:
    """Write recommendations for all users into one file, with bounded memory.

    Examples:
        ncf batch runs/mine --output recommendations.parquet
        ncf batch runs/mine --output recommendations.csv --exclude withdrawn.txt -k 20
    """
    from ncf.serving.batch import check_output, write_batch
    from ncf.serving.recommender import Recommender

    check_output(Path(output))
    recommender = Recommender.open(run, exact=exact)
    items = items_to_exclude(exclude, recommender.artifact.column_names.get("item"))
    written = write_batch(recommender, Path(output), k, exclude_seen=not include_seen, exclude=items)
    if as_json:
        figures = {"users": written.users, "rows": written.rows, "seconds": written.seconds}
        figures |= {"unknown_excluded": written.unknown} if exclude else {}
        print_json({"output": output, **figures})
        return
    typer.echo(
        f"{written.rows:,} rows for {written.users:,} users in {written.seconds:.2f} s "
        f"({written.users_per_second:,.0f} users/s): {output}"
    )
    if written.unknown:
        typer.echo(f"Warning: {written.unknown:,} items of --exclude are not in the catalogue.", err=True)


def serve(
    run: RunPath,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    workers: Annotated[int, typer.Option(help="Number of serving processes, one core each.")] = 1,
    exact: BruteForce = False,
    max_body: Annotated[int, typer.Option(help="Maximum size of a request in bytes.")] = 6 * 2**20,
    max_users: Annotated[int, typer.Option(help="Maximum users (or items) in a request.")] = 1_000,
    body_timeout: Annotated[
        float, typer.Option(help="Seconds that a client may take to send a request body.")
    ] = 10.0,
    no_explorer: Annotated[
        bool, typer.Option("--no-explorer", help="Without the page at /, which shows users' histories.")
    ] = False,
) -> None:
    """Serve over HTTP: POST /invocations, GET /ping, /metrics, /openapi.json, and an explorer page at /.

    Examples:
        ncf serve runs/mine
        ncf serve runs/mine --host 0.0.0.0 --port 80 --workers 4 --no-explorer
    """
    from ncf.serving.schemas import Limits
    from ncf.serving.server import ServeSettings, serve

    limits = Limits(body_bytes=max_body, users=max_users)
    settings = ServeSettings(
        run, host, port, workers, exact, body_timeout, limits=limits, explorer=not no_explorer
    )
    serve(settings)


@artifact_app.command()
def pack(
    run: RunPath,
    output: Annotated[str, typer.Option(help="File to write; an existing one is replaced.")] = "model.tar.gz",
    code: Annotated[
        bool,
        typer.Option("--code", help="Add code/, with which AWS's PyTorch containers can serve the model."),
    ] = False,
    wheels: Annotated[
        str | None,
        typer.Option(help="Folder of wheels to add to code/, for a container without network access."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Pack a run's artifact into a model.tar.gz for SageMaker; the same artifact gives identical bytes.

    Examples:
        ncf artifact pack runs/mine
        ncf artifact pack runs/mine --output mine.tar.gz --code
    """
    from ncf.data.files import sha256_of
    from ncf.sagemaker.jobs.package import pack_model

    target = pack_model(run, Path(output), code=code, wheels=None if wheels is None else Path(wheels))
    size, digest = target.stat().st_size, sha256_of(target)
    if as_json:
        print_json({"output": output, "bytes": size, "sha256": digest})
        return
    typer.echo(f"{size / 2**20:,.1f} MiB, sha256 {digest[:12]}…: {output}")
