"""Drawings: matplotlib figures in the colours of the page, written as SVG.

In: what a section draws on axes made by `figure` or `panels`. Out: a `Drawing`, a block of the page. The
decision worth knowing: lines and marks have one palette that is legible on a light and on a dark ground, and
words take the colour of the page (a rule of its style sheet), so matplotlib's SVG goes into the page as it
was written.

The colours are Okabe and Ito's (Color Universal Design, 2008), which people with any colour vision can tell
apart, without their lightest ones: each has a contrast of 3 or more with white and with the page's dark
ground. matplotlib reads its settings when a line or a legend is made, so every function that draws is
decorated with `@styled()`.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ncf.analysis.report.page import Drawing
from ncf.errors import imported

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = ("#1f83c9", "#d55e00", "#009e73", "#c4679b", "#a67c00", "#7a8794")
"""Colours of six series, in the order in which to use them."""
SOFT = "#7a8794"
"""The colour of axes and of what stays in the background."""
MARKERS = ("o", "s", "^", "D", "v", "P")
"""A shape for each series, because a print may have no colour."""
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1)), (0, (8, 3)))
"""A line style for each series."""

_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "ncf", "font.family": ["DejaVu Sans"], "font.size": 13,
    "axes.titlesize": 13, "axes.labelsize": 13, "axes.titlelocation": "left", "legend.fontsize": 12,
    "xtick.labelsize": 12, "ytick.labelsize": 12, "xtick.color": SOFT, "ytick.color": SOFT,
    "axes.edgecolor": SOFT, "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": SOFT, "grid.alpha": 0.3, "lines.linewidth": 2.0, "lines.markersize": 6,
    "legend.frameon": False, "errorbar.capsize": 3, "figure.dpi": 72, "savefig.dpi": 72,
    "figure.constrained_layout.use": True, "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
}  # fmt: skip


@contextmanager
def styled() -> Iterator[None]:
    """The page's fonts, lines and colours for what is drawn within; also a decorator.

    Raises `ConfigError` where matplotlib is missing.
    """
    with imported("evaluate", "matplotlib").rc_context(_STYLE):
        yield


def figure(width: float = 760, height: float = 340) -> "tuple[Figure, Axes]":
    """A figure of this size (CSS pixels) with one pair of axes."""
    drawing, axes = panels(1, width, height)
    return drawing, axes[0]


@styled()
def panels(
    columns: int, width: float = 760, height: float = 320, **options: Any
) -> "tuple[Figure, list[Axes]]":
    """A figure of this size (CSS pixels) with `columns` pairs of axes side by side; `options` go to
    `Figure.subplots`.
    """
    from matplotlib.figure import Figure  # not pyplot, which keeps state

    drawing = Figure(figsize=(width / 72, height / 72))
    axes = drawing.subplots(1, columns, squeeze=False, **options)
    return drawing, list(axes[0])


@styled()
def legend_above(axes: "Axes") -> None:
    """Put the legend in one row above the right end of `axes`, where it hides nothing."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, borderaxespad=0.2)


@styled()
def framed(drawing: "Figure", title: str, caption: str = "") -> Drawing:
    """The finished figure as a block of the page.

    `title` says what it shows, for readers who cannot see it; `caption` stands below it. The same figure
    gives the same bytes. Ids get a prefix of their own, because one document holds many drawings.
    """
    written = io.StringIO()
    drawing.savefig(
        written, format="svg", metadata={"Creator": None, "Date": None, "Format": None, "Type": None}
    )
    svg = written.getvalue()
    key = hashlib.sha256((title + svg).encode()).hexdigest()[:8]
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>d{key}-", svg[svg.index("<svg") :])
    return Drawing(svg, title, caption)
