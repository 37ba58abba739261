"""The drawings of the page.

In: a `LeaderboardResults`. Out: `<figure>` strings of the report wing. The decision worth knowing: who is far behind (less than 60% of
the best) is named below a drawing and not drawn, since it would press all others together; the tables have everybody. Models of this package are filled circles, baselines squares, so
that the two are told apart on paper as well. Names stand beside their points, where they do not cover each other.
"""

from collections.abc import Sequence
from typing import Any

from ncf.analysis.report import svg
from ncf.analysis.report.html import text
from ncf.leaderboard.columns import short
from ncf.leaderboard.results import FULL_ORDER, ORDER, LeaderboardResults, Row
from ncf.leaderboard.summary import ranks

_MODEL, _BASELINE = svg.SERIES[0], svg.SERIES[1]
_NEAR = 0.6
_LETTER, _LINE = 6.6, 15.0  # CSS pixels of a label's letter and line
_PLACES = ((8, 4, "left"), (8, -13, "left"), (-8, 4, "right"), (-8, -13, "right"), (8, 14, "left"), (8, -24, "left"),
           (-8, 14, "right"), (-8, -24, "right"))  # fmt: skip


def accuracy(board: LeaderboardResults) -> str:
    """NDCG@10 under both protocols with 95% intervals, one line a contender."""
    near, left_out = _near(board, ORDER)
    rows = near[::-1]
    drawing, axes = svg.panels(2, 800, 90 + 26 * len(rows), sharey=True)
    for axis, measure, words in zip(axes, (ORDER, FULL_ORDER), ("sampled", "full"), strict=True):
        for place, row in enumerate(rows):
            low, high = row.intervals[measure]
            axis.plot([low, high], [place, place], color=_colour(row), linewidth=2, solid_capstyle="butt")
            axis.plot(row.means[measure], place, _marker(row), color=_colour(row))
        axis.set_xlabel(f"NDCG@10, {words} (95% interval over users)")
        axis.grid(visible=False, axis="y")
        axis.set_yticks(range(len(rows)), [row.title for row in rows])
        axis.tick_params(axis="y", length=0, labelcolor=svg.INK)
    return svg.framed(
        drawing, "NDCG@10 of each contender under the sampled and the full protocol", _LEGEND + left_out
    )


def cost(board: LeaderboardResults) -> str:
    """NDCG@10 against the seconds that training takes, halves included."""
    rows, left_out = _near(board, ORDER)
    points = [(max(0.001, row.seconds + row.seconds_of_halves), row.means[ORDER]) for row in rows]
    return _scatter(
        rows, points, "seconds to train (a pre-trained model's halves included)", "NDCG@10, sampled",
        "NDCG@10 against seconds of training", f"Up and to the left is better. {_LEGEND}{left_out}",
        log=True,
    )  # fmt: skip


def popularity(board: LeaderboardResults) -> str:
    """NDCG@10 of the full ranking against popularity bias."""
    rows, left_out = _near(board, FULL_ORDER)
    points = [(row.means["full/popularity_bias@10"], row.means[FULL_ORDER]) for row in rows]
    return _scatter(
        rows, points, "popularity bias@10 (1: items are shown as they are used)", "NDCG@10, full",
        "NDCG@10 against popularity bias", f"Further right: more of what everybody uses. {_LEGEND}{left_out}",
    )  # fmt: skip


def validation_test_tau(board: LeaderboardResults) -> str:
    """Test against validation."""
    rows, left_out = _near(board, ORDER)
    points = [(row.validation or 0.0, row.means[ORDER]) for row in rows]
    return _scatter(
        rows, points, "validation NDCG@10 of the chosen trial, sampled", "test NDCG@10, sampled",
        "Test NDCG@10 against validation NDCG@10",
        f"On a rising line validation would order them as test does; Kendall's tau {board.validation_test_tau:.2f} "
        f"(of all contenders). {_LEGEND}{left_out}",
    )  # fmt: skip


