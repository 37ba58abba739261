"""What `--help` shows: groups, two examples a command that can be typed, choices, and whole sentences."""

import shlex
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from commandline import COMMANDS, EVERY, ROOT
from ncf import analysis
from ncf.cli import app
from ncf.data.catalog import CATALOG
from ncf.data.formats import Format
from ncf.data.options import Repeats, Split, Validation
from ncf.evaluation.metrics import Ties
from ncf.sagemaker.container.distribution import KINDS
from ncf.sagemaker.endpoints.requests import Traffic
from ncf.sagemaker.jobs.tuning import Strategy
from ncf.training.parallel import connect
from ncf.tuning.study import PRUNERS


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("typed", EVERY)
def test_nothing_is_cut_off(typed: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    command = EVERY[typed]
    shown = command.get_help(command.make_context(typed, [], resilient_parsing=True))
    assert not any(mark in shown for mark in ("...", "…"))
    assert max(map(len, shown.splitlines())) <= width
    words = " ".join(shown.split())
    for below in getattr(command, "commands", {}).values():
        assert " ".join(below.help.split("\n\n")[0].split()) in words
    for line in getattr(command, "examples", ()):
        assert f"\n  {line}\n" in f"{shown}\n"


def test_every_command_has_a_group() -> None:
    for group in (ROOT, EVERY["ncf sagemaker"]):
        assert all(command.rich_help_panel for command in group.commands.values())
    groups = [command.rich_help_panel for command in ROOT.commands.values()]
    assert set(groups) == {"Data", "Train", "Evaluate", "Serve", "Cloud"}


@pytest.mark.parametrize("typed", COMMANDS)
def test_two_examples_are_given_that_the_command_line_takes(typed: str) -> None:
    """Read by the command's own parser, which refuses unknown options, choices and missing arguments."""
    command = EVERY[typed]
    assert len({*command.examples}) == 2
    for line in command.examples:
        assert line.startswith(f"{typed} ") or line == typed
        command.make_context(typed, shlex.split(line.partition(" | ")[0])[len(typed.split()) :])


CHOICES: dict[str, Any] = {
    "ncf prepare --catalog": CATALOG,
    "ncf prepare --format": get_args(Format),
    "ncf prepare --split": get_args(Split),
    "ncf prepare --validation": get_args(Validation),
    "ncf prepare --repeats": get_args(Repeats),
    "ncf train --tables": ("replicated", "sharded"),
    "ncf train --distributed": connect.KINDS,
    "ncf tune --pruner": PRUNERS,
    "ncf evaluate --protocol": (*analysis.PROTOCOLS, "both"),
    "ncf evaluate --split": ("test", "validation", "time", "items"),
    "ncf evaluate --by": analysis.GROUPS,
    "ncf evaluate --ties": get_args(Ties),
    "ncf sagemaker train --distributed": KINDS,
    "ncf sagemaker tune --strategy": get_args(Strategy),
    "ncf sagemaker deploy --traffic": get_args(Traffic),
    "ncf sagemaker policy --role": ("user", "execution", "trust"),
}


@pytest.mark.parametrize("option", CHOICES)
def test_choices_are_those_that_the_package_takes(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    typed, _, name = option.rpartition(" ")
    command = EVERY[typed]
    context = command.make_context(typed, [], resilient_parsing=True)
    given = next(param for param in command.params if name in param.opts)
    shown = given.display_type(context).removeprefix("<").removeprefix("list[").rstrip("]>")
    assert shown.split("|") == [*CHOICES[option]]
    monkeypatch.setenv("COLUMNS", "200")
    assert "|".join(CHOICES[option]) in command.get_help(context)


def test_no_other_option_takes_a_choice() -> None:
    found = {
        f"{typed} {max(param.opts, key=len)}"
        for typed in COMMANDS
        for param in EVERY[typed].params
        if "|" in param.display_type(EVERY[typed].make_context(typed, [], resilient_parsing=True))
    }
    assert found == set(CHOICES)


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("ncf ev", {"evaluate"}),
        ("ncf sagemaker pipeline st", {"start", "status", "stop"}),
        ("ncf evaluate runs/mine --prot", {"--protocol"}),
        ("ncf evaluate runs/mine --ties p", {"pessimistic"}),
    ],
)
def test_a_shell_completes_commands_options_and_choices(typed: str, wanted: set[str]) -> None:
    asked = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1), "_NCF_COMPLETE": "complete_bash"}
    assert {*CliRunner().invoke(app, [], prog_name="ncf", env=asked).stdout.split()} == wanted
