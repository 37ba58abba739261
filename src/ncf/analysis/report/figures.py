"""The headline figures: sampled and full ranking side by side, with their intervals.

In: `RankedUsers`, or what the artifact recorded where there are no data. Out: a section.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from ncf.analysis.report import svg
from ncf.analysis.report.page import Block, Drawing, Section, TableBlock, Text, interval, number
from ncf.analysis.report.ranked_users import K, RankedUsers
from ncf.config import Experiment

WARNING = (
    "Sampled metrics rank the held-out item among a few others. They can rank models differently from a "
    "ranking of the whole catalogue (Krichene & Rendle, KDD'20). Compare your own models by the full "
    "ranking, and use sampled figures only next to published ones that were measured in the same way."
)
_DRAWN = (f"hr@{K}", f"ndcg@{K}", "mrr")


def section(experiment: Experiment, rankings: RankedUsers) -> Section:
    """The drawing and the table of an evaluated model; `experiment` may have published figures to compare
    with.
    """
    sampled, full = rankings.sampled.to_json(), rankings.full.to_json()
    last = rankings.sampled.rows.candidates.shape[1]
    reading = (
        f"Each held-out item is ranked twice: in its candidate list of {last} items, and among every item "
        "that the user has not used. Bars are 95% intervals over the held-out rows. Another training seed "
        "may change a model by more."
    )
    blocks: list[Block] = [Text(WARNING, note=True), _drawn(sampled, full), _table(experiment, sampled, full)]
    if experiment.published:
        blocks.append(Text(f"Published: {experiment.published.source}."))
    return Section("Headline figures", reading, blocks + _catalogue(full) + _notes(rankings))


def recorded(metrics: dict[str, Any]) -> Section:
    """The figures that the training run recorded in `metrics`, for a model that cannot be evaluated."""
    test = metrics.get("test") or {"metrics": {}}
    if not test["metrics"]:
        return Section(
            "Headline figures", "", [Text("No test interactions were held out, so there are none.")]
        )
    rows = [
        (name.upper(), number(value), interval(test["intervals"].get(name)))
        for name, value in test["metrics"].items()
    ]
    rules = f"{test['protocol']} protocol, {test['ties']} ties, {test['rows']:,} test rows"
    whose = f"the judged twin {test['of']}" if "of" in test else "the training run"
    reading = f"As recorded by {whose}: {rules}."
    blocks: list[Block] = [Text(WARNING, note=True), TableBlock(["metric", "value", "95% interval"], rows)]
    return Section("Headline figures", reading, blocks)


def with_verdict(section: Section, verdict: dict[str, Any] | None) -> Section:
    """The `section` led by the `verdict`, as `Verdict.to_json` has it; unchanged without one."""
    if not verdict:
        return section
    warning = [Text(verdict["warning"], note=True)] if verdict["warning"] else []
    return replace(section, blocks=[Text(verdict["line"]), *warning, *section.blocks])


def _table(experiment: Experiment, sampled: dict[str, Any], full: dict[str, Any]) -> TableBlock:
    published = experiment.published.metrics if experiment.published else {}
    head = ["metric", "candidate lists", "95% interval", "full ranking", "95% interval"]
    rows = []
    for name, pair in sampled["intervals"].items():
        row = [name.upper(), number(sampled["metrics"][name]), interval(pair)]
        row += [number(full["metrics"][name]), interval(full["intervals"][name])]
        rows.append(row + ([number(published.get(name))] if published else []))
    drawn = [index for index, row in enumerate(rows) if row[0].lower() in _DRAWN]
    marked = drawn if len(rows) > len(_DRAWN) else []
    return TableBlock(head + (["published, lists"] if published else []), rows, marked=marked)


def _catalogue(full: dict[str, Any]) -> list[Block]:
    """A sentence on the recommended lists themselves."""
    figures = {name.partition("@")[0]: value for name, value in full["metrics"].items()}
    sentences = []
    if "coverage" in figures:
        sentences.append(f"{figures['coverage']:.1%} of all items are recommended to someone.")
    if "popularity_bias" in figures:
        sentences.append(
            f"Recommended items are {figures['popularity_bias']:.2f}x as popular as the items people "
            "actually used."
        )
    if "novelty" in figures:
        sentences.append(
            f"Their mean novelty is {figures['novelty']:.2f} bits (-log2 of an item's share of training "
            "interactions)."
        )
    return [Text(f"The first {K} items of the full ranking: {' '.join(sentences)}")] if sentences else []


def _notes(rankings: RankedUsers) -> list[Block]:
    notes: list[Block] = []
    for ranking, name in ((rankings.sampled, "candidate lists"), (rankings.full, "full ranking")):
        if len(ranking.rows) < rankings.total:
            sampled = f"{len(ranking.rows):,} of {rankings.total:,} test rows, chosen by the seed"
            notes.append(
                Text(f"In the {name}: a sample of {sampled}; 'ncf evaluate' evaluates all rows.", note=True)
            )
    if rankings.sampled.result.nonnumbers:
        notes.append(
            Text(f"{rankings.sampled.result.nonnumbers:,} lists have scores that are not numbers.", note=True)
        )
    return notes


@svg.styled()
def _drawn(sampled: dict[str, Any], full: dict[str, Any]) -> Drawing:
    drawing, axes = svg.panels(2, 760, 190)
    labels = [name.upper() for name in _DRAWN]
    for index, (figures, title) in enumerate(((sampled, "Candidate lists"), (full, "Full ranking"))):
        means = np.array([figures["metrics"][name] for name in _DRAWN])
        ends = np.array([figures["intervals"][name] for name in _DRAWN]).T
        right = min(1.0, 1.15 * float(ends.max()) + 0.01)
        errors = np.maximum(np.abs(ends - means), 0.0)
        form: Any = {"color": svg.SERIES[index], "elinewidth": 2}
        axes[index].errorbar(means, range(len(labels)), xerr=errors, fmt=svg.MARKERS[index], **form)
        axes[index].set_yticks(range(len(labels)), labels=labels if index == 0 else [""] * len(labels))
        axes[index].set(title=f"{title}, n = {figures['rows']:,}", xlabel="mean over held-out rows")
        axes[index].set(xlim=(-0.03 * right, right), ylim=(len(labels) - 0.5, -0.5))
        axes[index].grid(visible=False, axis="y")
    title = "HR@10, NDCG@10 and MRR with 95% intervals, in candidate lists and in the full ranking"
    return svg.framed(drawing, title)