def orders(board: LeaderboardResults) -> str:
    """The place of each contender under both protocols; lines that cross are pairs in another order."""
    rows, sampled, full = board.rows, ranks(board, ORDER), ranks(board, FULL_ORDER)
    drawing, axis = svg.figure(760, 80 + 26 * len(rows))
    swapped = {title for swap in board.swaps for title in (swap.a, swap.b)}
    for row in rows:
        places = [sampled[row.name], full[row.name]]
        crosses = row.title in swapped
        axis.plot(
            [0, 1],
            places,
            "o-",
            color=svg.SERIES[1] if crosses else svg.SOFT,
            linewidth=2.5 if crosses else 1.2,
        )
        words: dict[str, Any] = {"va": "center", "color": svg.INK, "fontsize": 13}
        axis.text(-0.04, places[0], f"{row.title}  {places[0]}", ha="right", **words)
        axis.text(1.04, places[1], f"{places[1]}  {row.title}", ha="left", **words)
    axis.set_xlim(-0.9, 1.9)
    axis.set_ylim(len(rows) + 0.6, 0.4)
    axis.set_xticks([0, 1], ["sampled", "full"])
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.tick_params(axis="x", length=0, labelcolor=svg.INK)
    return svg.framed(
        drawing, "Place of each contender by NDCG@10, sampled and full",
        f"Thick lines belong to a pair in another order. Kendall's tau {board.agreement:.2f}.",
    )  # fmt: skip


_LEGEND = "Circles are models of this package, squares are baselines."


def _near(board: LeaderboardResults, measure: str) -> tuple[list[Row], str]:
    """Those who are not far behind the best, and a sentence about the others."""
    least = _NEAR * max(row.means[measure] for row in board.rows)
    far = [f"{row.title} ({short(row.means[measure])})" for row in board.rows if row.means[measure] < least]
    left_out = f" Far behind, and not drawn: {text(', '.join(far))}." if far else ""
    return [row for row in board.rows if row.means[measure] >= least], left_out


def _scatter(
    rows: Sequence[Row],
    points: Sequence[tuple[float, float]],
    x: str,
    y: str,
    title: str,
    caption: str,
    *,
    log: bool = False,
) -> str:
    drawing, axis = svg.figure(800, 440)
    for row, point in zip(rows, points, strict=True):
        axis.plot(*point, _marker(row), color=_colour(row), markersize=8)
    if log:
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.margins(0.14, 0.1)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    _name_points(axis, [row.title for row in rows], points, 700.0, 360.0)
    return svg.framed(drawing, title, caption)


def _name_points(
    axis: Any, names: Sequence[str], points: Sequence[tuple[float, float]], width: float, height: float
) -> None:
    """Write each name where it covers no point and no other name, as far as that can be had.

    `width` and `height` are about what the axes take, in CSS pixels.
    """
    axis.autoscale_view()
    scaled = axis.transAxes.inverted().transform(axis.transData.transform(points))
    centres = [(x * width, y * height) for x, y in scaled]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in centres]
    for name, (x, y), point in zip(names, centres, points, strict=True):
        boxes = [_box(x + dx, y + dy, name, side) for dx, dy, side in _PLACES]
        free = (
            place
            for place, box in enumerate(boxes)
            if _inside(box, width) and not any(_meet(box, other) for other in taken)
        )
        best = next(free, 0)
        taken.append(boxes[best])
        dx, dy, side = _PLACES[best]
        axis.annotate(
            name, point, (dx, dy), textcoords="offset points", ha=side, va="baseline", fontsize=12, color=svg.INK
        )  # fmt: skip


Box = tuple[float, float, float, float]


def _box(x: float, y: float, name: str, side: str) -> Box:
    length = _LETTER * len(name)
    left = x if side == "left" else x - length
    return left, y - 3, left + length, y + _LINE - 4


def _inside(box: Box, width: float) -> bool:
    return box[0] >= 0 and box[2] <= width


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _colour(row: Row) -> str:
    return _BASELINE if row.baseline else _MODEL


def _marker(row: Row) -> str:
    return "s" if row.baseline else "o"
