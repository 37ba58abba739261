"""`ncf leaderboard`: all models and baselines on one data set, tuned and evaluated alike, with significance
tests."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.cli.options import Json, print_json
from ncf.errors import ConfigError, Interrupted, need

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from ncf.leaderboard.results import LeaderboardResults

Names = list[str] | None
_WIDE = 160


def leaderboard(
    data: Annotated[str, typer.Argument(help="Prepared data folder, or a known data set such as ml-1m.")],
    output: Annotated[str, typer.Option(help="Folder of the leaderboard; an interrupted one is resumed.")],
    only: Annotated[
        Names, typer.Option(help="Run only this entry and the entries it depends on. Repeatable.")
    ] = None,
    skip: Annotated[Names, typer.Option(help="Leave this entry out. Repeatable.")] = None,
    trials: Annotated[int, typer.Option(help="Trials of each entry's search.", min=1)] = 10,
    seeds: Annotated[
        int, typer.Option(help="Final runs (seeds) of each entry that depends on a seed.", min=1)
    ] = 3,
    budget: Annotated[
        float | None,
        typer.Option(help="Start no more trials of an entry after this many seconds.", show_default=False),
    ] = None,
    entries: Annotated[
        str | None,
        typer.Option(
            help="Folder of entries (TOML files), instead of the built-in ones.", show_default=False
        ),
    ] = None,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Train nothing; write the page from existing results.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the leaderboard in --output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Tune, train and evaluate models and baselines, and write a page, a table and a JSON file.

    Examples:
        ncf leaderboard ml-100k --output boards/ml-100k
        ncf leaderboard data/mine --output boards/mine --only gmf --trials 3
    """
    need("evaluate", "jinja2", "matplotlib", *(() if page_only else ("optuna", "tomli_w")))
    from pathlib import Path

    from ncf.leaderboard.entries import entries as taking_part
    from ncf.leaderboard.export import to_json
    from ncf.leaderboard.folder import started_entries
    from ncf.leaderboard.page import write_results
    from ncf.leaderboard.results import NOT_DONE, read_results

    if page_only and overwrite:
        raise ConfigError("--page-only and --overwrite contradict each other: give only one of them.")
    folder = Path(output)
    chosen = taking_part(entries, only or (), skip or ())
    if not page_only:
        need("evaluate", *(name for entry in chosen if entry.baseline for name in entry.baseline.needs))
        _run(data, folder, chosen, (trials, budget, seeds), only or (), overwrite, quiet)
    shown = started_entries(folder, taking_part(entries, only or () if page_only else (), skip or ()))
    results = read_results(folder, shown, seeds)
    page = write_results(results, folder)
    if as_json:
        print_json({**to_json(results), "page": str(page)})
    else:
        _print(results, page)
    if any(row.failure != NOT_DONE for row in results.missing):
        raise typer.Exit(1)


def _run(
    data: str,
    folder: "Path",
    chosen: list[Any],
    amounts: tuple[int, float | None, int],
    named: "Collection[str]",
    overwrite: bool,
    quiet: bool,
) -> None:
    from ncf.cli.leaderboard_watch import ShownLeaderboard
    from ncf.leaderboard.entries import fitting_entries
    from ncf.leaderboard.run import LeaderboardListener, LeaderboardPlan, run
    from ncf.leaderboard.search import Budget
    from ncf.runtime import stop_requested
    from ncf.tracking.console import log

    trials, seconds, seeds = amounts
    dataset, path = _open(data, quiet)
    fitting, left_out = fitting_entries(chosen, dataset, named)
    for sentence in left_out:
        log(sentence)
    plan = LeaderboardPlan(folder, Budget(trials, seconds), seeds, overwrite)
    with stop_requested() as stop, ShownLeaderboard(trials, seeds) as shown:
        listener = LeaderboardListener() if quiet else shown
        try:
            run(dataset, fitting, plan, data_path=path, listener=listener, stop=stop)
        except Interrupted:
            raise Interrupted(
                f"Stopped; finished results are kept in {folder}: run the same command to resume, or add "
                "--page-only to see them."
            ) from None


def _open(data: str, quiet: bool) -> tuple[Any, "Path"]:
    """Open a data folder, or a known data set by name; the latter is prepared in data/NAME on first use."""
    from pathlib import Path

    from ncf import experiment
    from ncf.config import DataConfig, Experiment
    from ncf.data.catalog import CATALOG
    from ncf.tracking import console

    named = data in CATALOG and not (Path(data) / "dataset.json").is_file()
    settings = Experiment(data=DataConfig(catalog=data) if named else DataConfig(path=data))
    return experiment.open_data(settings, None, (lambda _: None) if quiet else console.log)


def _print(results: "LeaderboardResults", page: "Path") -> None:
    from rich.console import Console
    from rich.table import Table

    from ncf.leaderboard import summary
    from ncf.leaderboard.export import ACCURACY, COST, NONE
    from ncf.tracking.console import OUT, log

    columns = [column for column in (*ACCURACY, *COST) if not column.heading.startswith("MRR")]
    table = Table(title=f"{results.data['name']}, test", title_justify="left")
    table.add_column("#", justify="right")
    table.add_column("model", no_wrap=True)
    for column in columns:
        table.add_column(column.heading.replace(" ", "\n", 1), justify="right")
    for rank, row in enumerate(results.rows, 1):
        table.add_row(str(rank), row.title, *(column.text(row) for column in columns))
    for row in results.missing:
        table.add_row(NONE, row.title, *(NONE for _ in columns))
    (OUT if OUT.is_terminal else Console(width=_WIDE, highlight=False)).print(table)
    for sentence in summary.summarize(results):
        typer.echo(sentence)
    for sentence in [*summary.failures(results), *summary.remarks(results)]:
        log(sentence)
    typer.echo(f"Page: {page}; table: {page.parent / 'leaderboard.md'}.")
