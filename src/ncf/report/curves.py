"""Learning curves: the loss and the validation figures of each epoch.

In: the histories of a run and of its halves. Out: a section with a drawing for each.
"""

from typing import Any

from ncf.report import svg
from ncf.report.html import text
from ncf.report.page import Section

History = list[dict[str, Any]]
_LOSSES = {"bce": "binary cross-entropy", "bpr": "BPR", "softmax": "sampled softmax"}
_FIGURES = {"validation_hr@10": "HR@10", "validation_ndcg@10": "NDCG@10"}
_HALVES = {"gmf": "GMF, the first half", "mlp": "MLP, the second half"}


def section(histories: dict[str, History], loss: str, selected: str) -> Section:
    """All curves; `selected` says which weights were kept."""
    reading = (
        "The loss is the mean over all examples of an epoch, negatives included, while weights still move; it should "
        "fall. Validation figures are those after the epoch: where they fall and the loss still does, the model learns by heart."
    )
    parts = []
    several = len(histories) > 1
    for name, history in histories.items():
        title = _HALVES.get(name, f"{name}, fused and trained on") if several else name
        heading = f"<h3>{text(title)}</h3>" if several else ""
        parts.append(
            heading + (_curves(history, loss, title) if history else "<p>It was not trained: no epoch.</p>")
        )
    kept = f"<p>Kept are the weights of {text(selected)}.</p>"
    return Section("Learning curves", reading, "".join(parts) + kept)


def _curves(history: History, loss: str, title: str) -> str:
    judged = [row for row in history if any(name in row for name in _FIGURES)]
    note = "" if judged else (
        "<p class='note'>There is no validation curve: validation interactions were trained on, or none were held out.</p>"
    )  # fmt: skip
    seconds = sum(float(row.get("seconds", 0.0)) for row in history)
    epochs = f"{len(history)} epoch{'s' if len(history) != 1 else ''}"
    return (
        _drawn(history, judged, loss, title) + f"<p>{epochs} in {seconds:,.1f} seconds of training.</p>{note}"
    )


@svg.styled()
def _drawn(history: History, judged: History, loss: str, title: str) -> str:
    from matplotlib.ticker import MaxNLocator

    drawing, axes = svg.panels(2 if judged else 1, 760, 300)
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) <= 40 else ""
    axes[0].plot(epochs, [row["loss"] for row in history], color=svg.SERIES[0], marker=marker)
    axes[0].set(title="Training loss", ylabel=f"{_LOSSES.get(loss, loss)} (nats per example)")
    for number, (name, label) in enumerate(_FIGURES.items() if judged else ()):
        points = [(row["epoch"], row[name]) for row in judged if name in row]
        axes[1].plot(
            *zip(*points, strict=True), color=svg.SERIES[number], label=label, linestyle=svg.DASHES[number],
            marker=svg.MARKERS[number] if marker else "",
        )  # fmt: skip
    if judged:
        axes[1].set(title="Validation", ylabel="mean over held-out rows", ylim=(0, None))
        axes[1].legend(loc="lower right")
    for one in axes:
        one.set_xlabel("epoch")
        one.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(epochs) == 1:
            one.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
    return svg.framed(drawing, f"Learning curves of {title}")
