"""One self-contained HTML page: a title, a lead, and sections of blocks (text, tables, drawings, …).

In: plain values. Out: the document. The decision worth knowing: sections hold no HTML.
`templates/page.html.j2` writes every block, and jinja2 escapes whatever is not `Markup`, so a title from
somebody's data can never become code of the page.

A page fetches nothing, which its Content-Security-Policy enforces. It is legible on a light screen, on a dark
one and on paper, which is always light; `templates/style.css` has the colours. The pages of leaderboards and
searches use it too.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ncf.errors import imported


@dataclass(frozen=True)
class Text:
    """A paragraph; a `note` is set off from the others."""

    text: object
    note: bool = False


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str


@dataclass(frozen=True)
class TableBlock:
    """A table whose first `left` columns are words, on the left, and whose other columns are numbers, on the
    right.

    Rows whose index is in `marked` are highlighted. The first cell of a row is its heading. A wide table
    scrolls by itself, so the page never gets wider than the screen.
    """

    head: Sequence[object]
    rows: Sequence[Sequence[object]]
    left: int = 1
    marked: Collection[int] = ()
    caption: str = ""


@dataclass(frozen=True)
class Facts:
    """Pairs of a name and a value."""

    pairs: Sequence[tuple[str, object]]


@dataclass(frozen=True)
class Sentences:
    """A list of sentences; an empty one leaves no trace."""

    sentences: Sequence[object]


@dataclass(frozen=True)
class ListsBlock:
    """Lists side by side: a title, whether it is numbered, and the items, each with a remark."""

    columns: Sequence[tuple[str, bool, Sequence[tuple[str, str]]]]


@dataclass(frozen=True)
class Code:
    """Lines to copy; in several `columns` where the lines are short."""

    text: str
    columns: bool = False


@dataclass(frozen=True)
class Drawing:
    """Trusted markup: an SVG drawing or a plot. `title` is read to those who cannot see it, `caption` stands
    below it.
    """

    markup: str
    title: str
    caption: str = ""


Block = Text | Heading | TableBlock | Facts | Sentences | ListsBlock | Code | Drawing


@dataclass(frozen=True)
class Section:
    """A part of a page: `reading` says how to read its `blocks`."""

    title: str
    reading: str
    blocks: Sequence[Block]


def page(
    title: str, lead: Sequence[Block], sections: Sequence[Section], maker: str, script: bool = False
) -> str:
    """The document. Its head lists the sections, each of which can be linked to.

    `lead` stands below the title. `maker` is the command that makes the page, and `script` allows the scripts
    in it. Raises `ConfigError` where jinja2 is missing.
    """
    names = _names([section.title for section in sections])
    return str(
        _template().render(
            title=title,
            lead=lead,
            sections=list(zip(names, sections, strict=True)),
            maker=maker,
            script=script,
        )
    )


@cache
def _template() -> Any:
    jinja2 = imported("evaluate", "jinja2")
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html.j2")


def _names(titles: Sequence[str]) -> list[str]:
    """Anchors: the titles in small letters, numbered where two are alike."""
    names: list[str] = []
    for title in titles:
        name = base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        number = 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


def number(value: float | None, digits: int = 4) -> str:
    """A figure with `digits` decimals, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def interval(pair: Sequence[float] | None, digits: int = 4) -> str:
    """An interval "low – high" with `digits` decimals, or a dash where there is no interval or it has no
    width.

    Rows that are all alike, such as three misses, stay alike however they are resampled, so their interval
    says nothing.
    """
    return "–" if pair is None or pair[0] == pair[1] else f"{pair[0]:.{digits}f} – {pair[1]:.{digits}f}"
