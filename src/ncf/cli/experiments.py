"""`ncf experiments …`: the runs that were recorded in MLflow, listed, shown, compared, and sent there later."""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.cli.options import ExperimentName, Json, Track, print_json
from ncf.errors import ConfigError

if TYPE_CHECKING:
    from ncf.tracking.mlflow import Record

app = typer.Typer(
    help="Runs recorded in MLflow: list, show, compare, import.", no_args_is_help=True, rich_markup_mode=None
)
RunId = Annotated[
    str, typer.Argument(metavar="RUN_ID", help="Id, or its first characters, or a unique name.")
]
SHORT = 8


@app.command("list")
def list_runs(
    track: Track = None,
    experiment: ExperimentName = "ncf",
    everywhere: Annotated[bool, typer.Option("--all", help="Of every experiment.")] = False,
    sort: Annotated[
        str, typer.Option(help="Test metric to sort by, such as ndcg@10; or any metric, or 'started'.")
    ] = "started",
    most: Annotated[int, typer.Option("--most", help="Rows to show.", min=1)] = 50,
    as_json: Json = False,
) -> None:
    """Recorded runs, the newest or the best first."""
    from ncf.tracking import mlflow

    store = mlflow.MLflowStore(mlflow.resolve(track), experiment)
    found = _sorted(store.runs(everywhere), sort)
    if as_json:
        print_json({"runs": [_as_json(run) for run in found[:most]]})
        return
    if not found:
        typer.echo(f"{experiment} has no runs yet: 'ncf train RECIPE --track …' records one.")
        return
    _print_list(found[:most], sort)
    if len(found) > most:
        typer.echo(f"{len(found) - most} more: raise --most to see them.")


