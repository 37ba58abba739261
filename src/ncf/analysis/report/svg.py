"""Drawings as SVG inside a page: text stays text, and colours are the page's variables.

In: a matplotlib `Figure` made by `figure` or `panels`. Out: an `<svg>` string, the same bytes for the same drawing.
The decision worth knowing: matplotlib cannot draw with CSS variables, so that it draws with colours that stand for them
(`INK`, `SERIES`, …), and `inline` puts the variables in their place; any other colour is refused. matplotlib reads its
settings when a line or a legend is made, so whatever draws is a function under `@styled()`, or stands in `with styled():`.

Sizes are CSS pixels; the drawing grows and shrinks with the page. Figures are made without pyplot, which keeps state.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ncf.analysis.report.html import text
from ncf.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STAND_INS = {
    "#010101": "ink", "#020202": "soft", "#030303": "line", "#040404": "back", "#050505": "card",
    "#060606": "one", "#070707": "two", "#080808": "three", "#090909": "four", "#0a0a0a": "five", "#0b0b0b": "six",
}  # fmt: skip
INK, SOFT, LINE, BACK, CARD, *_series = _STAND_INS
SERIES: tuple[str, ...] = tuple(_series)
"""Colours of six series, in the order in which to use them."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""A form for each series, since colour alone does not tell on paper."""
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1)), (0, (8, 3)))
"""A kind of line for each series."""

_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "ncf", "svg.image_inline": True, "path.simplify": True,
    "font.family": ["DejaVu Sans"], "font.size": 13, "axes.titlesize": 13, "axes.labelsize": 13,
    "xtick.labelsize": 12, "ytick.labelsize": 12, "legend.fontsize": 12, "axes.titlelocation": "left",
    "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "xtick.color": SOFT, "ytick.color": SOFT,
    "axes.edgecolor": SOFT, "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": LINE, "grid.linewidth": 1.0, "axes.linewidth": 1.0, "lines.linewidth": 2.0, "lines.markersize": 6,
    "legend.frameon": False, "errorbar.capsize": 3, "text.usetex": False, "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False, "figure.dpi": 72, "savefig.dpi": 72, "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08, "figure.constrained_layout.w_pad": 0.08,
}  # fmt: skip
_IDS = re.compile(r'\bid="([^"]+)"')
_REFERENCES = re.compile(r'(?:href="#|url\(#)([^")]+)')
_COLOURS = re.compile(r"#[0-9a-f]{6}\b|rgba?\(")
_LEFT_OUT = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)


@contextmanager
def styled() -> Iterator[None]:
    """The page's fonts, colours and lines for what is drawn within; also a decorator. Raises `ConfigError` where
    matplotlib is missing."""
    try:
        from matplotlib import rc_context
    except ImportError:
        raise ConfigError("Drawings need the package matplotlib: pip install 'ncf[judge]'.") from None
    with rc_context(_STYLE):
        yield


@styled()
def figure(width: float = 760, height: float = 340) -> "tuple[Figure, Axes]":
    """A figure of this size (CSS pixels) with one pair of axes."""
    drawing, axes = panels(1, width, height)
    return drawing, axes[0]


@styled()
def panels(
    columns: int, width: float = 760, height: float = 320, **options: Any
) -> "tuple[Figure, list[Axes]]":
    """A figure with `columns` pairs of axes beside each other; `options` go to `Figure.subplots`."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(width / 72, height / 72))
    axes = drawing.subplots(1, columns, squeeze=False, **options)
    return drawing, list(axes[0])


@styled()
def legend_above(axes: "Axes") -> None:
    """The legend in one row over the right end of the axes, where it hides nothing."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.2)


@styled()
def inline(drawing: "Figure", title: str) -> str:
    """The drawing as `<svg>` to stand in a page; `title` (plain text) tells what it shows to those who cannot see it.

    Ids are made of the content, so that drawings in one document do not take each other's.
    """
    written = io.StringIO()
    nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
    drawing.savefig(written, format="svg", metadata=nothing)
    svg = _LEFT_OUT.sub("", written.getvalue())
    head, _, body = svg[svg.index("<svg") :].partition(">")
    size = re.search(r'viewBox="([^"]+)"', head)
    assert size is not None, "matplotlib writes a viewBox"
    body = _with_variables(re.sub(r"<[^>]+>", _rounded, body))
    key = "d" + hashlib.sha256((title + body).encode()).hexdigest()[:8]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size[1]}" role="img" aria-label="{text(title)}">'
        f"<title>{text(title)}</title>{_own_ids(body, key)}"
    ).strip()


def framed(drawing: "Figure", title: str, caption: str = "") -> str:
    """`inline` as a `<figure>` with a caption (HTML) below it."""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f"<figure>{inline(drawing, title)}{below}</figure>"


def _rounded(tag: re.Match[str]) -> str:
    """A hundredth of a pixel is enough."""
    return re.sub(r"(\.\d\d)\d+", r"\1", tag[0])


def _with_variables(svg: str) -> str:
    for stand_in, name in _STAND_INS.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    strange = _COLOURS.search(svg)
    assert strange is None, (
        f"{strange and strange[0]} is no colour of the page: draw with those of ncf.analysis.report.svg"
    )
    return re.sub(r"'DejaVu Sans'(, [^;\"]*)?", "system-ui, sans-serif", svg)


def _own_ids(svg: str, key: str) -> str:
    """Ids that nothing refers to are dropped; the others, and what refers to them, begin with `key`."""
    used = set(_REFERENCES.findall(svg))
    svg = _IDS.sub(lambda found: f'id="{key}-{found[1]}"' if found[1] in used else "", svg)
    svg = _REFERENCES.sub(lambda found: found[0][: -len(found[1])] + f"{key}-{found[1]}", svg)
    return svg.replace("<g >", "<g>").replace("xlink:href=", "href=")
