"""How long the vectors of users and items are, by how often each occurs in training.

In: the tables of an artifact (mapped), a history-aware model's look-up among them, and counts. Out: medians and ranges by bins of the count. Bins double in width, and of
a large table a sample is read, chosen by the seed, so that cost and size do not grow with the table.

Legend: N rows of a table, D width, B bins.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ncf.analysis.report import svg
from ncf.analysis.report.html import text
from ncf.analysis.report.inputs import Counts, ReportInputs
from ncf.analysis.report.page import Section
from ncf.runtime import seed_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_VECTORS = 200_000
_DOTS = 400
_TICKS = 8
_KINDS = {"gmf": "GMF", "mlp": "MLP"}
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Norms:
    """Euclidean norms [N] of some rows of a table, and how often each occurs in training."""

    counts: Counts
    norms: Floats
    rows: int
    """Of the whole table."""

    def by_count(self) -> tuple[Floats, Floats]:
        """Middle of each bin of the count [B] (0, 1, 2-3, 4-7, …), and 10%, 50% and 90% quantiles of its norms [3, B]."""
        bins = np.ceil(np.log2(self.counts + 1.0)).astype(np.int64)
        there = np.unique(bins)
        middles = [float(np.median(self.counts[bins == one])) for one in there]
        quantiles = [np.quantile(self.norms[bins == one], [0.1, 0.5, 0.9]) for one in there]
        return np.array(middles), np.array(quantiles).reshape(-1, 3).T


def norms(table_ND: npt.NDArray[np.float32], counts_N: Counts, seed: int) -> Norms:
    """Of all rows, or of a sample of a large table."""
    rows = len(table_ND)
    chosen = np.arange(rows)
    if rows > MOST_VECTORS:
        random = np.random.default_rng(seed_of(seed, "report-norms"))
        chosen = np.sort(random.choice(rows, MOST_VECTORS, replace=False))
    lengths = np.linalg.norm(table_ND[chosen], axis=1).astype(np.float64)
    return Norms(counts_N[chosen], lengths, rows)


def section(inputs: ReportInputs) -> Section:
    """A drawing for each pair of tables that the model has."""
    reading = (
        "The length of each vector against how often its user or item occurs in training; the line is the median, the band "
        "holds the middle 80%, dots are a sample. Regularisation keeps the vectors of those who occur seldom short, so that the "
        "model says of them what it says of everybody. Those that never occur keep their first values."
    )
    weights, seed = dict(inputs.artifact.weights), inputs.artifact.experiment.train.seed
    prefixes = [name.removesuffix("user_table") for name in weights if name.endswith("user_table")]
    look_up = inputs.artifact.look_up
    if look_up is not None:
        weights[f"{'gmf.' if 'gmf.' in prefixes else ''}history_table"] = look_up.table_ID
        reading += " A user's vector here is the own part and the history together, as it is served."
    parts = []
    for prefix in prefixes:
        label = _KINDS.get(
            prefix.rstrip("."), inputs.artifact.experiment.model.kind.rpartition("-")[2].upper()
        )
        tables = {
            what: norms(weights[f"{prefix}{name}"], counts, seed)
            for what, name, counts in (
                ("users", "user_table", inputs.user_counts),
                ("items", "item_table", inputs.item_counts),
                ("items of a history", "history_table", inputs.item_counts),
            )
            if f"{prefix}{name}" in weights
        }
        parts.append(_drawn(tables, label, inputs.counted))
    return Section("Embedding norms", reading, "".join(parts))


@svg.styled()
def _drawn(tables: dict[str, Norms], label: str, counted: str) -> str:
    drawing, axes = svg.panels(len(tables), 760, 320)
    for number, (what, one) in enumerate(tables.items()):
        colour = svg.SERIES[number]
        every = max(1, len(one.norms) // _DOTS)
        axes[number].plot(
            one.counts[::every], one.norms[::every], ".", markersize=4, color=colour, alpha=0.35, markeredgewidth=0
        )  # fmt: skip
        middles, (low, middle, high) = one.by_count()
        axes[number].fill_between(middles, low, high, color=colour, alpha=0.25, linewidth=0)
        axes[number].plot(middles, middle, color=colour, marker=svg.MARKERS[number], markersize=4)
        axes[number].set(
            ylim=(0, None), title=f"{label}: {what}", ylabel="Euclidean norm",
            xlabel=f"interactions of the {'user' if what == 'users' else 'item'}",
        )  # fmt: skip
        _count_axis(axes[number], one.counts)
    return svg.framed(
        drawing, f"Norms of the {label} vectors by number of interactions", text(_caption(tables, counted))
    )


def _caption(tables: dict[str, Norms], counted: str) -> str:
    parts = [
        f"{one.rows:,} {what}" + (f" (a sample of {len(one.norms):,})" if len(one.norms) < one.rows else "")
        for what, one in tables.items()
    ]
    return f"{parts[0]} by {counted}; {', '.join(parts[1:])} by training interactions."


def _count_axis(axes: "Axes", counts: Counts) -> None:
    """Logarithmic from 1 on, with 0 in its place and a handful of round numbers."""
    first, last = int(counts.min()), max(1, int(counts.max()))
    axes.set_xscale("symlog", linthresh=1)
    rounds = [digit * 10**power for power in range(len(str(last))) for digit in (1, 2, 5)]
    ticks = [tick for tick in [0, *rounds] if first <= tick <= last]
    if len(ticks) > _TICKS:
        ticks = [tick for tick in ticks if str(tick).strip("0") in ("", "1")]
    ticks = ticks if len(ticks) > 1 else sorted({first, last})
    axes.set_xticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(first * 0.8 if first else -0.2, last * 1.25)
