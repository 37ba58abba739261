"""Every command of the command line, by what is typed."""

from collections.abc import Iterator
from typing import Any

import typer

from ncf.cli import app


def walk(command: Any, typed: str) -> Iterator[tuple[str, Any]]:
    """The command and those below it."""
    yield typed, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, f"{typed} {name}")


ROOT: Any = typer.main.get_command(app)
EVERY = dict(walk(ROOT, "ncf"))
COMMANDS = [typed for typed, command in EVERY.items() if not hasattr(command, "commands")]
"""Those that do something; the others are groups."""
