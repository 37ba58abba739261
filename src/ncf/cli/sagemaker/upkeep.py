"""`ncf sagemaker status`, `ncf sagemaker cleanup`, `ncf sagemaker policy`."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.errors import ConfigError, need

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ncf.sagemaker.account.inventory import Inventory, Resource
    from ncf.sagemaker.session import Session


@shared.with_session(shared.STORES)
def status(session: "Session", as_json: Json = False) -> None:
    """Show running resources and their cost.

    Examples:
        ncf sagemaker status
        ncf sagemaker status --project shop --json
    """
    from ncf.sagemaker.account.project_resources import everything

    inventory = everything(session)
    if as_json:
        print_json({"project": session.project, **inventory.status()})
        return
    _print_running(session.project, inventory)
    for item in inventory.stored:
        typer.echo(f"Stored: {item.kind} {item.name}: {item.detail}, ${item.monthly:.2f} a month.")
    for sentence in inventory.unreadable:
        typer.echo(f"Not seen: {sentence}", err=True)


@shared.with_session(shared.STORES)
def cleanup(
    session: "Session",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list.")] = False,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="Keep a kind, such as objects or endpoint, and what it needs; repeat.", show_default=False
        ),
    ] = None,
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="Only what is older.", show_default=False)
    ] = None,
    yes: shared.Yes = False,
    as_json: Json = False,
) -> None:
    """Delete everything with this project's tag, and nothing else; running jobs are stopped first.

    Examples:
        ncf sagemaker cleanup --dry-run
        ncf sagemaker cleanup --keep objects --older-than 30
    """
    from ncf.sagemaker.account import cleanup as work
    from ncf.sagemaker.account.project_resources import everything

    inventory = everything(session).chosen(_kinds(keep), older_than)
    items, records = work.deletable(session, inventory)
    if as_json and not dry_run and not yes:
        raise ConfigError("--json cannot ask: add --yes, or --dry-run to see what there is.")
    if not as_json:
        _print_items(session.project, items, records, inventory)
    if dry_run or not items:
        if as_json:
            print_json(_answer(session.project, [], [], items, records, inventory))
        raise typer.Exit(1 if inventory.unreadable else 0)
    if not yes:
        _confirm(session.project, items)
    result = work.delete(session, items, lambda line: typer.echo(line, err=True))
    if as_json:
        print_json(_answer(session.project, result.deleted, result.failed, result.left, records, inventory))
    else:
        _print_result(result)
    raise typer.Exit(130 if result.left else 1 if result.failed or inventory.unreadable else 0)


def policy(
    role: Annotated[
        Literal["user", "execution", "trust"],
        typer.Option(help="For who runs ncf, for containers, or the trust policy of their role."),
    ] = "user",
    project: shared.Project = None,
    account: Annotated[str, typer.Option(help="The account's number.")] = "ACCOUNT",
    region: Annotated[str, typer.Option(help="The region.")] = "REGION",
    bucket: Annotated[str, typer.Option(help="The bucket.")] = "BUCKET",
    execution_role: Annotated[str, typer.Option(help="Name of the execution role.")] = "ROLE",
    kms: Annotated[bool, typer.Option("--kms", help="With what a KMS key needs.")] = False,
    vpc: Annotated[bool, typer.Option("--vpc", help="With what a VPC needs.")] = False,
) -> None:
    """Print the smallest IAM policy as JSON: for who runs ncf, or for the execution role.

    Examples:
        ncf sagemaker policy --project shop --region eu-west-1 --bucket shelf
        ncf sagemaker policy --role trust
    """
    import json

    from ncf.sagemaker.account.iam import ArnContext, document

    names = ArnContext(project or "ncf", account, region, bucket, execution_role)
    typer.echo(json.dumps(document(role, names, kms=kms, vpc=vpc), indent=2))


def _kinds(keep: list[str] | None) -> list[str]:
    from ncf.sagemaker.account.inventory import words

    unknown = [word for word in keep or () if word not in words()]
    if unknown:
        raise ConfigError(f"--keep does not know {unknown[0]!r}; it takes {', '.join(words())}.")
    return keep or []


def _confirm(project: str, items: "Sequence[Resource]") -> None:
    running = sum(item.running for item in items)
    more = f", of which {running} are running and will be stopped" if running else ""
    typer.echo(f"Delete {len(items)} resources{more}? Type the project's name ({project}) or y.", err=True)
    try:
        answer = input().strip()
    except EOFError:
        answer = ""
    if answer not in (project, "y", "yes"):
        raise ConfigError("Nothing was deleted. (Without a person to ask, give --yes.)")


def _answer(
    project: str,
    deleted: "Sequence[Resource]",
    failed: "Sequence[tuple[Resource, str]]",
    left: "Sequence[Resource]",
    records: "Sequence[Resource]",
    inventory: "Inventory",
) -> dict[str, Any]:
    return {
        "project": project,
        "deleted": [item.to_json() for item in deleted],
        "not_deleted": [item.to_json() | {"reason": reason} for item, reason in failed],
        "left": [item.to_json() for item in left],
        "records": [item.to_json() for item in records],
        "not_seen": inventory.unreadable,
        "kept": inventory.kept,
    }


def _print_items(
    project: str, items: "Sequence[Resource]", records: "Sequence[Resource]", inventory: "Inventory"
) -> None:
    if items:
        _print_table(f"Resources with the tag ncf:project={project}", items)
    else:
        typer.echo(f"There is nothing of project {project} to delete.")
    if records:
        names = ", ".join(record.name for record in records)
        typer.echo(f"AWS keeps finished transform jobs as records, which cost nothing: {names}.")
    for sentence in inventory.kept:
        typer.echo(f"Kept: {sentence}", err=True)
    for sentence in inventory.unreadable:
        typer.echo(f"Not seen: {sentence}", err=True)


def _print_result(result: Any) -> None:
    parts = [f"Deleted {len(result.deleted)}"]
    parts += [f"could not delete {len(result.failed)}"] if result.failed else []
    parts += [f"did not reach {len(result.left)}"] if result.left else []
    typer.echo(f"{', '.join(parts)}.")
    for item, reason in result.failed:
        typer.echo(f"  {item.kind} {item.name}: {reason}")


def _print_running(project: str, inventory: "Inventory") -> None:
    if not inventory.running:
        typer.echo(f"Nothing of project {project} is running.")
        return
    from ncf.sagemaker.prices import prices

    _print_table(f"Running for project {project}", inventory.running)
    typer.echo(f"Total: ${inventory.hourly:.3f} an hour (list prices of {prices().region}, {prices().date}).")
    if inventory.unpriced:
        typer.echo(f"Without a known price, and not in the total: {', '.join(inventory.unpriced)}.")


def _print_table(title: str, items: "Sequence[Resource]") -> None:
    """Print a table on a terminal; in a pipe aligned columns, a line for each resource, with full names."""
    from ncf.tracking.console import OUT

    headings = ("kind", "name", "state", "what", "age", "$ an hour")
    rows = [_row(item) for item in items]
    if not OUT.is_terminal:
        widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(len(headings))]
        for row in (headings, *rows):
            typer.echo("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, collapse_padding=True)
    for heading in headings[:-1]:
        ratio = 2 if heading == "name" else None
        table.add_column(heading, overflow="fold", no_wrap=heading in ("kind", "age"), ratio=ratio)
    table.add_column(headings[-1], justify="right")
    for row in rows:
        table.add_row(*row)
    OUT.print(table)


def _row(item: "Resource") -> tuple[str, ...]:
    cost = "not known" if item.hourly is None else f"{item.hourly:.3f}" if item.hourly else ""
    return item.kind, item.name, item.status, item.detail, item.age(), cost


def double(
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 5005,
    image: Annotated[
        str, typer.Option(help="Image on this machine that stands for every ncf image in ECR.")
    ] = "ncf:local",
) -> None:
    """Run a double of AWS on this machine, for boto3, the SDK and these commands, until ctrl-C.

    Jobs and endpoints run in Docker; moto answers for S3, ECR, IAM and the rest. Nothing is kept.

    Examples:
        ncf sagemaker double
        ncf sagemaker double --port 5010 --image ncf:local
    """
    need("dev", "moto")
    import threading

    from ncf.sagemaker.local.docker import DockerRunner, check_docker
    from ncf.sagemaker.local.double import ROLE, serve

    check_docker()
    with serve(DockerRunner(default=image, strict=False), port=port) as running:
        role = running.make_role(ROLE)
        typer.echo(f"export AWS_ENDPOINT_URL={running.url} AWS_REGION=us-east-1 NCF_ROLE={role}")
        typer.echo("export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE AWS_SECRET_ACCESS_KEY=double")
        typer.echo(
            "The double of AWS runs; set these variables in another terminal. Ctrl-C ends it.", err=True
        )
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            typer.echo("Ending its containers.", err=True)
