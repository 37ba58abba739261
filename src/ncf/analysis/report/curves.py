"""Learning curves: the loss and the validation figures of each epoch.

In: the histories of a run and of its halves. Out: a section with a drawing for each.
"""

import re
from typing import Any

from ncf.analysis.report import svg
from ncf.analysis.report.html import text
from ncf.analysis.report.page import Section

History = list[dict[str, Any]]
_LOSSES = {"bce": "binary cross-entropy", "bpr": "BPR", "softmax": "sampled softmax"}
_FIGURES = {"validation_hr@10": "HR@10", "validation_ndcg@10": "NDCG@10"}
_HALVES = {"gmf": "GMF, the first half", "mlp": "MLP, the second half"}
_MARKED = 40
"""Epochs up to which each has a mark."""


def section(histories: dict[str, History], loss: str, selected: str) -> Section:
    """All curves; `selected` says which weights were kept."""
    reading = (
        "The loss is the mean over all examples of an epoch, negatives included, while weights still move; it should "
        "fall. Validation figures are those after the epoch: where they fall and the loss still does, the model learns by "
        "heart. Axes do not begin at zero. The dotted line is the epoch that was kept."
    )
    several = len(histories) > 1
    parts = []
    for name, history in histories.items():
        own = name not in _HALVES or not several
        title = (
            f"{name}, fused and trained on"
            if several and own
            else _HALVES.get(name, name)
            if several
            else name
        )
        heading = f"<h3>{text(title)}</h3>" if several else ""
        kept = re.match(r"epoch (\d+)", selected) if own else None
        parts.append(heading + _curves(history, loss, title, int(kept[1]) if kept else None))
    return Section(
        "Learning curves", reading, "".join(parts) + f"<p>Kept are the weights of {text(selected)}.</p>"
    )


def _curves(history: History, loss: str, title: str, kept: int | None) -> str:
    if not history:
        return "<p class='note'>There are no curves: no epoch was trained, or none was recorded.</p>"
    judged = any(name in row for row in history for name in _FIGURES)
    note = "" if judged else (
        "<p class='note'>There is no validation curve: validation interactions were trained on, or none were held out.</p>"
    )  # fmt: skip
    seconds = sum(float(row.get("seconds", 0.0)) for row in history)
    epochs = f"{len(history)} epoch{'s' if len(history) != 1 else ''}"
    return (
        _drawn(history, loss, title, kept) + f"<p>{epochs} in {seconds:,.1f} seconds of training.</p>{note}"
    )


@svg.styled()
def _drawn(history: History, loss: str, title: str, kept: int | None) -> str:
    from matplotlib.ticker import MaxNLocator

    there = {name for row in history for name in row}
    figures = {name: label for name, label in _FIGURES.items() if name in there}
    curves = {"loss": "loss (nats per example)", **figures}
    drawing, axes = svg.panels(len(curves), 760, 290)
    for place, (name, label) in enumerate(curves.items()):
        points = [(row["epoch"], row[name]) for row in history if name in row]
        marker = svg.MARKERS[place] if len(points) <= _MARKED else ""
        axes[place].plot(*zip(*points, strict=True), color=svg.SERIES[place], marker=marker)
        heading = f"Training: {_LOSSES.get(loss, loss)}" if name == "loss" else f"Validation {label}"
        axes[place].set(title=heading, xlabel="epoch", ylabel=label if name == "loss" else f"mean {label}")
        axes[place].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if kept is not None:
            axes[place].axvline(kept, color=svg.INK, linestyle=svg.DASHES[2], linewidth=1.5)
        if len(history) == 1:
            axes[place].set_xlim(history[0]["epoch"] - 0.5, history[0]["epoch"] + 0.5)
    return svg.framed(drawing, f"Learning curves of {title}")
