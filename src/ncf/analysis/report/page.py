"""One self-contained HTML document: a title, a lead, and sections, each with a sentence on how to read it.

In: strings of HTML. Out: the document. It needs no script and no network, and its Content-Security-Policy forbids both.
The decision worth knowing: every colour is a variable of the page, and drawings (`svg.py`) use the same variables, so
that one document is legible on a light screen, on a dark one and on paper, which is always light.

The colours of series are Okabe and Ito's (Color Universal Design, 2008), which people with any colour vision tell apart,
a little darker on white and a little lighter on black, so that each has a contrast of 3 or more with its ground.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ncf.analysis.report.html import text

LIGHT: Mapping[str, str] = {
    "ink": "#1d2733", "soft": "#51606f", "line": "#d5dce3", "back": "#ffffff", "card": "#f4f6f8", "mark": "#e6f1ea",
    "one": "#0072b2", "two": "#c75000", "three": "#00805c", "four": "#b0558a", "five": "#8a6500", "six": "#51606f",
}  # fmt: skip
DARK: Mapping[str, str] = {
    "ink": "#e6ebf0", "soft": "#a3b1bf", "line": "#2e3842", "back": "#12181e", "card": "#1b232b", "mark": "#1d3428",
    "one": "#5db4ef", "two": "#f5894a", "three": "#3fc79b", "four": "#e09bc6", "five": "#e0b84a", "six": "#a3b1bf",
}  # fmt: skip
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Section:
    """A part of a page: `title` is plain text, `text` (how to read it) and `body` are HTML."""

    title: str
    text: str
    body: str


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The document; `title` is plain text, `lead` HTML. Sections are listed at its head and can be linked to."""
    names = _names([section.title for section in sections])
    links = "".join(
        f"<li><a href='#{name}'>{text(section.title)}</a></li>"
        for name, section in zip(names, sections, strict=True)
    )
    parts = "".join(_section(name, section) for name, section in zip(names, sections, strict=True))
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'><link rel='icon' href='data:,'>"
        f"<title>{text(title)}</title><style>{_style()}</style></head>\n<body><header><h1>{text(title)}</h1>"
        f"<div class='lead'>{lead}</div></header>\n<nav aria-label='Contents'><ul>{links}</ul></nav>\n"
        f"<main>{parts}</main></body></html>\n"
    )


def _section(name: str, section: Section) -> str:
    reading = f"<p class='reading'>{section.text}</p>" if section.text else ""
    return f"<section id='{name}'><h2>{text(section.title)}</h2>{reading}{section.body}</section>\n"


def _names(titles: Sequence[str]) -> list[str]:
    """Anchors: the titles in small letters, each once."""
    names: list[str] = []
    for title in titles:
        name = base = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"
        number = 1
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


def _style() -> str:
    return (
        f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}\n{_RULES}"
    )


def _variables(colours: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


_RULES = """
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: var(--back); overflow-wrap: break-word }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem } h2 { font-size: 1.25rem; margin: 0 0 .3rem } h3 { font-size: 1rem; margin: 1.4rem 0 .3rem }
p { margin: .3rem 0 .8rem; max-width: 46rem } a { color: var(--one) } .lead, .reading, .note, caption { color: var(--soft) }
.note { border-left: 3px solid var(--line); padding-left: .8rem } section { margin: 2.8rem 0 0; scroll-margin-top: 1rem }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: .6rem 0; margin: 1rem 0 0; border-block: 1px solid var(--line) }
svg * { stroke-linejoin: round; stroke-linecap: butt } figure { margin: 1rem 0 1.4rem; overflow-x: auto } @media screen { figure svg { min-width: 38rem } } figure svg, section > svg { display: block; width: 100%; height: auto } figcaption { color: var(--soft); font-size: .9rem; max-width: 46rem }
.wide { overflow-x: auto; margin: .6rem 0 1.2rem } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
caption { text-align: left; padding-bottom: .3rem } th, td { text-align: right; padding: .3rem .8rem; border-bottom: 1px solid var(--line); vertical-align: top }
th:first-child, td:first-child { padding-left: 0 } thead th { color: var(--soft); font-weight: 600; vertical-align: bottom } tbody th { font-weight: 500 } .words { text-align: left }
tr.marked > * { background: var(--mark); font-weight: 600 } dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .25rem 1.2rem; margin: .6rem 0 1.2rem }
dt { color: var(--soft) } dd { margin: 0; min-width: 0 } code, pre { font-family: ui-monospace, monospace; font-size: .88em } pre.settings { columns: 17rem; white-space: pre-wrap } td:not(.words) { white-space: nowrap } pre { background: var(--card); padding: .8rem; border-radius: 6px; overflow-x: auto }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 0 2rem } .columns ol, .columns ul { padding-left: 1.4rem; margin: .2rem 0 }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: .4rem } }
@media print {
  body { font-size: 10.5pt; max-width: none; padding: 0 } nav { display: none } svg, tr.marked > * { print-color-adjust: exact }
  h2, h3 { break-after: avoid } figure, tr, .reading { break-inside: avoid } .wide, figure { overflow: visible } table { font-size: 8pt } th, td { padding: .15rem .4rem } pre { white-space: pre-wrap } a { color: inherit; text-decoration: none }
}
"""
