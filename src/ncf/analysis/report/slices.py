"""Which users the model serves well: hit ratio by the user's activity and by the popularity of the held-out
item.

In: `RankedUsers` and the counts of training. Out: the groups of `ncf.evaluation.slices`, drawn.

Legend: T held-out rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ncf.analysis.report import svg
from ncf.analysis.report.inputs import ReportInputs
from ncf.analysis.report.page import Block, Drawing, Section, TableBlock, Text, interval, number
from ncf.analysis.report.ranked_users import K, RankedUsers, Ranking
from ncf.evaluation.slices import Group, by_activity, by_item_count

Groups = dict[str, list[Group]]
"""Groups by protocol."""
_PROTOCOLS = ("sampled", "full")
_METRICS = (f"hr@{K}", f"ndcg@{K}")
_APART = 0.09
_NAMES = {"sampled": "candidate lists", "full": "full ranking"}


def activity(inputs: ReportInputs, rankings: RankedUsers) -> Groups:
    """Groups of rows by the number of training interactions of the user, for both protocols."""
    counts = inputs.user_counts
    return _grouped(rankings, by_activity, lambda ranking: counts[ranking.rows.user_rows])


def popularity(inputs: ReportInputs, rankings: RankedUsers) -> Groups:
    """Groups of rows by the number of training interactions of the held-out item, for both protocols."""
    counts = inputs.item_counts
    return _grouped(rankings, by_item_count, lambda ranking: counts[ranking.rows.positives])


def _grouped(
    rankings: RankedUsers, by: Callable[..., list[Group]], counts_of: Callable[[Ranking], Any]
) -> Groups:
    groups = {}
    for protocol, ranking in zip(_PROTOCOLS, (rankings.sampled, rankings.full), strict=True):
        values = {name: ranking.result.values[name] for name in _METRICS}
        groups[protocol] = by(counts_of(ranking), values, users_T=ranking.result.user_rows)
    return groups


def section(by_user: Groups, by_item: Groups) -> Section:
    """The drawings and the tables of both kinds of groups."""
    reading = (
        f"The hit ratio HR@{K} by the number of training interactions of the user, and of the held-out item. "
        "Bars are 95% intervals; a wide one means few rows, and a group whose rows are all alike has none. "
        "A model that does well only on the right recommends what everybody uses."
    )
    blocks = _part(by_user, "training interactions of the user", "user activity")
    blocks += _part(by_item, "training interactions of the held-out item", "item popularity")
    return Section("Hit ratio by user activity and item popularity", reading, blocks)


def _part(groups: Groups, axis: str, grouped_by: str) -> list[Block]:
    head = [axis, "rows", f"HR@{K}, lists", "95% interval", f"HR@{K}, full", "95% interval"]
    head += [f"NDCG@{K}, lists", f"NDCG@{K}, full"]
    full = {group.label: group for group in groups["full"]}
    rows = [_row(group, full.get(group.label)) for group in groups["sampled"]]
    lists, catalogue = (sum(group.rows for group in groups[protocol]) for protocol in _PROTOCOLS)
    blocks: list[Block] = [_drawn(groups, axis, grouped_by), TableBlock(head, rows)]
    if catalogue < lists:
        blocks.append(
            Text(f"The full ranking covers a sample of {catalogue:,} of these {lists:,} rows.", note=True)
        )
    return blocks


def _row(lists: Group, full: Group | None) -> list[object]:
    """One row of the table; a group may be missing from the sample of the full ranking."""
    row: list[object] = [lists.label, f"{lists.rows:,}"]
    means = [group.means if group else {} for group in (lists, full)]
    for group, mean in zip((lists, full), means, strict=True):
        row += [number(mean.get(_METRICS[0])), interval(group.intervals.get(_METRICS[0]) if group else None)]
    return row + [number(mean.get(_METRICS[1])) for mean in means]


@svg.styled()
def _drawn(groups: Groups, axis: str, grouped_by: str) -> Drawing:
    drawing, axes = svg.figure(760, 320)
    labels = [group.label for group in groups["sampled"]]
    for index, protocol in enumerate(_PROTOCOLS):
        at = np.array([labels.index(group.label) for group in groups[protocol]]) + _APART * (2 * index - 1)
        means = np.array([group.means[_METRICS[0]] for group in groups[protocol]])
        ends = np.array([group.intervals[_METRICS[0]] for group in groups[protocol]]).T
        form: Any = {"color": svg.SERIES[index], "fmt": svg.MARKERS[index], "elinewidth": 1.5}
        axes.errorbar(at, means, np.maximum(np.abs(ends - means), 0.0), label=_NAMES[protocol], **form)
    axes.set_xticks(
        range(len(labels)), labels=[f"{group.label}\nn = {group.rows:,}" for group in groups["sampled"]]
    )
    axes.set(title=f"By {grouped_by}", xlabel=f"{axis} (n: held-out rows)", ylabel=f"HR@{K} (share of rows)")
    axes.set(xlim=(-0.6, len(labels) - 0.4), ylim=(-0.04 * axes.get_ylim()[1], None))
    axes.grid(visible=False, axis="x")
    svg.legend_above(axes)
    return svg.framed(drawing, f"Hit ratio at {K} by {grouped_by}")
