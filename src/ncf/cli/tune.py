"""`ncf tune`: search a space of settings on this machine; `ncf suggest`: the recipe to start with."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ncf.cli.options import Json, RecipeData, Set, print_json
from ncf.errors import ConfigError, Interrupted, need

if TYPE_CHECKING:
    from ncf.tuning.study import StudyResult

SHOWN = 10


def tune(
    recipe: Annotated[
        str, typer.Argument(help="TOML file; settings that the space does not name keep these values.")
    ],
    space: Annotated[
        str,
        typer.Option(
            "--space", help="TOML file of settings and bounds, or a name: 'default' is the package's."
        ),
    ],
    trials: Annotated[
        int, typer.Option(help="Total trials of the study, including those of earlier calls.")
    ] = 20,
    data: RecipeData = None,
    set: Set = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study; by default that of the recipe.", show_default=False)
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Database; sqlite:///OUTPUT/study.db by default.", show_default=False)
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Folder of the search; runs/tune-STUDY by default.", show_default=False)
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(help="Start no more trials after this many seconds.", show_default=False)
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Random seed of the search; the recipe sets that of training.")
    ] = 0,
    pruner: Annotated[
        Literal["median", "hyperband", "none"], typer.Option(help="What ends unpromising trials early.")
    ] = "median",
    as_json: Json = False,
) -> None:
    """Search settings by validation NDCG@10 (Optuna's TPE). Run the same command again to resume a study.

    Examples:
        ncf tune recipe.toml --space space.toml --data data/mine
        ncf tune neumf --space default --data data/mine --trials 50 --timeout 3600
    """
    need("tune", "jinja2", "optuna", "plotly", "tomli_w")
    from pathlib import Path

    from ncf import experiment
    from ncf.cli.tune_watch import ShownSearch
    from ncf.config import Experiment
    from ncf.runtime import stop_requested
    from ncf.tracking import console
    from ncf.tuning import Space
    from ncf.tuning.study import StudyPlan, search

    settings, bounds = Experiment.load(recipe, set or ()), Space.load(space)
    name = study or settings.name
    folder = Path(output or f"runs/tune-{name}")
    plan = StudyPlan(folder, trials, name, storage, timeout, seed, pruner)
    bounds.check(settings)
    dataset, data_path = experiment.open_data(settings, data, console.log)
    with stop_requested() as stop, ShownSearch(trials) as watcher:
        try:
            outcome = search(dataset, settings, bounds, plan, data_path=data_path, watcher=watcher, stop=stop)
        except Interrupted:
            raise Interrupted(
                f"Stopped; finished trials are kept in {folder}: run the same command to resume."
            ) from None
    best = _write_results(outcome, settings, bounds, name, folder, data and str(data_path))
    if as_json:
        _print_object(outcome, name, folder)
        return
    _print_trials(outcome, name)
    if best:
        typer.echo(
            f"Best recipe: {best} (train it with 'ncf train {best}'); page of the search: "
            f"{folder / 'study.html'}."
        )
    else:
        typer.echo("No trial is complete yet; run the same command to resume.")


def _write_results(
    outcome: "StudyResult", settings: Any, bounds: Any, name: str, folder: Any, data: str | None
) -> Any:
    """Write `study.html` and, if a trial is complete, `best.toml`. Returns the path of the latter."""
    from ncf.data.files import storage_errors, write_text
    from ncf.tracking import console
    from ncf.tuning.page import write_page
    from ncf.tuning.recipe import best_recipe, to_toml

    write_page(outcome, name, folder / "study.html")
    if outcome.best is None:
        return None
    recipe, unchanged = best_recipe(settings, bounds.overrides(outcome.best.parameters), data)
    if not unchanged:
        console.log("best.toml holds out validation positives, because its patience needs them.")
    comment = f"Trial {outcome.best.number} of the study {name}: validation NDCG@10 {outcome.best.value:.4f}."
    with storage_errors(folder / "best.toml"):
        write_text(folder / "best.toml", to_toml(recipe, comment))
    return folder / "best.toml"


def _print_object(outcome: "StudyResult", name: str, folder: Any) -> None:
    from dataclasses import asdict

    best = outcome.best
    document: dict[str, Any] = {"study": name, "folder": str(folder), "metric": "validation_ndcg@10"}
    document |= {"best": best and asdict(best), "recipe": str(folder / "best.toml") if best else None}
    document |= {"page": str(folder / "study.html"), "trials": [asdict(trial) for trial in outcome.trials]}
    print_json(document)


def _print_trials(outcome: "StudyResult", name: str) -> None:
    from rich.table import Table

    from ncf.tracking.console import OUT
    from ncf.tuning.page import ranked, written

    best = ranked(outcome.trials)
    states = Counter(trial.state for trial in outcome.trials)
    counts = ", ".join(f"{states[s]} {s}" for s in ("complete", "pruned", "failed") if states[s])
    table = Table(title=f"{name}: {counts}", title_justify="left")
    for heading in ("trial", "NDCG@10", "epochs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for parameter in best[0].parameters if best else ():
        heading = "\n".join(parameter.split("."))
        table.add_column(heading, justify="right", overflow="fold", min_width=7)
    for trial in best[:SHOWN]:
        cells = [str(trial.number), f"{trial.value:.4f}", str(trial.epochs)]
        table.add_row(*cells, *(written(value) for value in trial.parameters.values()))
    if best:
        OUT.print(table)
    reasons = {trial.reason: trial.number for trial in reversed(outcome.trials) if trial.state == "failed"}
    for reason, number in reasons.items():
        typer.echo(f"Trial {number} failed: {reason}", err=True)


def suggest(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder of 'ncf prepare'.")],
    output: Annotated[str, typer.Option(help="Recipe to write.")] = "recipe.toml",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output.")] = False,
    as_json: Json = False,
) -> None:
    """Write the recipe to start with on prepared data, with the reason for each setting.

    Examples:
        ncf suggest data/mine
        ncf suggest data/mine --output mine.toml --overwrite
    """
    import re
    from pathlib import Path

    from ncf.data import Dataset
    from ncf.data.files import atomic_file, write_text
    from ncf.data.report import PrepareReport
    from ncf.tuning import defaults

    target = Path(output)
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists: choose another --output, or replace it with --overwrite.")
    dataset = Dataset.open(data)
    shape = defaults.DataShape.of(dataset)
    suggestion = defaults.suggest(shape)
    audit = [line for line in PrepareReport(dataset.description).lines() if line.startswith("audit")]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(data).resolve().name).strip("-.") or "mine"
    heading = f"Made by 'ncf suggest' for {dataset.name}: {shape.line}"
    with atomic_file(target) as temporary:
        write_text(temporary, suggestion.to_toml(name, str(Path(data).resolve()), heading))
    if as_json:
        choices = [vars(choice) for choice in suggestion.choices]
        document = {"recipe": str(target), "shape": shape.to_json(), "choices": choices}
        print_json({**document, "notes": suggestion.notes, "audit": audit})
        return
    for line in [shape.line, *audit]:
        typer.echo(line)
    for choice in suggestion.choices:
        typer.echo(f"{choice.setting} = {choice.value}: {choice.reason}")
    for note in suggestion.notes:
        typer.echo(note)
    typer.echo(f"Recipe: {target}. Next: ncf train {target}")
