"""Tables of judgements: metrics by column, groups by row, and what is known of cold users."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ncf.analysis import EvaluationResult, Group

_PREFERRED = 10


def print_columns(
    title: str, judged: "Mapping[str, EvaluationResult]", published: Mapping[str, float] | None = None
) -> None:
    """One row a metric, and a column with its interval for each judgement."""
    from rich.table import Table

    from ncf.cli.console import OUT

    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for name in judged:
        table.add_column(name, justify="right")
    if published:
        table.add_column("published (sampled)", justify="right")
    figures = [{**one.means, **one.catalogue} for one in judged.values()]
    for metric in dict.fromkeys(metric for column in figures for metric in column):
        if metric.startswith("recall") and all(_is_hit_ratio(metric, column) for column in figures):
            continue  # one positive a user: recall is the hit ratio
        cells = [
            _cell(column.get(metric), one.intervals.get(metric))
            for column, one in zip(figures, judged.values(), strict=True)
        ]
        if published:
            cells.append(f"{published[metric]:.3f}" if metric in published else "")
        table.add_row(metric, *cells)
    OUT.print(table)


def _is_hit_ratio(metric: str, figures: Mapping[str, float]) -> bool:
    return figures.get(metric) == figures.get(metric.replace("recall", "hr"))


def _cell(value: float | None, interval: Sequence[float] | None) -> str:
    """A figure with its 95% interval."""
    if value is None:
        return ""
    return f"{value:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")


def print_groups(title: str, table: "Mapping[str, Sequence[Group]]") -> None:
    """One row a group: its rows, and HR and NDCG with intervals under each protocol."""
    from rich.table import Table

    from ncf.cli.console import OUT

    first = next(iter(table.values()))
    metrics = _shown(first[0].means) if first else []
    shown = Table(title=f"by {title}", title_justify="left")
    shown.add_column("group")
    shown.add_column("rows", justify="right")
    for protocol in table:
        for metric in metrics:
            shown.add_column(f"{protocol} {metric}", justify="right")
    for groups in zip(*table.values(), strict=True):
        cells = [_cell(group.means[m], group.intervals.get(m)) for group in groups for m in metrics]
        shown.add_row(groups[0].label, f"{groups[0].rows:,}", *cells)
    OUT.print(shown)


def print_known(judgements: "Mapping[str, EvaluationResult]") -> None:
    """One row for what is known of the users."""
    from rich.table import Table

    from ncf.cli.console import OUT

    metrics = [*_shown(next(iter(judgements.values())).means), "mrr"]
    table = Table("known of each user", title="cold users, sampled", title_justify="left")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for name, one in judgements.items():
        table.add_row(name, *(_cell(one.means[metric], one.intervals.get(metric)) for metric in metrics))
    OUT.print(table)


def _shown(metrics: Mapping[str, float]) -> list[str]:
    """HR and NDCG at 10, or at the largest cutoff that there is."""
    cutoffs = [int(name.removeprefix("hr@")) for name in metrics if name.startswith("hr@")]
    k = _PREFERRED if _PREFERRED in cutoffs else max(cutoffs)
    return [f"hr@{k}", f"ndcg@{k}"]
