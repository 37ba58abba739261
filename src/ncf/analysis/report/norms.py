"""The length of user and item vectors, by how often each user or item occurs in training.

In: the tables of an artifact (mapped), including the history embedding of a history-aware model, and counts.
Out: medians and ranges by bins of the count. Bins double in width. A sample of a large table is read, chosen
by the seed, so cost and size do not grow with the table.

Legend: N rows of a table, D width, B bins.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ncf.analysis.report import svg
from ncf.analysis.report.inputs import Counts, ReportInputs
from ncf.analysis.report.page import Block, Drawing, Section
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
    """Euclidean norms [N] of some rows of a table that has `rows` rows, and how often each occurs in
    training.
    """

    counts: Counts
    norms: Floats
    rows: int

    def by_count(self) -> tuple[Floats, Floats]:
        """The middle of each bin of the count (0, 1, 2-3, 4-7, …) [B], and 10%, 50% and 90% quantiles of
        norms [3, B].
        """
        bins = np.ceil(np.log2(self.counts + 1.0)).astype(np.int64)
        filled = np.unique(bins)
        middles = [float(np.median(self.counts[bins == number])) for number in filled]
        quantiles = [np.quantile(self.norms[bins == number], [0.1, 0.5, 0.9]) for number in filled]
        return np.array(middles), np.array(quantiles).reshape(-1, 3).T


def norms(table_ND: npt.NDArray[np.float32], counts_N: Counts, seed: int) -> Norms:
    """The norms of all rows of `table_ND`, or of a sample of a large table; `counts_N` is how often each row
    occurs.
    """
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
        "The length of each vector against how often its user or item occurs in training. The line is the "
        "median, the band holds the middle 80%, and dots are a sample. Regularisation keeps rare vectors "
        "short, so the model's predictions for them stay close to the average. Vectors that never occur "
        "keep their initial values."
    )
    weights, seed = dict(inputs.artifact.weights), inputs.artifact.experiment.train.seed
    prefixes = [name.removesuffix("user_table") for name in weights if name.endswith("user_table")]
    look_up = inputs.artifact.history_embedding
    if look_up is not None:
        weights[f"{'gmf.' if 'gmf.' in prefixes else ''}history_table"] = look_up.table_ID
        reading += " A user's vector here is the sum of the user's own part and the history, as it is served."
    blocks: list[Block] = []
    counts = {
        "user_table": inputs.user_counts,
        "item_table": inputs.item_counts,
        "history_table": inputs.item_counts,
    }
    labels = {"user_table": "users", "item_table": "items", "history_table": "items of a history"}
    for prefix in prefixes:
        kind = inputs.artifact.experiment.model.kind.rpartition("-")[2].upper()
        tables = {
            labels[name]: norms(weights[f"{prefix}{name}"], counts[name], seed)
            for name in labels
            if f"{prefix}{name}" in weights
        }
        blocks.append(_drawn(tables, _KINDS.get(prefix.rstrip("."), kind), inputs.counted))
    return Section("Embedding norms", reading, blocks)


@svg.styled()
def _drawn(tables: dict[str, Norms], label: str, counted: str) -> Drawing:
    drawing, axes = svg.panels(len(tables), 760, 320)
    for number, (name, table) in enumerate(tables.items()):
        colour = svg.SERIES[number]
        every = max(1, len(table.norms) // _DOTS)
        dots: Any = {"markersize": 4, "color": colour, "alpha": 0.35, "markeredgewidth": 0}
        axes[number].plot(table.counts[::every], table.norms[::every], ".", **dots)
        middles, (low, middle, high) = table.by_count()
        axes[number].fill_between(middles, low, high, color=colour, alpha=0.25, linewidth=0)
        axes[number].plot(middles, middle, color=colour, marker=svg.MARKERS[number], markersize=4)
        axes[number].set(ylim=(0, None), title=f"{label}: {name}", ylabel="Euclidean norm")
        axes[number].set_xlabel(f"interactions of the {'user' if name == 'users' else 'item'}")
        _count_axis(axes[number], table.counts)
    title = f"Norms of the {label} vectors by number of interactions"
    return svg.framed(drawing, title, _caption(tables, counted))


def _caption(tables: dict[str, Norms], counted: str) -> str:
    parts = [
        f"{table.rows:,} {name}"
        + (f" (a sample of {len(table.norms):,})" if len(table.norms) < table.rows else "")
        for name, table in tables.items()
    ]
    return f"{parts[0]} by {counted}; {', '.join(parts[1:])} by training interactions."


def _count_axis(axes: "Axes", counts: Counts) -> None:
    """Make the axis logarithmic from 1 on, with 0 where it belongs and a handful of round numbers."""
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
