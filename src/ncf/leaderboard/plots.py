"""The drawings of the page.

In: `LeaderboardResults`. Out: drawings of the report wing. The decision worth knowing: a model far behind the
best (less than 60% of it) is named below a drawing and not drawn, because it would squeeze all others
together; the tables have every model. Models of this package are circles and baselines squares, so they can
be told apart on paper as well. A name stands next to its point, where it covers no other.
"""

from collections.abc import Sequence
from typing import Any

from ncf.analysis.report import svg
from ncf.analysis.report.page import Drawing
from ncf.leaderboard.results import FULL_ORDER, ORDER, LeaderboardResults, Row
from ncf.leaderboard.summary import ranks, short

_MODEL, _BASELINE = svg.SERIES[0], svg.SERIES[1]
_NEAR = 0.6
_LETTER, _LINE = 6.6, 15.0  # CSS pixels of a label's letter and line
_OFFSETS = (
    (8, 4, "left"), (8, -13, "left"), (-8, 4, "right"), (-8, -13, "right"), (8, 14, "left"), (8, -24, "left"),
    (-8, 14, "right"), (-8, -24, "right"),
)  # fmt: skip
"""Where a name may stand, relative to its point: x, y, and the side of the name that is there."""
_LEGEND = "Circles are models of this package, squares are baselines."


@svg.styled()
def accuracy(results: LeaderboardResults) -> Drawing:
    """NDCG@10 under both protocols with 95% intervals, one line for each model."""
    near, left_out = _near(results, ORDER)
    rows = near[::-1]
    drawing, axes = svg.panels(2, 800, 90 + 26 * len(rows), sharey=True)
    for axis, measure, protocol in zip(axes, (ORDER, FULL_ORDER), ("sampled", "full"), strict=True):
        for index, row in enumerate(rows):
            axis.plot(row.intervals[measure], [index, index], color=_colour(row), solid_capstyle="butt")
            axis.plot(row.means[measure], index, _marker(row), color=_colour(row))
        axis.set_xlabel(f"NDCG@10, {protocol} (95% interval over users)")
        axis.grid(visible=False, axis="y")
        axis.set_yticks(range(len(rows)), [row.title for row in rows])
        axis.tick_params(axis="y", length=0)
    title = "NDCG@10 of each model under the sampled and the full protocol"
    return svg.framed(drawing, title, _LEGEND + left_out)


def cost(results: LeaderboardResults) -> Drawing:
    """NDCG@10 against the seconds that training takes, halves included."""
    rows, left_out = _near(results, ORDER)
    points = [(max(0.001, row.seconds + row.seconds_of_halves), row.means[ORDER]) for row in rows]
    labels = ("seconds to train (halves of a pre-trained model included)", "NDCG@10, sampled")
    caption = f"Up and to the left is better. {_LEGEND}{left_out}"
    return _scatter(rows, points, labels, "NDCG@10 against seconds of training", caption, log=True)


def popularity(results: LeaderboardResults) -> Drawing:
    """NDCG@10 of the full ranking against popularity bias."""
    rows, left_out = _near(results, FULL_ORDER)
    points = [(row.means["full/popularity_bias@10"], row.means[FULL_ORDER]) for row in rows]
    labels = ("popularity bias@10 (1: as popular as the items used)", "NDCG@10, full")
    caption = f"Further right: more of what everybody uses. {_LEGEND}{left_out}"
    return _scatter(rows, points, labels, "NDCG@10 against popularity bias", caption)


def validation(results: LeaderboardResults) -> Drawing:
    """Test NDCG@10 against validation NDCG@10."""
    rows, left_out = _near(results, ORDER)
    points = [(row.validation or 0.0, row.means[ORDER]) for row in rows]
    labels = ("validation NDCG@10 of the chosen trial, sampled", "test NDCG@10, sampled")
    caption = (
        "On a rising line validation orders the models as test does. Kendall's tau "
        f"{results.validation_test_tau:.2f} (all models). {_LEGEND}{left_out}"
    )
    return _scatter(rows, points, labels, "Test NDCG@10 against validation NDCG@10", caption)


