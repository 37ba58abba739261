"""Tables of evaluation results: one column per protocol, one row per group, one row per kind of cold user."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ncf.analysis import EvaluationResult, Group

_PREFERRED = 10


def print_columns(
    title: str, results: "Mapping[str, EvaluationResult]", published: Mapping[str, float] | None = None
) -> None:
    """Print one row per metric and one column, with 95% intervals, for each of the named `results`.

    `published` adds a column of published figures by metric.
    """
    from rich.table import Table

    from ncf.tracking.console import OUT

    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for name in results:
        table.add_column(name, justify="right")
    if published:
        table.add_column("published (sampled)", justify="right")
    figures = [{**result.means, **result.catalogue} for result in results.values()]
    for metric in dict.fromkeys(metric for column in figures for metric in column):
        if metric.startswith("recall") and all(_is_hit_ratio(metric, column) for column in figures):
            continue  # with one positive per user, recall is the hit ratio
        cells = [
            _cell(column.get(metric), result.intervals.get(metric))
            for column, result in zip(figures, results.values(), strict=True)
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


def cold_sentence(users: int, without: Mapping[str, float], protocol: str) -> str:
    """What to know of the `users` whom training does not have, and the means `without` them."""
    from ncf.tracking.console import headlines

    others = ", ".join(headlines(without)) or "nobody is left"
    return (
        f"{users:,} users are not in training; popularity answers them. Without them, {protocol}: {others}."
    )


def miss_sentence(cutoffs: Sequence[int], protocol: str, longest: int) -> str:
    """That no list can miss these `cutoffs`, so the hit ratio and recall there say nothing.

    `longest`: items in the longest list.
    """
    named = ", ".join(f"HR@{k}" for k in cutoffs)
    return f"{named} and recall there are 1 for any model: the {protocol} lists have {longest:,} items."


def print_groups(title: str, table: "Mapping[str, Sequence[Group]]") -> None:
    """Print one row per group of `table`, which has the groups by protocol: row count, HR and NDCG with
    intervals."""
    from rich.table import Table

    from ncf.tracking.console import OUT

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


def print_known(results: "Mapping[str, EvaluationResult]") -> None:
    """Print one row for each number of known items, with the `results` of those cold users."""
    from rich.table import Table

    from ncf.tracking.console import OUT

    metrics = [*_shown(next(iter(results.values())).means), "mrr"]
    table = Table("known items", title="cold users, sampled", title_justify="left")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for name, result in results.items():
        cells = (_cell(result.means[metric], result.intervals.get(metric)) for metric in metrics)
        table.add_row(name, *cells)
    OUT.print(table)


def _shown(metrics: Mapping[str, float]) -> list[str]:
    """HR and NDCG at 10, or else at the largest cutoff; recall where there is no HR."""
    cutoffs = [int(name.removeprefix("ndcg@")) for name in metrics if name.startswith("ndcg@")]
    k = _PREFERRED if _PREFERRED in cutoffs else max(cutoffs)
    return [f"hr@{k}" if f"hr@{k}" in metrics else f"recall@{k}", f"ndcg@{k}"]
