"""Learning curves: the loss and the validation metrics of each epoch.

In: the histories of a run and of the two models that it was fused from. Out: a section with a drawing for
each.
"""

import re
from typing import Any

from ncf.analysis.report import svg
from ncf.analysis.report.page import Block, Drawing, Heading, Section, Text

History = list[dict[str, Any]]
_LOSSES = {"bce": "binary cross-entropy", "bpr": "BPR", "softmax": "sampled softmax"}
_FIGURES = {"validation_hr@10": "HR@10", "validation_ndcg@10": "NDCG@10"}
_HALVES = {"gmf": "GMF, the first half", "mlp": "MLP, the second half"}
_MARKED = 40
"""Up to this many epochs each one has a mark."""


def section(histories: dict[str, History], loss: str, selected: str) -> Section:
    """The learning curves.

    `histories` has a row an epoch, by model: the halves of a fused model first, then its own. `loss` is the
    name of the loss, and `selected` says which weights were kept.
    """
    reading = (
        "The loss is the mean over all examples of an epoch, negatives included, while the weights still "
        "change; it should fall. Validation metrics are measured after each epoch. Where they fall while "
        "the loss still falls, the model is overfitting. Axes do not start at zero. The dotted line marks "
        "the epoch whose weights were kept."
    )
    several = len(histories) > 1
    blocks: list[Block] = []
    for name, history in histories.items():
        own = name not in _HALVES or not several
        title = name
        if several:
            title = f"{name}, fused and trained on" if own else _HALVES[name]
            blocks.append(Heading(title))
        kept = re.match(r"epoch (\d+)", selected) if own else None
        blocks += _curves(history, loss, title, int(kept[1]) if kept else None)
    return Section("Learning curves", reading, [*blocks, Text(f"Weights kept: {selected}.")])


def _curves(history: History, loss: str, title: str, kept: int | None) -> list[Block]:
    if not history:
        return [Text("There are no curves: no epoch was trained, or none was recorded.", note=True)]
    seconds = sum(float(row.get("seconds", 0.0)) for row in history)
    epochs = f"{len(history)} epoch{'s' if len(history) != 1 else ''}"
    blocks: list[Block] = [
        _drawn(history, loss, title, kept),
        Text(f"{epochs} in {seconds:,.1f} seconds of training."),
    ]
    if not any(name in row for row in history for name in _FIGURES):
        why = "validation interactions were trained on, or none were held out"
        blocks.append(Text(f"There is no validation curve: {why}.", note=True))
    return blocks


@svg.styled()
def _drawn(history: History, loss: str, title: str, kept: int | None) -> Drawing:
    from matplotlib.ticker import MaxNLocator

    recorded = {name for row in history for name in row}
    figures = {name: label for name, label in _FIGURES.items() if name in recorded}
    curves = {"loss": "loss (nats per example)", **figures}
    drawing, axes = svg.panels(len(curves), 760, 290)
    for index, (name, label) in enumerate(curves.items()):
        points = [(row["epoch"], row[name]) for row in history if name in row]
        marker = svg.MARKERS[index] if len(points) <= _MARKED else ""
        axes[index].plot(*zip(*points, strict=True), color=svg.SERIES[index], marker=marker)
        heading = f"Training: {_LOSSES.get(loss, loss)}" if name == "loss" else f"Validation {label}"
        axes[index].set(title=heading, xlabel="epoch", ylabel=label if name == "loss" else f"mean {label}")
        axes[index].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if kept is not None:
            axes[index].axvline(kept, color=svg.SOFT, linestyle=svg.DASHES[2], linewidth=1.5)
        if len(history) == 1:
            axes[index].set_xlim(history[0]["epoch"] - 0.5, history[0]["epoch"] + 0.5)
    return svg.framed(drawing, f"Learning curves of {title}")
