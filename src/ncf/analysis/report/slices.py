"""Whom the model serves well: hit ratio by the user's activity and by the popularity of the held-out item.

In: `Measured` and the counts of training. Out: the groups of `ncf.evaluation.slices`, drawn.

Legend: T held-out rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ncf.analysis.report import svg
from ncf.analysis.report.html import interval, number, table
from ncf.analysis.report.inputs import ReportInputs
from ncf.analysis.report.page import Section
from ncf.analysis.report.ranked_users import K, Measured, Ranking
from ncf.evaluation.slices import Group, by_activity, by_item_count

Groups = dict[str, list[Group]]
_PROTOCOLS = ("sampled", "full")
_METRICS = (f"hr@{K}", f"ndcg@{K}")
_APART = 0.09
_NAMES = {"sampled": "candidate lists", "full": "full ranking"}


def activity(inputs: ReportInputs, measured: Measured) -> Groups:
    """By the number of training interactions of each row's user, for both protocols."""
    counts = inputs.user_counts
    return _grouped(measured, by_activity, lambda ranking: counts[ranking.rows.user_rows])


def popularity(inputs: ReportInputs, measured: Measured) -> Groups:
    """By the number of training interactions of each row's held-out item, for both protocols."""
    counts = inputs.item_counts
    return _grouped(measured, by_item_count, lambda ranking: counts[ranking.rows.positives])


def _grouped(
    measured: Measured, by: Callable[..., list[Group]], counts_of: Callable[[Ranking], Any]
) -> Groups:
    rankings = (measured.sampled, measured.full)
    return {
        protocol: by(
            counts_of(ranking),
            {name: ranking.judgement.values[name] for name in _METRICS},
            users_T=ranking.judgement.user_rows,
        )
        for protocol, ranking in zip(_PROTOCOLS, rankings, strict=True)
    }


def section(by_user: Groups, by_item: Groups) -> Section:
    """Both drawings and their tables."""
    reading = (
        f"The hit ratio HR@{K} of users with so many training interactions, and of held-out items with so many; bars are 95% "
        "intervals, and wide ones mean few rows; where all rows are alike there is none. A model that does well only at the right repeats what everybody uses."
    )
    body = _part(by_user, "training interactions of the user", "user activity")
    body += _part(by_item, "training interactions of the held-out item", "item popularity")
    return Section("Hit ratio by user activity and item popularity", reading, body)


def _part(groups: Groups, axis: str, what: str) -> str:
    head = [
        axis,
        "rows",
        f"HR@{K}, lists",
        "95% interval",
        f"HR@{K}, full",
        "95% interval",
        f"NDCG@{K}, lists",
        f"NDCG@{K}, full",
    ]
    full = {group.label: group for group in groups["full"]}
    rows = [_row(group, full.get(group.label)) for group in groups["sampled"]]
    lists, catalogue = (sum(group.rows for group in groups[protocol]) for protocol in _PROTOCOLS)
    fewer = f"<p class='note'>The full ranking is of a sample of {catalogue:,} of these {lists:,} rows.</p>"
    return _drawn(groups, axis, what) + table(head, rows) + (fewer if catalogue < lists else "")


def _row(lists: Group, full: Group | None) -> list[object]:
    hit, gain = _METRICS
    return [
        lists.label, f"{lists.rows:,}", number(lists.means[hit]), interval(lists.intervals.get(hit)),
        number(full.means[hit] if full else None), interval(full.intervals.get(hit) if full else None),
        number(lists.means[gain]), number(full.means[gain] if full else None),
    ]  # fmt: skip


@svg.styled()
def _drawn(groups: Groups, axis: str, what: str) -> str:
    drawing, axes = svg.figure(760, 320)
    labels = [group.label for group in groups["sampled"]]
    for place, protocol in enumerate(_PROTOCOLS):
        at = np.array([labels.index(group.label) for group in groups[protocol]]) + _APART * (2 * place - 1)
        means = np.array([group.means[_METRICS[0]] for group in groups[protocol]])
        ends = np.array([group.intervals[_METRICS[0]] for group in groups[protocol]]).T
        axes.errorbar(
            at, means, yerr=np.maximum(np.abs(ends - means), 0.0), color=svg.SERIES[place], fmt=svg.MARKERS[place],
            elinewidth=1.5, label=_NAMES[protocol],
        )  # fmt: skip
    axes.set_xticks(
        range(len(labels)), labels=[f"{group.label}\nn = {group.rows:,}" for group in groups["sampled"]]
    )
    axes.set(
        xlabel=f"{axis} (n: held-out rows)",
        ylabel=f"HR@{K} (share of rows)",
        xlim=(-0.6, len(labels) - 0.4),
    )
    axes.set_title(f"By {what}")
    axes.set_ylim(-0.04 * axes.get_ylim()[1], None)
    axes.grid(visible=False, axis="x")
    svg.legend_above(axes)
    return svg.framed(drawing, f"Hit ratio at {K} by {what}")
