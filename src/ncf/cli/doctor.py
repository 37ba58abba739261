"""`ncf doctor`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker.options import Bucket, Profile, Region, Role, Yes, open_session
from ncf.errors import ConfigError

if TYPE_CHECKING:
    from ncf.sagemaker.account.checks import Finding

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red", "not checked": "dim"}
_STATE, _NAME = 11, 15


def doctor(
    local: Annotated[
        bool, typer.Option("--local", help="For local mode: Docker must do, AWS is only looked at.")
    ] = False,
    fix_local_mode: Annotated[
        bool, typer.Option("--fix-local-mode", help="Install and start what local mode needs (asks first).")
    ] = False,
    yes: Yes = False,
    region: Region = None,
    profile: Profile = None,
    role: Role = None,
    bucket: Bucket = None,
    as_json: Json = False,
) -> None:
    """Check this machine and AWS, and say for each line what to do; exit code 1 if something is a problem."""
    from ncf.sagemaker.account.checks import fine
    from ncf.sagemaker.account.doctor import examine

    if fix_local_mode:
        _fix(yes)
        local = True
    session = open_session(local, None, region, profile, role, bucket)
    findings = []
    for one in examine(session):
        findings.append(one)
        if not as_json:
            _print(one)
    good = fine(findings)
    if as_json:
        print_json(
            {
                "ok": good,
                "for": "local mode" if local else "AWS",
                "checks": [one.to_json() for one in findings],
            }
        )
    else:
        problems = sum(one.state == "problem" for one in findings)
        said = "Nothing is a problem" if good else f"{problems} {'problem' if problems == 1 else 'problems'}"
        typer.echo(f"\n{said} for {'local mode' if local else 'hosted SageMaker'}.")
    raise typer.Exit(0 if good else 1)


def _fix(yes: bool) -> None:
    from ncf.sagemaker.account import fix_local

    system = fix_local.System.here()
    commands = fix_local.missing(system)
    if not commands:
        typer.echo("Docker, its engine and compose are there: nothing to do.", err=True)
        return
    typer.echo(f"On {system.name}, as root:", err=True)
    for command in commands:
        typer.echo(f"  {shlex.join(command)}", err=True)
    if not yes:
        typer.echo("Run these? [y/N]", err=True)
        try:
            answer = input().strip().lower()
        except EOFError:
            answer = ""
        if answer not in ("y", "yes"):
            raise ConfigError("Nothing was changed. (Without a person to ask, give --yes.)")
    fix_local.run(commands, lambda line: typer.echo(line, err=True))
    fix_local.await_engine()


def _print(one: Finding) -> None:
    """A row as soon as it is known: in colour on a terminal, where long words stay in their column."""
    from ncf.cli.console import OUT

    if not OUT.is_terminal:
        remedy = f" -> {one.remedy}" if one.remedy else ""
        typer.echo(f"{one.state:<{_STATE}}  {one.name:<{_NAME}}  {one.said}{remedy}")
        return
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 2))
    row.add_column(width=_STATE)
    row.add_column(width=_NAME)
    row.add_column(overflow="fold")
    said = Text(one.said)
    if one.remedy:
        said.append(f"\n→ {one.remedy}", style=_COLOURS[one.state] if one.state != "ok" else "dim")
    row.add_row(Text(one.state, style=_COLOURS[one.state]), one.name, said)
    OUT.print(row, soft_wrap=False)
