"""`ncf recommend`, `ncf batch`, `ncf serve`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ncf.cli.answers import print_answer
from ncf.cli.options import (
    BruteForce,
    Candidate,
    Exclude,
    History,
    IncludeSeen,
    Items,
    Json,
    RunPath,
    SimilarTo,
    Strict,
    User,
    exactly_one,
    print_json,
)
from ncf.errors import ConfigError


def recommend(
    run: RunPath,
    user: User = None,
    users_file: Annotated[str | None, typer.Option(help="File with one user id a line.")] = None,
    history: History = None,
    similar_to: SimilarTo = None,
    k: Items = 10,
    candidate: Candidate = None,
    exclude: Exclude = None,
    include_seen: IncludeSeen = False,
    strict: Strict = False,
    exact: BruteForce = False,
    as_json: Json = False,
) -> None:
    """The best items for users or for a new visitor, or items similar to one."""
    from ncf.serving.api import list_document
    from ncf.serving.recommender import Recommender

    users = list(user or [])
    visitor = history if not users else None
    exactly_one(
        {
            "--user": users or None,
            "--users-file": users_file,
            "--history": visitor,
            "--similar-to": similar_to,
        }
    )
    if users_file is not None:
        users = _read_ids(Path(users_file))
    recommender = Recommender.open(run, exact=exact)
    filters: dict[str, Any] = {"candidates": candidate, "exclude": exclude or ()}
    if similar_to is not None:
        answers = [recommender.similar_items(similar_to, k, **filters)]
    elif visitor is not None:
        answers = [recommender.recommend_visitor(visitor, k, exclude_seen=not include_seen, **filters)]
    else:
        answers = recommender.recommend(
            users, k, history=history, exclude_seen=not include_seen, strict=strict, **filters
        )
    key = "item" if similar_to is not None else "user"
    lists = [list_document(recommender, one, key, describe=True) for one in answers]
    print_answer({"recommendations": lists}, as_json)


def batch(
    run: RunPath,
    output: Annotated[str, typer.Option(help="File to write: .parquet, .csv or .jsonl.")],
    k: Annotated[int, typer.Option("--k", "-k", help="How many items a user.")] = 10,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Do not leave out what users have used.")
    ] = False,
    exact: BruteForce = False,
    as_json: Json = False,
) -> None:
    """Recommendations for every user into one file, in bounded memory."""
    from ncf.serving.batch import write_batch
    from ncf.serving.recommender import Recommender

    written = write_batch(Recommender.open(run, exact=exact), Path(output), k, exclude_seen=not include_seen)
    if as_json:
        print_json(
            {"output": output, "users": written.users, "rows": written.rows, "seconds": written.seconds}
        )
        return
    typer.echo(
        f"{written.rows:,} rows for {written.users:,} users in {written.seconds:.2f} s ({written.users_per_second:,.0f} users/s): {output}"
    )


def _read_ids(path: Path) -> list[str]:
    try:
        ids = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The file of users {path} cannot be read ({error}): give a text file, one id a line."
        ) from None
    if not any(ids):
        raise ConfigError(f"The file of users {path} is empty: it needs one id a line.")
    return [user for user in ids if user]


def serve(
    run: RunPath,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8080,
    workers: Annotated[int, typer.Option(help="Processes that serve, one core each.")] = 1,
    exact: BruteForce = False,
    max_body: Annotated[int, typer.Option(help="Bytes that a request may have.")] = 6 * 2**20,
    max_users: Annotated[int, typer.Option(help="Users (or items for similar ones) in a request.")] = 1_000,
    body_timeout: Annotated[
        float, typer.Option(help="Seconds that a client may take to send a body.")
    ] = 10.0,
) -> None:
    """Answer HTTP requests: POST /invocations, GET /ping, /metrics, /openapi.json, and a page to explore at /."""
    from ncf.serving.schemas import Limits
    from ncf.serving.server import ServeSettings, serve

    limits = Limits(body_bytes=max_body, users=max_users)
    serve(ServeSettings(run, host, port, workers, exact, body_timeout, limits=limits))
