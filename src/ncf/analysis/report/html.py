"""Pieces of HTML: escaped text, numbers as people read them, and tables.

In: values. Out: HTML strings. The decision worth knowing: whatever is not `Markup` is escaped, so that a title from
somebody's data can never become part of the page's code.
"""

import html
from collections.abc import Collection, Sequence


class Markup(str):
    """A string that is HTML already and is put into the page as it is."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Any value as HTML text; `Markup` stays as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def number(value: float | None, digits: int = 4) -> str:
    """A figure with `digits` decimals, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def interval(pair: Sequence[float] | None, digits: int = 4) -> str:
    """From – to with `digits` decimals, or a dash where there is none or where it has no width.

    Rows that are all alike, as three misses are, stay alike however often they are drawn again, and tell no interval.
    """
    return "–" if pair is None or pair[0] == pair[1] else f"{pair[0]:.{digits}f} – {pair[1]:.{digits}f}"


def table(
    head: Sequence[object],
    rows: Sequence[Sequence[object]],
    *,
    left: int = 1,
    marked: Collection[int] = (),
    caption: str = "",
) -> str:
    """A table: the first `left` columns are words and stand left, the others are numbers and stand right.

    Rows whose place is in `marked` are set off. A cell of the first column heads its row. A wide table scrolls by
    itself, so the page never gets wider than the screen.
    """
    said = f"<caption>{text(caption)}</caption>" if caption else ""
    above = "".join(
        f"<th scope='col'{_side(place, left)}>{text(cell)}</th>" for place, cell in enumerate(head)
    )
    body = "".join(_row(row, left, place in marked) for place, row in enumerate(rows))
    return f"<div class='wide' tabindex='0'><table>{said}<thead><tr>{above}</tr></thead><tbody>{body}</tbody></table></div>"


def facts(pairs: Sequence[tuple[str, object]]) -> str:
    """Named facts, one below the other."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs) + "</dl>"


def _row(cells: Sequence[object], left: int, marked: bool) -> str:
    inside = "".join(
        f"<th scope='row'{_side(place, left)}>{text(cell)}</th>"
        if place == 0
        else f"<td{_side(place, left)}>{text(cell)}</td>"
        for place, cell in enumerate(cells)
    )
    return f"<tr{' class=marked' if marked else ''}>{inside}</tr>"


def _side(place: int, left: int) -> str:
    return " class=words" if place < left else ""
