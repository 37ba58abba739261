"""`ncf evaluate`, `ncf compare`, `ncf report`."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ncf.cli.evaluation_tables import cold_sentence, miss_sentence, print_columns, print_groups, print_known
from ncf.cli.options import Data, Json, RunPath, print_json, print_verdict
from ncf.errors import ConfigError, need

if TYPE_CHECKING:
    from ncf.analysis import EvaluatedRun, EvaluationResult


class By(StrEnum):
    """Values of `--by`; an enum, since Typer takes no list of literals."""

    activity = "activity"
    popularity = "popularity"
    rarity = "rarity"


def evaluate(
    run: RunPath,
    data: Data = None,
    protocol: Annotated[
        Literal["sampled", "full", "both"] | None,
        typer.Option(
            help="Candidate lists, the full catalogue or both. By default both if that takes seconds; with "
            "--json: sampled.",
            show_default=False,
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Same as --protocol full.")] = False,
    split: Annotated[
        Literal["test", "validation", "time", "items"],
        typer.Option(
            help="Held-out rows. The recipe is also trained on the past alone (time), or without a fifth of "
            "the items, which are then placed from their columns (items)."
        ),
    ] = "test",
    by: Annotated[
        list[By] | None,
        typer.Option(help="Also by groups of users or items. Repeatable.", show_default=False),
    ] = None,
    cold: Annotated[
        bool, typer.Option("--cold", help="Also users with 1, 2 or 3-5 known items, and rare items.")
    ] = False,
    ties: Annotated[
        Literal["expected", "pessimistic", "optimistic"] | None,
        typer.Option(help="Rank of items with equal scores; by default the recipe's."),
    ] = None,
    k: Annotated[list[int] | None, typer.Option("--k", "-k", help="Cutoff. Repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Evaluate a run on held-out interactions, in candidate lists and in the full catalogue.

    Examples:
        ncf evaluate runs/mine
        ncf evaluate runs/mine --full -k 5 -k 20
    """
    from ncf import analysis

    if split in ("time", "items") and (by or cold or protocol or full):
        shows = "both protocols" if split == "time" else "candidate lists"
        raise ConfigError(
            f"--split {split} always shows {shows}: leave out --by, --cold, --protocol and --full."
        )
    overrides = {"ties": ties, "cutoffs": tuple(k) if k else None}
    if split == "time":
        _by_time(run, data, overrides, as_json)
        return
    if split == "items":
        _by_cold_items(run, data, overrides, as_json)
        return
    subject = analysis.open_run(run, data, split=split, other_data=True, **overrides)  # type: ignore[arg-type]
    if subject.held_out.has_lists:
        protocols = _protocols(protocol, full, as_json, analysis.is_quick(subject))
    elif cold or protocol in ("sampled", "both"):
        option = "--cold" if cold else f"--protocol {protocol}"
        raise ConfigError(f"{option} needs candidate lists, which these data do not have: leave it out.")
    else:
        protocols = ("full",)
    results = analysis.evaluate_both(subject, protocols)
    names = [*(by or ()), *(["rarity"] if cold else [])]
    tables = {analysis.GROUPS[name].title: analysis.grouped(subject, results, name) for name in names}
    users = analysis.evaluate_cold_users(subject) if cold else None
    verdict = analysis.verdict_on(subject, results)
    if as_json:
        document = _json(run, subject, results)
        if subject.other_data:
            document["other_data"] = subject.other_data
        if tables:
            document["groups"] = {
                title: {name: [group.to_json() for group in groups] for name, groups in table.items()}
                for title, table in tables.items()
            }
        if users is not None:
            known = {name: result.to_json() for name, result in users.results.items()}
            document["cold_users"] = {"users": users.users, "remark": users.remark, "known": known}
        print_json(document | {"verdict": verdict})
        return
    if subject.other_data:
        typer.echo(subject.other_data)
    _print_results(subject, results, analysis.WARNING)
    for title, table in tables.items():
        print_groups(title, table)
    if users is not None:
        print_known(users.results)
        typer.echo(users.remark)
    print_verdict(verdict)