@app.command()
def show(run: RunId, track: Track = None, as_json: Json = False) -> None:
    """Everything that is recorded of a run."""
    from rich.table import Table

    from ncf.cli.console import OUT

    [found] = _find([run], track)
    if as_json:
        print_json(_as_json(found))
        return
    table = Table(title=f"{found.name} ({found.run_id})", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("value", overflow="fold")
    for name, value in _facts(found):
        table.add_row(name, value)
    table.add_section()
    for name, value in sorted(found.parameters.items()):
        table.add_row(name, value)
    table.add_section()
    for name in _telling(found):
        table.add_row(name, _figure(found, name))
    OUT.print(table)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN_ID RUN_ID…", help="Two or more recorded runs.")],
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Recorded runs side by side: whether their data are the same, what differs, what came out."""
    if len(runs) < 2:
        raise ConfigError("Give two runs or more to compare; 'ncf experiments list' has their ids.")
    found = _find(runs, track)
    same = len({run.tags.get("ncf.data_digest") for run in found}) == 1
    differing = _differing(found)
    metrics = sorted({name for run in found for name in _telling(run)})
    if as_json:
        table = {name: [run.metrics.get(name) for run in found] for name in metrics}
        print_json(
            {"runs": [r.run_id for r in found], "same_data": same, "parameters": differing, "metrics": table}
        )
        return
    _print_comparison(found, differing, metrics)
    if not same:
        typer.echo("The data differ (see data digest), so the figures cannot be compared.")
    elif not differing:
        typer.echo("Settings and data are the same; only code, machine and time can differ.")


@app.command("import")
def import_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Output folder of 'ncf train'.")],
    track: Track = None,
    experiment: ExperimentName = "ncf",
    as_json: Json = False,
) -> None:
    """Send a run from its folder, or what the server lacks of it: after a server was down, or without --track."""
    from pathlib import Path

    from ncf.tracking import mlflow
    from ncf.tracking.mlflow_run import import_run, read_run

    read_run(Path(run))
    location = mlflow.resolve(track)
    run_id = import_run(mlflow.MLflowStore(location, experiment), Path(run))
    if as_json:
        print_json({"run_id": run_id, "track": mlflow.shown(location), "experiment": experiment})
        return
    typer.echo(f"{run} is run {run_id[:SHORT]} of {experiment} at {mlflow.shown(location)}.")


def _find(wanted: Sequence[str], track: str | None) -> list["Record"]:
    """Runs by name, id, or first characters of an id; raises `ConfigError` where that is none or several."""
    from ncf.tracking import mlflow

    known = mlflow.MLflowStore(mlflow.resolve(track), mlflow.DEFAULT_EXPERIMENT).runs(everywhere=True)
    found = []
    for text in wanted:
        matching = [run for run in known if run.name == text] or [
            run for run in known if run.run_id.startswith(text)
        ]
        if len(matching) != 1:
            what = f"{len(matching)} runs are" if matching else "No run is"
            raise ConfigError(f"{what} called {text!r}: 'ncf experiments list --all' shows the ids.")
        found += matching
    return found


def _sorted(runs: list["Record"], sort: str) -> list["Record"]:
    """Best first (the least for losses and seconds), runs without the figure last."""
    if sort == "started":
        return sorted(runs, key=lambda run: -run.started)
    name = _metric(runs, sort)
    sign = 1 if "loss" in name or "seconds" in name else -1
    return sorted(runs, key=lambda run: (name not in run.metrics, sign * run.metrics.get(name, 0.0)))


def _metric(runs: list["Record"], sort: str) -> str:
    known = {name for run in runs for name in run.metrics}
    name = next((name for name in (f"test_{sort}", sort) if name in known), None)
    if name is None and runs:
        shown = sorted(name.removeprefix("test_") for name in known if not name.endswith(("_low", "_high")))
        raise ConfigError(
            f"No run has a figure {sort!r} to sort by; there are: {', '.join(shown) or 'none'}."
        )
    return name or sort


def _print_list(runs: list["Record"], sort: str) -> None:
    from rich.table import Table

    from ncf.cli.console import OUT

    figures = [name for name in ("test_ndcg@10", "test_hr@10") if any(name in run.metrics for run in runs)]
    if sort != "started" and _metric(runs, sort) not in figures:
        figures.append(_metric(runs, sort))
    table = Table(title=_title(runs), title_justify="left")
    facts = _columns(OUT.width - 12 * len(figures))
    table.add_column("run", no_wrap=True)
    table.add_column("name", overflow="fold")
    for heading in facts:
        table.add_column(heading, no_wrap=True)
    for name in figures:
        table.add_column(
            name.removeprefix("test_").replace("validation_", "val. "), justify="right", no_wrap=True
        )
    ids = {run.run_id for run in runs}
    for run in runs:
        inside = "└ " if run.parent in ids and sort == "started" else ""
        numbers = (_number(run.metrics.get(name)) for name in figures)
        table.add_row(
            run.run_id[:SHORT], inside + run.name, *(_fact(run, heading) for heading in facts), *numbers
        )
    OUT.print(table)


def _columns(width: int) -> list[str]:
    """What there is room for beside the id, the name and the figures; the less telling goes first."""
    cost = {"model": 8, "status": 11, "started": 14, "data": 14}
    room, kept = width - 36, []
    for heading, needed in cost.items():
        if needed <= room:
            kept.append(heading)
            room -= needed
    return kept


def _fact(run: "Record", heading: str) -> str:
    values = {
        "model": run.parameters.get("model.kind", ""),
        "status": run.status.lower(),
        "started": _when(run.started)[5:16],
        "data": run.tags.get("ncf.data", ""),
    }
    return values[heading]


def _title(runs: list["Record"]) -> str:
    return f"{', '.join(sorted({run.experiment for run in runs}))}: {len(runs)} runs"


def _print_comparison(
    runs: list["Record"], differing: dict[str, list[str | None]], metrics: list[str]
) -> None:
    from rich.table import Table

    from ncf.cli.console import OUT

    table = Table(title="What differs, and what came out", title_justify="left")
    table.add_column("", overflow="fold")
    for run in runs:
        table.add_column(f"{run.name}\n{run.run_id[:SHORT]}", justify="right", overflow="fold")
    table.add_row("status", *(run.status.lower() for run in runs))
    table.add_row("data", *(run.tags.get("ncf.data", "") for run in runs))
    table.add_row("data digest", *(run.tags.get("ncf.data_digest", "")[:12] for run in runs))
    table.add_section()
    for name, values in differing.items():
        table.add_row(name, *("" if value is None else value for value in values))
    table.add_section()
    for name in metrics:
        best = _best(runs, name)
        table.add_row(name, *(_number(run.metrics.get(name), run.run_id in best) for run in runs))
    OUT.print(table)


def _telling(run: "Record") -> list[str]:
    """Names of figures without the ends of intervals, and without recall where it is the hit ratio."""
    return sorted(
        name for name, value in run.metrics.items()
        if not name.endswith(("_low", "_high")) and ("recall" not in name or value != run.metrics.get(name.replace("recall", "hr")))
    )  # fmt: skip


def _best(runs: list["Record"], name: str) -> set[str]:
    """Ids of the runs with the highest figure, where higher is better and not all have it."""
    if not name.startswith(("test_", "validation_")):
        return set()
    top = max(run.metrics.get(name, float("-inf")) for run in runs)
    best = {run.run_id for run in runs if run.metrics.get(name) == top}
    return best if len(best) < len(runs) else set()


def _differing(runs: list["Record"]) -> dict[str, list[str | None]]:
    names = sorted({name for run in runs for name in run.parameters})
    rows: dict[str, list[str | None]] = {name: [run.parameters.get(name) for run in runs] for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def _facts(run: "Record") -> list[tuple[str, str]]:
    ended = f" to {_when(run.ended)}" if run.ended else ""
    facts = [
        ("experiment", run.experiment),
        ("status", run.status.lower()),
        ("time", _when(run.started) + ended),
    ]
    facts += [
        (name.removeprefix("ncf.").replace("_", " "), value)
        for name, value in sorted(run.tags.items())
        if name.startswith("ncf.")
    ]
    commit = run.tags.get("mlflow.source.git.commit")
    facts += [("commit", commit)] if commit else []
    return [*facts, ("artifacts", run.artifacts)]


def _figure(run: "Record", name: str) -> str:
    low, high = run.metrics.get(f"{name}_low"), run.metrics.get(f"{name}_high")
    interval = f"  ({low:.4f} – {high:.4f})" if low is not None and high is not None else ""
    return _number(run.metrics[name]) + interval


def _number(value: float | None, best: bool = False) -> str:
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4f}"
    return f"[bold]{text}[/bold]" if best else text


def _when(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000).astimezone().isoformat(" ", "seconds")


def _as_json(run: "Record") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(run)