@svg.styled()
def orders(results: LeaderboardResults) -> Drawing:
    """The rank of each model under both protocols; lines that cross are discordant pairs."""
    rows, sampled, full = results.rows, ranks(results, ORDER), ranks(results, FULL_ORDER)
    drawing, axis = svg.figure(760, 80 + 26 * len(rows))
    moved = {title for pair in results.discordant_pairs for title in (pair.a, pair.b)}
    for row in rows:
        left, right = sampled[row.name], full[row.name]
        colour, width = (svg.SERIES[1], 2.5) if row.title in moved else (svg.SOFT, 1.2)
        axis.plot([0, 1], [left, right], "o-", color=colour, linewidth=width)
        axis.text(-0.04, left, f"{row.title}  {left}", ha="right", va="center")
        axis.text(1.04, right, f"{right}  {row.title}", ha="left", va="center")
    axis.set(xlim=(-0.9, 1.9), ylim=(len(rows) + 0.6, 0.4), yticks=[])
    axis.set_xticks([0, 1], ["sampled", "full"])
    axis.grid(visible=False)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(axis="x", length=0)
    caption = f"Thick lines belong to a pair in another order. Kendall's tau {results.sampled_full_tau:.2f}."
    return svg.framed(drawing, "Rank of each model by NDCG@10, sampled and full", caption)


def _near(results: LeaderboardResults, measure: str) -> tuple[list[Row], str]:
    """The models that are not far behind the best, and a sentence about the others."""
    least = _NEAR * max(row.means[measure] for row in results.rows)
    far = [f"{row.title} ({short(row.means[measure])})" for row in results.rows if row.means[measure] < least]
    left_out = f" Far behind, not drawn: {', '.join(far)}." if far else ""
    return [row for row in results.rows if row.means[measure] >= least], left_out


@svg.styled()
def _scatter(
    rows: Sequence[Row],
    points: Sequence[tuple[float, float]],
    labels: tuple[str, str],
    title: str,
    caption: str,
    *,
    log: bool = False,
) -> Drawing:
    """A point for each row; `labels` are those of the x and the y axis."""
    drawing, axis = svg.figure(800, 440)
    for row, point in zip(rows, points, strict=True):
        axis.plot(*point, _marker(row), color=_colour(row), markersize=8)
    if log:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.margins(0.14, 0.1)
    axis.set(xlabel=labels[0], ylabel=labels[1])
    _name_points(axis, [row.title for row in rows], points, 700.0, 360.0)
    return svg.framed(drawing, title, caption)


def _name_points(
    axis: Any, names: Sequence[str], points: Sequence[tuple[float, float]], width: float, height: float
) -> None:
    """Write each name where it covers no point and no other name, as far as possible.

    `width` and `height` are the approximate size of the axes in CSS pixels.
    """
    axis.autoscale_view()
    scaled = axis.transAxes.inverted().transform(axis.transData.transform(points))
    centres = [(x * width, y * height) for x, y in scaled]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in centres]
    for name, (x, y), point in zip(names, centres, points, strict=True):
        boxes = [_box(x + dx, y + dy, name, side) for dx, dy, side in _OFFSETS]
        free = (
            index
            for index, box in enumerate(boxes)
            if box[0] >= 0 and box[2] <= width and not any(_overlap(box, other) for other in taken)
        )
        best = next(free, 0)
        taken.append(boxes[best])
        dx, dy, side = _OFFSETS[best]
        axis.annotate(name, point, (dx, dy), textcoords="offset points", ha=side, va="baseline", fontsize=12)


Box = tuple[float, float, float, float]
"""Left, bottom, right, top in CSS pixels."""


def _box(x: float, y: float, name: str, side: str) -> Box:
    length = _LETTER * len(name)
    left = x if side == "left" else x - length
    return left, y - 3, left + length, y + _LINE - 4


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _colour(row: Row) -> str:
    return _BASELINE if row.baseline else _MODEL


def _marker(row: Row) -> str:
    return "s" if row.baseline else "o"
