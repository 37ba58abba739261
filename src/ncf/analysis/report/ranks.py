"""Where the held-out item stands: how often at each place of its candidate list, and among the whole catalogue.

In: `Measured`. Out: a section. A model that guesses is drawn beside the model.
"""

import numpy as np

from ncf.analysis.report import svg
from ncf.analysis.report.page import Section
from ncf.analysis.report.ranked_users import Measured, Ranking


def section(measured: Measured) -> Section:
    """Both distributions."""
    reading = (
        "How many held-out items stand at each place, the first being the best; the dashed line is a model that guesses. "
        "A good model has its weight at the left."
    )
    return Section("Rank of the held-out item", reading, _lists(measured.sampled) + _catalogue(measured.full))


@svg.styled()
def _lists(ranking: Ranking) -> str:
    drawing, axes = svg.figure(760, 300)
    shares, chance = 100 * ranking.shares, 100 * ranking.chance
    axes.bar(ranking.edges, shares, width=0.85, color=svg.SERIES[0], label="model")
    axes.plot(ranking.edges, chance, color=svg.INK, linestyle=svg.DASHES[1], label="chance")
    last = int(ranking.edges[-1])
    axes.set(
        title=f"In candidate lists of {last}", xlabel="place of the held-out item in its list", ylabel="share of lists (%)",
        xlim=(0.4, last + 0.6),
    )  # fmt: skip
    axes.set_xticks(sorted({1, last, *range(10, last - 4, 10)}) if last > 12 else list(range(1, last + 1)))
    axes.grid(visible=False, axis="x")
    svg.legend_above(axes)
    return svg.framed(
        drawing,
        "Distribution of the held-out item's place in its candidate list",
        f"{len(ranking.rows):,} test lists.",
    )


@svg.styled()
def _catalogue(ranking: Ranking) -> str:
    drawing, axes = svg.figure(760, 300)
    shares, chance = 100 * ranking.shares, 100 * ranking.chance
    at = np.arange(len(shares))
    axes.bar(at, shares, width=0.8, color=svg.SERIES[0], label="model")
    axes.plot(at, chance, color=svg.INK, linestyle=svg.DASHES[1], marker="s", markersize=4, label="chance")
    axes.set_xticks(at, labels=_labels(ranking))
    axes.set(
        title="Among every item that the user has not used", ylabel="share of held-out items (%)",
        xlabel="place of the held-out item in the catalogue (bins grow with it; k: thousands)",
    )  # fmt: skip
    axes.grid(visible=False, axis="x")
    svg.legend_above(axes)
    few = f"{len(ranking.rows):,} test rows, ranked among {int(np.median(ranking.ranked)):,} items each in the median."
    return svg.framed(drawing, "Distribution of the held-out item's place in the catalogue", few)


def _labels(ranking: Ranking) -> list[str]:
    """The places of each bin: 1, 2, 3–5, …; from a thousand on in thousands (k) and millions (M)."""
    firsts = [1, *(edge + 1 for edge in ranking.edges[:-1].tolist())]
    return [
        _short(last) if first == last else f"{_short(first)}\n–{_short(last)}"
        for first, last in zip(firsts, ranking.edges.tolist(), strict=True)
    ]


def _short(place: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if place >= size:
            return f"{place / size:.2g}{letter}" if place < 100 * size else f"{place / size:.0f}{letter}"
    return str(place)