def _protocols(protocol: str | None, full: bool, as_json: bool, quick: bool) -> tuple[str, ...]:
    """Which protocols to use. With --json the default does not depend on the size of the data."""
    if full and protocol not in (None, "full"):
        raise ConfigError(f"--full contradicts --protocol {protocol}: leave one of them out.")
    if full or protocol == "full":
        return ("full",)
    if protocol == "both" or (protocol is None and quick and not as_json):
        return ("sampled", "full")
    return ("sampled",)


def _json(run: str, subject: "EvaluatedRun", results: "Mapping[str, EvaluationResult]") -> dict[str, Any]:
    """The figures of one protocol at the top level; those of both under their names."""
    document: dict[str, Any] = {"run": run, "name": subject.name, "split": subject.split}
    figures = {name: result.to_json() for name, result in results.items()}
    if len(figures) == 1:
        document |= next(iter(figures.values()))
    else:
        document |= {"protocol": "both", **figures}
    if subject.artifact.experiment.published:
        document["published"] = subject.artifact.experiment.published.model_dump()
    return document


def _print_results(subject: "EvaluatedRun", results: "Mapping[str, EvaluationResult]", warning: str) -> None:
    published = subject.artifact.experiment.published if "sampled" in results else None
    ties = next(iter(results.values())).ties
    title = f"{subject.name}, {subject.split}: {ties} ties"
    print_columns(title, results, published.metrics if published else None)
    if published:
        typer.echo(f"published: {published.source}")
    if "sampled" in results:
        remedy = f"{warning} 'ncf evaluate {subject.path} --full' shows the full ranking."
        typer.echo(warning if "full" in results else remedy)
    for name, result in results.items():
        if result.cold_users:
            typer.echo(cold_sentence(result.cold_users, result.without_cold_users, name))
        if result.cannot_miss:
            typer.echo(miss_sentence(result.cannot_miss, name, result.longest))
        if result.nonnumbers:
            typer.echo(f"Warning: {result.nonnumbers} {name} lists contain NaN scores.", err=True)


def _by_time(run: str, data: str | None, overrides: Mapping[str, Any], as_json: bool) -> None:
    """Compare leave-one-out with a split by time; data already split by time are evaluated as they are."""
    from contextlib import closing

    from ncf import analysis
    from ncf.runtime import stop_requested
    from ncf.tracking import console

    own, cut = analysis.folders_of(run, data)
    subject = analysis.open_run(run, own, **overrides)
    if analysis.is_split_by_time(subject.dataset):
        results = analysis.evaluate_both(subject)
        verdict = analysis.verdict_on(subject, results)
        if as_json:
            print_json(_json(run, subject, results) | {"split": "time", "verdict": verdict})
        else:
            _print_results(subject, results, analysis.WARNING)
            print_verdict(verdict)
        return
    with closing(console.ConsoleTracker()) as tracker, stop_requested() as stop:
        temporal = analysis.evaluate_by_time(subject, cut, tracker, console.log, stop)
    if as_json:
        splits = {
            name: {protocol: result.to_json() for protocol, result in results.items()}
            for name, results in temporal.results.items()
        }
        document = {"run": run, "name": subject.name, "split": "time", "time_run": str(temporal.folder)}
        print_json({**document, "share_still_to_come": temporal.share_to_come, "splits": splits})
        return
    for protocol in analysis.PROTOCOLS:
        columns = {name: results[protocol] for name, results in temporal.results.items()}
        print_columns(f"{subject.name}, {protocol}", columns)
    typer.echo(temporal.rows)
    typer.echo(temporal.leak)


