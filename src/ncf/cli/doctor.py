"""`ncf doctor`."""

from __future__ import annotations

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
        bool, typer.Option("--local", help="Check for local mode: Docker is required, AWS is optional.")
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
    """Check this machine and AWS, and suggest a fix for each problem. Exits with 1 if there is a problem.

    Examples:
        ncf doctor
        ncf doctor --local
    """
    from ncf.sagemaker.account.checks import all_passed
    from ncf.sagemaker.account.doctor import examine

    if fix_local_mode:
        _fix(yes)
        local = True
    session = open_session(local, None, region, profile, role, bucket)
    findings = []
    for finding in examine(session):
        findings.append(finding)
        if not as_json:
            _print(finding)
    good = all_passed(findings)
    if as_json:
        checks = [finding.to_json() for finding in findings]
        print_json({"ok": good, "for": "local mode" if local else "AWS", "checks": checks})
    else:
        problems = sum(finding.state == "problem" for finding in findings)
        summary = "No problems" if good else f"{problems} {'problem' if problems == 1 else 'problems'}"
        typer.echo(f"\n{summary} for {'local mode' if local else 'hosted SageMaker'}.")
    raise typer.Exit(0 if good else 1)


def _fix(yes: bool) -> None:
    from ncf.sagemaker.account import docker_checks

    commands = docker_checks.plan()
    if not commands:
        typer.echo("Docker, its engine and compose are installed: nothing to do.", err=True)
        return
    typer.echo("To run as root:", err=True)
    for command in commands:
        typer.echo(f"  {command}", err=True)
    if not yes:
        typer.echo("Run these? [y/N]", err=True)
        try:
            answer = input().strip().lower()
        except EOFError:
            answer = ""
        if answer not in ("y", "yes"):
            raise ConfigError("Nothing was changed. Use --yes to run the commands without being asked.")
    docker_checks.set_up()


def _print(finding: Finding) -> None:
    """Print one row; on a terminal in colour, with long texts wrapped inside their column."""
    from ncf.tracking.console import OUT

    if not OUT.is_terminal:
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        typer.echo(f"{finding.state:<{_STATE}}  {finding.name:<{_NAME}}  {finding.message}{remedy}")
        return
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 2))
    row.add_column(width=_STATE)
    row.add_column(width=_NAME)
    row.add_column(overflow="fold")
    message, colour = Text(finding.message), _COLOURS[finding.state]
    if finding.remedy:
        message.append(f"\n→ {finding.remedy}", style=colour if finding.state != "ok" else "dim")
    row.add_row(Text(finding.state, style=colour), finding.name, message)
    OUT.print(row, soft_wrap=False)
