"""The rank of the held-out item: its distribution in the candidate lists, and among the whole catalogue.

In: `RankedUsers`. Out: a section. A model that guesses is drawn next to the model.
"""

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
    lists, full = rankings.sampled, rankings.full
    last = int(lists.edges[-1])
    shown = {1, last, *range(10, last - 4, 10)} if last > 12 else set(range(1, last + 1))
    labels = [str(rank) if rank in shown else "" for rank in lists.edges.tolist()]
    drawn = _drawn(
        lists, labels, f"In candidate lists of {last}", "in its list", f"{len(lists.rows):,} test lists."
    )
    median = f"a median of {int(np.median(full.ranked)):,} items"
    caption = f"{len(full.rows):,} test rows, each ranked among {median}."
    where = "in the catalogue (bins widen; k: thousands)"
    in_catalogue = _drawn(full, _labels(full), "Among every item that the user has not used", where, caption)
    return Section("Rank of the held-out item", reading, [drawn, in_catalogue])


@svg.styled()
def _drawn(ranking: Ranking, labels: list[str], title: str, where: str, caption: str) -> Drawing:
    drawing, axes = svg.figure(760, 300)
    at = np.arange(len(ranking.edges))
    axes.bar(at, 100 * ranking.shares, width=0.85, color=svg.SERIES[0], label="model")
    axes.plot(at, 100 * ranking.chance, color=svg.SERIES[1], linestyle=svg.DASHES[1], label="chance")
    ticks = [(index, label) for index, label in enumerate(labels) if label]
    axes.set_xticks([index for index, _ in ticks], labels=[label for _, label in ticks])
    axes.set(title=title, xlabel=f"rank of the held-out item {where}", ylabel="share of held-out items (%)")
    axes.set_xlim(-0.6, len(at) - 0.4)
    axes.grid(visible=False, axis="x")
    svg.legend_above(axes)
    place = where.partition(" (")[0]
    return svg.framed(drawing, f"Distribution of the held-out item's rank {place}", caption)


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
