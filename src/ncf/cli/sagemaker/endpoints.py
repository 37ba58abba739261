"""`ncf sagemaker endpoints`, `describe`, `delete`, `captured`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.cli.sagemaker.deploy import Endpoint, watch
from ncf.errors import ConfigError

if TYPE_CHECKING:
    from ncf.sagemaker.endpoints.describe import Summary
    from ncf.sagemaker.session import Session


@shared.with_session(shared.READS)
def endpoints(
    session: "Session",
    as_json: Json = False,
) -> None:
    """This project's endpoints: status, instances, since when, and what they cost an hour."""
    from rich.table import Table

    from ncf.cli.console import OUT
    from ncf.sagemaker.endpoints.describe import summaries

    found = summaries(session)
    if as_json:
        print_json({"project": session.project, "endpoints": [one.document() for one in found]})
        return
    if not found:
        typer.echo(f"Project {session.project} has no endpoint.")
        return
    table = Table("endpoint", "status", "instances", "since (UTC)", "$ an hour")
    for one in found:
        table.add_row(one.name, one.status, one.instance or "", one.since, _dollars(one))
    OUT.print(table)


@shared.with_session(shared.READS)
def describe(
    session: "Session",
    name: Endpoint = None,
    as_json: Json = False,
) -> None:
    """All there is to know of an endpoint, with the end of its log where it is not in service."""
    from ncf.sagemaker.endpoints.describe import summary
    from ncf.sagemaker.endpoints.diagnosis import tail
    from ncf.sagemaker.endpoints.state import existing

    one = summary(session, existing(session, name or session.project))
    log = [] if one.status == "InService" else tail(session, one.name)
    if as_json:
        print_json(one.document() | {"log": log})
        return
    rows = {
        "endpoint": one.name, "status": one.status, "why": one.reason, "instances": one.instance,
        "$ an hour": _dollars(one), "since (UTC)": one.since, "configuration": one.config,
        "before": one.before, "model": one.model, "model data": one.model_uri, "image": one.image,
        "asynchronous": "yes" if one.asynchronous else None, "capture": one.capture, "autoscaling": one.scaling,
    }  # fmt: skip
    for label, value in rows.items():
        if value:
            typer.echo(f"{label:14} {value}")
    for line in log:
        typer.echo(f"  {line}")


@shared.with_session(shared.READS)
def delete(
    session: "Session",
    name: Endpoint = None,
    yes: shared.Yes = False,
    as_json: Json = False,
) -> None:
    """Delete an endpoint with its configurations, models, autoscaling and log group; may be said twice."""
    from ncf.sagemaker.endpoints.removal import delete

    endpoint = name or session.project
    if not yes and not typer.confirm(f"Delete {endpoint} with its configurations, models and log?", err=True):
        raise ConfigError("Nothing was deleted.")
    gone = delete(session, endpoint, watch=watch())
    if as_json:
        print_json({"endpoint": endpoint, "deleted": gone})
        return
    for one in gone:
        typer.echo(f"Deleted: {one}")
    if not gone:
        typer.echo(f"There is no endpoint {endpoint}, and nothing of it.")


@shared.with_session(shared.HOSTED_STORES)
def captured(
    session: "Session",
    name: Endpoint = None,
    output: Annotated[
        str | None,
        typer.Option(help="File to write, a pair a line; standard output by default.", show_default=False),
    ] = None,
) -> None:
    """What an endpoint with --capture was asked and what it answered, a pair of JSON a line."""
    from ncf.data.files import atomic_file
    from ncf.sagemaker.endpoints.data_capture import captured

    pairs = captured(session, name or session.project)
    if output is None:
        for pair in pairs:
            print_json(pair.document())
        return
    count = 0
    with atomic_file(Path(output)) as temporary, temporary.open("w", encoding="utf-8") as file:
        for count, pair in enumerate(pairs, 1):  # noqa: B007
            file.write(json.dumps(pair.document(), ensure_ascii=False) + "\n")
    typer.echo(f"{count:,} pairs: {output}")


def _dollars(one: "Summary") -> str:
    if one.hourly is None:
        return "?"
    serverless = (one.instance or "").startswith("serverless")
    return "0 at rest" if serverless else f"{one.hourly:.3f}"
