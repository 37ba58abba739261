"""How commands are found, and how help is laid out: in groups, with whole sentences and examples.

The group of a command is its `rich_help_panel`, and its examples are the lines below `Examples:` at the end
of its docstring. The decision worth knowing: a command's module is imported when the command is asked for,
so that one command does not wait for the others. Typer's own layout needs rich, which takes longer to import
than all else that help needs.
"""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar

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


class LateGroup(SectionedGroup):
    """A group whose `homes` name each command's group, and the module and function or `App` that it is."""

    homes: ClassVar[Mapping[str, Mapping[str, str]]]
    """Group to the name of a command to `module:attribute`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Click declares a dictionary, and only reads it.
        self.commands = _Late(self.homes)  # type: ignore[assignment]


class _Late(Mapping[str, Any]):
    """Commands by name, each made when it is asked for."""

    def __init__(self, homes: Mapping[str, Mapping[str, str]]) -> None:
        self._homes = {name: (group, home) for group, below in homes.items() for name, home in below.items()}
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _command(name, *self._homes[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


def _command(name: str, group: str, home: str) -> Any:
    module, _, attribute = home.partition(":")
    found = getattr(import_module(f"ncf.cli.{module}"), attribute)
    if not isinstance(found, App):
        alone = App()
        alone.command(name)(found)
        found = alone
    command: Any = typer.main.get_command(found)
    command.name, command.rich_help_panel = name, group
    return command


class App(typer.Typer):
    """A Typer whose groups and commands are laid out as this file says."""

    def __init__(self, *, cls: type[SectionedGroup] = SectionedGroup, **settings: Any) -> None:
        super().__init__(
            cls=cls, subcommand_metavar="COMMAND [ARGS]", no_args_is_help=True, rich_markup_mode=None,
            **{"add_completion": False, **settings},
        )  # fmt: skip

    # Narrower than Typer's on purpose: all that is laid out here comes from the docstring.
    def command(self, name: str | None = None) -> Callable[[Any], Any]:  # type: ignore[override]
        """Register a function as a command."""
        return super().command(name, cls=Command)
