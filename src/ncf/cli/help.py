"""How help is laid out: commands in groups with their whole first sentence, and examples below the options.

The group of a command is its `rich_help_panel`, and its examples are the lines below `Examples:` at the end
of its docstring. Typer's own layout needs rich, which takes longer to import than all else that help needs.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_HEADING = "\n\nExamples:\n"


class Command(TyperCommand):
    """A command; `examples` are the lines that its docstring gives."""

    def __init__(self, name: str | None, *, help: str | None = None, **settings: Any) -> None:
        help, _, examples = (help or "").partition(_HEADING)
        super().__init__(name, help=help, **settings)
        self.examples = [line.strip() for line in examples.splitlines() if line.strip()]

    def format_epilog(self, _ctx: Any, formatter: Any) -> None:
        """Write the examples as they are, so that they can be copied."""
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"  {line}\n")


class SectionedGroup(TyperGroup):
    """A group of commands, which are listed under their own groups."""

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """Write a section for each group, with all of a command's first paragraph."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            paragraph = " ".join((command.help or "").partition("\n\n")[0].split())
            group = getattr(command, "rich_help_panel", None) or "Commands"
            sections.setdefault(group, []).append((name, paragraph))
        longest = max(map(len, self.commands))
        for group, rows in sections.items():
            with formatter.section(group):
                formatter.write_dl([(name.ljust(longest), paragraph) for name, paragraph in rows])


class App(typer.Typer):
    """A Typer whose groups and commands are laid out as this file says."""

    def __init__(self, *, cls: type[SectionedGroup] = SectionedGroup, **settings: Any) -> None:
        super().__init__(
            cls=cls, subcommand_metavar="COMMAND [ARGS]", no_args_is_help=True, rich_markup_mode=None,
            **settings,
        )  # fmt: skip

    def command(self, name: str | None = None, *, group: str | None = None) -> Callable[[Any], Any]:  # type: ignore[override]
        """Register a function as a command of `group`."""
        return super().command(name, cls=Command, rich_help_panel=group)

    def add_commands(self, groups: Mapping[str, Iterable[Callable[..., Any]]]) -> None:
        """Register the functions of each group as its commands, in this order."""
        for group, commands in groups.items():
            for command in commands:
                self.command(group=group)(command)