def _by_cold_items(run: str, data: str | None, overrides: Mapping[str, Any], as_json: bool) -> None:
    """Rank items that nobody has used, placed from their columns, by a second training without them."""
    from contextlib import closing

    from ncf import analysis
    from ncf.runtime import stop_requested
    from ncf.tracking import console

    subject = analysis.open_run(run, data, **overrides)
    with closing(console.ConsoleTracker()) as tracker, stop_requested() as stop:
        cold = analysis.evaluate_cold_items(subject, tracker, console.log, stop)
    if as_json:
        lists = {
            kind: {name: result.to_json() for name, result in results.items()}
            for kind, results in cold.results.items()
        }
        document = {"run": run, "name": subject.name, "split": "items", "items_run": str(cold.folder)}
        print_json({**document, "items": cold.items, "remark": cold.remark, "lists": lists})
        return
    for kind, results in cold.results.items():
        print_columns(f"{subject.name}, cold items among {kind}", results)
    typer.echo(cold.remark)


def compare(
    a: Annotated[str, typer.Argument(metavar="RUN_A")],
    b: Annotated[str, typer.Argument(metavar="RUN_B")],
    data: Data = None,
    full: Annotated[bool, typer.Option("--full", help="Rank the full catalogue.")] = False,
    k: Annotated[int, typer.Option("--k", "-k", help="Cutoff.")] = 10,
    as_json: Json = False,
) -> None:
    """Compare two runs on the same held-out interactions, with a paired permutation test.

    Examples:
        ncf compare runs/mine runs/other
        ncf compare runs/mine runs/other --full -k 20
    """
    from dataclasses import asdict

    from ncf import analysis

    runs = analysis.paired_runs(a, b, data, k)
    comparisons = analysis.compare_opened(*runs, runs[0].protocol(full))
    notes = [run.other_data for run in runs if run.other_data]
    rows, everything = len(runs[0].held_out), len(runs[0].all_rows or runs[0].held_out)
    if as_json:
        metrics = {name: asdict(c) for name, c in comparisons.items()}
        document = {"a": a, "b": b, "metrics": metrics, "rows": rows, "rows_left_out": everything - rows}
        print_json(document | ({"other_data": notes} if notes else {}))
        return
    for note in notes:
        typer.echo(note)
    if notes:
        left_out = f"{everything - rows:,} of {everything:,} are left out"
        typer.echo(f"Compared on the {rows:,} rows that are on the record of neither; {left_out}.")
    from rich.table import Table

    from ncf.tracking.console import OUT

    table = Table(title=f"a = {a}, b = {b}", title_justify="left")
    for heading in ("metric", "a", "b", "b - a", "95% interval", "p"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name, c in comparisons.items():
        means = (f"{c.mean_a:.4f}", f"{c.mean_b:.4f}", f"{c.difference:+.4f}")
        table.add_row(name, *means, f"{c.low:+.4f} – {c.high:+.4f}", f"{c.p_value:.4f}")
    OUT.print(table)


def report(
    run: RunPath,
    output: Annotated[
        str | None,
        typer.Option(help="File to write; report.html in the run by default.", show_default=False),
    ] = None,
    data: Data = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that 'ncf report' did not write.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write an HTML report about a run (metrics, curves, groups, calibration, examples) and its model
    card.

    Examples:
        ncf report runs/mine
        ncf report runs/mine --output page.html --overwrite
    """
    need("evaluate", "jinja2", "matplotlib")
    from ncf.analysis.report.write import write_report
    from ncf.tracking import console

    if not as_json and console.ERR.is_terminal:
        console.log("Evaluating the test set in candidate lists and in the full catalogue …")
    written = write_report(run, output, data, overwrite=overwrite)
    if as_json:
        print_json({"run": run, **written.to_json()})
        return
    if written.missing:
        console.log(written.missing)
    typer.echo(f"Page: {written.page} (opens without a network); model card: {written.card}.")
    print_verdict(written.figures.get("verdict"))
