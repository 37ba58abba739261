"""The rank of the held-out item: its distribution in the candidate lists, and among the whole catalogue.

In: `RankedUsers`. Out: a section. A model that guesses is drawn next to the model.
"""

from typing import Any

import numpy as np

from ncf.analysis.report import svg
from ncf.analysis.report.page import Drawing, Section
from ncf.analysis.report.ranked_users import RankedUsers, Ranking


def section(rankings: RankedUsers) -> Section:
    """Both distributions."""
    reading = (
        "The share of held-out items at each rank, the best rank being 1. The dashed line is a model that "
        "guesses. A good model has most of its weight on the left."
    )
    return Section(
        "Rank of the held-out item", reading, [_lists(rankings.sampled), _catalogue(rankings.full)]
    )


@svg.styled()
def _lists(ranking: Ranking) -> Drawing:
    drawing, axes = svg.figure(760, 300)
    axes.bar(ranking.edges, 100 * ranking.shares, width=0.85, color=svg.SERIES[0], label="model")
    axes.plot(
        ranking.edges, 100 * ranking.chance, color=svg.SERIES[1], linestyle=svg.DASHES[1], label="chance"
    )
    last = int(ranking.edges[-1])
    axes.set(title=f"In candidate lists of {last}", ylabel="share of lists (%)", xlim=(0.4, last + 0.6))
    axes.set_xlabel("rank of the held-out item in its list")
    axes.set_xticks(sorted({1, last, *range(10, last - 4, 10)}) if last > 12 else list(range(1, last + 1)))
    axes.grid(visible=False, axis="x")
    svg.legend_above(axes)
    title = "Distribution of the held-out item's rank in its candidate list"
    return svg.framed(drawing, title, f"{len(ranking.rows):,} test lists.")


@svg.styled()
def _catalogue(ranking: Ranking) -> Drawing:
    drawing, axes = svg.figure(760, 300)
    shares, chance = 100 * ranking.shares, 100 * ranking.chance
    at = np.arange(len(shares))
    line: Any = {"linestyle": svg.DASHES[1], "marker": "s", "markersize": 4}
    axes.bar(at, shares, width=0.8, color=svg.SERIES[0], label="model")
    axes.plot(at, chance, color=svg.SERIES[1], label="chance", **line)
    axes.set_xticks(at, labels=_labels(ranking))
    axes.set(title="Among every item that the user has not used", ylabel="share of held-out items (%)")
    axes.set_xlabel("rank of the held-out item in the catalogue (bins widen; k: thousands)")
    axes.grid(visible=False, axis="x")
    svg.legend_above(axes)
    items = f"a median of {int(np.median(ranking.ranked)):,} items"
    title = "Distribution of the held-out item's rank in the catalogue"
    return svg.framed(drawing, title, f"{len(ranking.rows):,} test rows, each ranked among {items}.")


def _labels(ranking: Ranking) -> list[str]:
    """The ranks of each bin: 1, 2, 3–5, …; from a thousand on in thousands (k) and millions (M)."""
    firsts = [1, *(edge + 1 for edge in ranking.edges[:-1].tolist())]
    return [
        _short(last) if first == last else f"{_short(first)}\n–{_short(last)}"
        for first, last in zip(firsts, ranking.edges.tolist(), strict=True)
    ]


def _short(rank: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if rank >= size:
            return f"{rank / size:.2g}{letter}" if rank < 100 * size else f"{rank / size:.0f}{letter}"
    return str(rank)
