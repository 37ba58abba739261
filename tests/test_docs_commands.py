"""Every `ncf` command in the README, the docs and the notebooks is one that the command line parses."""

import functools
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from ncf.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "src").rglob("*.md")),
    *sorted((ROOT / "notebooks").glob("*.ipynb")),
]
RECORDS = {"CHANGELOG.md", "decisions.md"}
"""These may name what is gone."""
BLOCK = re.compile(r"^```(.*?)\n(.*?)^```", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^(?!#)(?:.*?[\s/!])?ncf (.*)$", re.MULTILINE)
INLINE = re.compile(r"`ncf ([^`\n]+)`")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    """A page, or a notebook with the shell commands of its code cells as blocks."""
    text = page.read_text("utf-8")
    if page.suffix != ".ipynb":
        return text
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    shell = (
        source if kind == "markdown" else "```\n" + "\n".join(re.findall(r"^ *!.*", source, re.M)) + "\n```"
        for kind, source in cells
    )
    return "\n".join(shell)


def blocks(text: str) -> str:
    """What stands in blocks of code for the shell, continued lines joined."""
    found = (block for language, block in BLOCK.findall(text) if language in ("", "sh"))
    return "\n".join(found).replace("\\\n", " ")


def in_blocks(text: str) -> list[str]:
    """Arguments of `ncf` in blocks of code, without what the shell does with the output."""
    return [re.split(r" (?:\||>|&&) ", line)[0] for line in COMMAND.findall(blocks(text))]


@functools.cache
def command_line() -> Any:
    return typer.main.get_command(app)


def parse(words: list[str]) -> list[str]:
    """What a command leaves over of its words; an unknown command or option is an error."""
    command = command_line()
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    with command.make_context("ncf", [], resilient_parsing=True) as context:
        context.resilient_parsing = False  # which would pass over unknown options
        _, left, _ = command.make_parser(context).parse_args(list(words))
    return [word for word in left if word != "…"]


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in RECORDS], ids=name)
def test_commands_of_a_page_parse(page: Path) -> None:
    text = text_of(page)
    for line in in_blocks(text):
        assert parse(shlex.split(line, comments=True)) == [], line
    for line in INLINE.findall(BLOCK.sub("", text)):  # a mere mention may leave out an option's value
        words = line.split()
        parse([*words, "…"] if words[-1].startswith("--") else words)


@pytest.mark.parametrize("line", ["experiment list", "train r.toml --no-such", "sagemaker trian r.toml"])
def test_an_unknown_command_or_option_is_found(line: str) -> None:
    with pytest.raises(Exception, match=r"(?i)no such|there is no command"):
        parse(line.split())


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_scripts_and_recipes_of_a_page_exist(page: Path) -> None:
    pattern = r"(?<![\w/])((?:recipes|benchmarks)/[\w./-]+\.(?:toml|py)|scripts/[\w-]+)"
    named = re.findall(pattern, blocks(text_of(page)))
    assert [path for path in named if not (ROOT / path).exists()] == []
