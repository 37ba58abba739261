"""The headline figures: sampled and full ranking side by side, with their intervals.

In: `Measured`, or what the artifact recorded where there are no data. Out: a section.
"""

from typing import Any

import numpy as np

from ncf.analysis.report import svg
from ncf.analysis.report.html import interval, number, table, text
from ncf.analysis.report.page import Section
from ncf.analysis.report.ranked_users import K, Measured
from ncf.config import Experiment

WARNING = (
    "Sampled metrics rank the held-out item among few others and can put models in another order than a ranking of the whole "
    "catalogue does (Krichene & Rendle, KDD'20): compare models by the full ranking, and use sampled figures only beside "
    "published ones that were made in the same way."
)
_DRAWN = (f"hr@{K}", f"ndcg@{K}", "mrr")


def section(experiment: Experiment, measured: Measured) -> Section:
    """Table and drawing of a judged model."""
    sampled, full = measured.sampled.to_json(), measured.full.to_json()
    last = measured.sampled.rows.candidates.shape[1]
    reading = (
        f"Each held-out item is ranked twice: in its candidate list of {last} items, and among every item that the user has not used. "
        "Bars are 95% intervals over the held-out rows; another training seed may move a model by more than they say."
    )
    body = f"<p class='note'>{text(WARNING)}</p>{_drawn(sampled, full)}{_table(experiment, sampled, full)}"
    return Section("Headline figures", reading, body + _catalogue(full) + "".join(_notes(measured)))


def recorded(metrics: dict[str, Any]) -> Section:
    """What the training run recorded, where nothing can be judged."""
    test = metrics.get("test") or {"metrics": {}}
    if not test["metrics"]:
        return Section(
            "Headline figures", "", "<p>No test interactions were held out, so there are none.</p>"
        )
    rows = [
        (name.upper(), number(value), interval(test["intervals"].get(name)))
        for name, value in test["metrics"].items()
    ]
    reading = f"As the training run recorded them: {test['protocol']} protocol, {test['ties']} ties, {test['rows']:,} test rows."
    body = f"<p class='note'>{text(WARNING)}</p>" + table(["metric", "value", "95% interval"], rows)
    return Section("Headline figures", reading, body)


def _table(experiment: Experiment, sampled: dict[str, Any], full: dict[str, Any]) -> str:
    published = experiment.published.metrics if experiment.published else {}
    head = [
        "metric",
        "candidate lists",
        "95% interval",
        "full ranking",
        "95% interval",
        *(["published, lists"] if published else []),
    ]
    rows = []
    for name, pair in sampled["intervals"].items():
        row = [name.upper(), number(sampled["metrics"][name]), interval(pair)]
        row += [number(full["metrics"][name]), interval(full["intervals"][name])]
        rows.append(row + ([number(published.get(name))] if published else []))
    marked = (
        [place for place, row in enumerate(rows) if row[0].lower() in _DRAWN]
        if len(rows) > len(_DRAWN)
        else []
    )
    source = f"<p>Published: {text(experiment.published.source)}.</p>" if experiment.published else ""
    return table(head, rows, marked=marked) + source


def _catalogue(full: dict[str, Any]) -> str:
    """Figures of the recommended lists themselves."""
    found = {name.partition("@")[0]: value for name, value in full["metrics"].items()}
    said = []
    if "coverage" in found:
        said.append(f"{found['coverage']:.1%} of all items are shown to somebody")
    if "popularity_bias" in found:
        said.append(
            f"a shown item is {found['popularity_bias']:.2f} times as popular as a used one (1: alike)"
        )
    if "novelty" in found:
        said.append(
            f"its novelty is {found['novelty']:.2f} bits (-log2 of its share of training interactions)"
        )
    return f"<p>In the first {K} items of the full ranking {'; '.join(said)}.</p>" if said else ""


def _notes(measured: Measured) -> list[str]:
    notes = []
    for ranking, name in ((measured.sampled, "candidate lists"), (measured.full, "full ranking")):
        if len(ranking.rows) < measured.total:
            notes.append(
                f"Of the {name}, a sample of {len(ranking.rows):,} of {measured.total:,} test rows was judged, chosen by the seed: "
                "'ncf evaluate' judges all."
            )
    if measured.sampled.judgement.nonnumbers:
        notes.append(f"{measured.sampled.judgement.nonnumbers:,} lists have scores that are not numbers.")
    return [f"<p class='note'>{text(note)}</p>" for note in notes]


@svg.styled()
def _drawn(sampled: dict[str, Any], full: dict[str, Any]) -> str:
    drawing, axes = svg.panels(2, 760, 190)
    labels = [name.upper() for name in _DRAWN]
    for place, (figures, title) in enumerate(((sampled, "Candidate lists"), (full, "Full ranking"))):
        means = np.array([figures["metrics"][name] for name in _DRAWN])
        ends = np.array([figures["intervals"][name] for name in _DRAWN]).T
        right = min(1.0, 1.15 * float(ends.max()) + 0.01)
        axes[place].errorbar(
            means, range(len(labels)), xerr=np.maximum(np.abs(ends - means), 0.0), color=svg.SERIES[place], fmt=svg.MARKERS[place],
            elinewidth=2,
        )  # fmt: skip
        axes[place].set_yticks(range(len(labels)), labels=labels if place == 0 else [""] * len(labels))
        axes[place].set(
            title=f"{title}, n = {figures['rows']:,}", xlabel="mean over held-out rows", xlim=(-0.03 * right, right),
            ylim=(len(labels) - 0.5, -0.5),
        )  # fmt: skip
        axes[place].grid(visible=False, axis="y")
    return svg.framed(
        drawing, "HR@10, NDCG@10 and MRR with 95% intervals, in candidate lists and in the full ranking"
    )
