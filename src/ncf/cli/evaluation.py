"""`ncf evaluate`, `ncf compare`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.cli.evaluation_tables import print_columns, print_groups, print_known
from ncf.cli.options import Data, Json, RunPath, print_json
from ncf.errors import ConfigError

if TYPE_CHECKING:
    from ncf.analysis import EvaluatedRun, EvaluationResult


def evaluate(
    run: RunPath,
    data: Data = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="sampled, full or both; by default both where that takes seconds (with --json: sampled).",
            show_default=False,
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Short for --protocol full.")] = False,
    split: Annotated[
        str, typer.Option(help="test, validation, or time: the recipe trained on the past alone beside it.")
    ] = "test",
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also by activity, popularity or rarity; repeat.", show_default=False),
    ] = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="Also users of whom 1, 2 or 3-5 items are known, and rare items.")
    ] = False,
    ties: Annotated[str | None, typer.Option(help="expected, pessimistic or optimistic.")] = None,
    k: Annotated[
        list[int] | None, typer.Option("--k", "-k", help="Cutoff; may be given more than once.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Judge a run on held-out interactions, among candidate lists and among the whole catalogue."""
    from ncf import analysis

    if split not in ("test", "validation", "time"):
        raise ConfigError(f"--split must be test, validation or time, not {split!r}.")
    unknown = [name for name in by or () if name not in analysis.GROUPS]
    if unknown:
        raise ConfigError(f"--by must be one of {', '.join(analysis.GROUPS)}, not {unknown[0]!r}.")
    if split == "time" and (by or cold or protocol or full):
        raise ConfigError("--split time shows both protocols and nothing else: leave other options out.")
    given = {"ties": ties, "cutoffs": tuple(k) if k else None}
    if split == "time":
        _by_time(run, data, given, as_json)
        return
    subject = analysis.open_run(run, data, split=split, **given)  # type: ignore[arg-type]
    judged = analysis.evaluate_both(subject, _protocols(protocol, full, as_json, analysis.is_quick(subject)))
    groups = [*(by or ()), *(["rarity"] if cold else [])]
    tables = {analysis.GROUPS[name].title: analysis.grouped(subject, judged, name) for name in groups}
    users = analysis.evaluate_cold_users(subject) if cold else None
    if as_json:
        result = _json(run, subject, judged)
        if tables:
            result["groups"] = {
                title: {name: [group.to_json() for group in groups] for name, groups in table.items()}
                for title, table in tables.items()
            }
        if users is not None:
            result["cold_users"] = {
                "users": users.users, "remark": users.remark,
                "known": {name: one.to_json() for name, one in users.results.items()},
            }  # fmt: skip
        print_json(result)
        return
    _print_results(subject, judged, analysis.WARNING)
    for title, table in tables.items():
        print_groups(title, table)
    if users is not None:
        print_known(users.results)
        typer.echo(users.remark)


def _protocols(protocol: str | None, full: bool, as_json: bool, quick: bool) -> tuple[str, ...]:
    """Which protocols to judge by; a program that asks for none gets one shape, however large the data are."""
    if full and protocol not in (None, "full"):
        raise ConfigError("--full is short for --protocol full: leave one of them out.")
    if protocol not in (None, "sampled", "full", "both"):
        raise ConfigError(f"--protocol must be sampled, full or both, not {protocol!r}.")
    if full or protocol == "full":
        return ("full",)
    if protocol == "both" or (protocol is None and quick and not as_json):
        return ("sampled", "full")
    return ("sampled",)


def _json(run: str, subject: "EvaluatedRun", judged: "Mapping[str, EvaluationResult]") -> dict[str, Any]:
    """One protocol: its figures at the top; both: each under its name."""
    result: dict[str, Any] = {"run": run, "name": subject.name, "split": subject.split}
    documents = {name: judgement.to_json() for name, judgement in judged.items()}
    if len(documents) == 1:
        result |= next(iter(documents.values()))
    else:
        result |= {"protocol": "both", **documents}
    if subject.artifact.experiment.published:
        result["published"] = subject.artifact.experiment.published.model_dump()
    return result


def _print_results(subject: "EvaluatedRun", judged: "Mapping[str, EvaluationResult]", warning: str) -> None:
    published = subject.artifact.experiment.published if "sampled" in judged else None
    ties = next(iter(judged.values())).ties
    print_columns(
        f"{subject.name}, {subject.split}: {ties} ties", judged, published.metrics if published else None
    )
    if published:
        typer.echo(f"published: {published.source}")
    if "sampled" in judged:
        typer.echo(warning if "full" in judged else f"{warning} 'ncf evaluate {subject.path} --full' has it.")
    for name, judgement in judged.items():
        if judgement.nonnumbers:
            typer.echo(
                f"Warning: {judgement.nonnumbers} {name} lists have scores that are not numbers.", err=True
            )


def _by_time(run: str, data: str | None, given: Mapping[str, Any], as_json: bool) -> None:
    """Leave-one-out and the split by time side by side; data that are split by time already are judged as they are."""
    from contextlib import closing

    from ncf import analysis
    from ncf.cli import console
    from ncf.runtime import stop_requested

    own, cut = analysis.folders_of(run, data)
    subject = analysis.open_run(run, own, **given)
    if analysis.is_split_by_time(subject.dataset):
        judged = analysis.evaluate_both(subject)
        if as_json:
            print_json(_json(run, subject, judged) | {"split": "time"})
        else:
            _print_results(subject, judged, analysis.WARNING)
        return
    with closing(console.ConsoleTracker()) as tracker, stop_requested() as stop:
        temporal = analysis.evaluate_by_time(subject, cut, tracker, console.log, stop)
    if as_json:
        print_json(
            {
                "run": run, "name": subject.name, "split": "time", "time_run": str(temporal.folder),
                "share_still_to_come": temporal.share_to_come,
                "splits": {
                    name: {protocol: one.to_json() for protocol, one in judged.items()}
                    for name, judged in temporal.results.items()
                },
            }
        )  # fmt: skip
        return
    for protocol in analysis.PROTOCOLS:
        columns = {name: judged[protocol] for name, judged in temporal.results.items()}
        print_columns(f"{subject.name}, {protocol}", columns)
    typer.echo(temporal.rows)
    typer.echo(temporal.leak)


def compare(
    a: Annotated[str, typer.Argument(metavar="RUN_A")],
    b: Annotated[str, typer.Argument(metavar="RUN_B")],
    data: Data = None,
    full: Annotated[bool, typer.Option("--full", help="Rank the whole catalogue.")] = False,
    k: Annotated[int, typer.Option("--k", "-k", help="Cutoff.")] = 10,
    as_json: Json = False,
) -> None:
    """Two runs on the same held-out interactions: paired permutation test."""
    from dataclasses import asdict

    from ncf import analysis

    comparisons = analysis.compare_runs(a, b, data, full=full, k=k)
    if as_json:
        print_json({"a": a, "b": b, "metrics": {name: asdict(c) for name, c in comparisons.items()}})
        return
    from rich.table import Table

    from ncf.cli.console import OUT

    table = Table(title=f"a = {a}, b = {b}", title_justify="left")
    for heading in ("metric", "a", "b", "b - a", "95% interval", "p"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, c in comparisons.items():
        table.add_row(
            name, f"{c.mean_a:.4f}", f"{c.mean_b:.4f}", f"{c.difference:+.4f}", f"{c.low:+.4f} – {c.high:+.4f}",
            f"{c.p_value:.4f}",
        )  # fmt: skip
    OUT.print(table)
