"""`ncf sagemaker tune`: SageMaker's automatic model tuning."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.errors import Interrupted, need

if TYPE_CHECKING:
    from ncf.sagemaker.jobs.fetch import Fetched
    from ncf.sagemaker.jobs.requests import TrainingOptions
    from ncf.sagemaker.jobs.tuning import TunerTrial
    from ncf.sagemaker.session import Session


@shared.with_session(shared.HOSTED_MAKES)
@shared.gathered("options", shared.training_options)
def tune(
    session: "Session",
    options: "TrainingOptions",
    recipe: shared.Recipe,
    data: Annotated[str, typer.Option(help="Prepared data folder.")],
    space: Annotated[str, typer.Option(help="TOML file of the settings to vary, as 'ncf tune' reads it.")],
    trials: Annotated[int, typer.Option(help="Training jobs in all.")] = 20,
    parallel: Annotated[int, typer.Option(help="Training jobs at once.")] = 2,
    strategy: Annotated[
        Literal["Bayesian", "Random", "Hyperband"], typer.Option(help="How trials are chosen.")
    ] = "Bayesian",
    early_stopping: Annotated[
        bool, typer.Option("--early-stopping", help="Stop trials that do worse than the median.")
    ] = False,
    output: Annotated[
        str | None, typer.Option(help="Fetch the best run to this folder.", show_default=False)
    ] = None,
    set: shared.Set = None,
    image: shared.Image = None,
    script_mode: shared.ScriptMode = False,
    no_wait: shared.NoFollow = False,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
    quiet: shared.Quiet = False,
    as_json: Json = False,
) -> None:
    """Search a space of settings with SageMaker's tuner, by validation NDCG@10; here 'ncf tune' does it.

    Examples:
        ncf sagemaker tune neumf --space default --data data/mine
        ncf sagemaker tune neumf --space s.toml --data d --trials 9 --max-cost 5
    """
    if script_mode and image is None:
        need("sagemaker", "sagemaker")
    from ncf.cli.sagemaker.progress import Upload
    from ncf.config import Experiment
    from ncf.sagemaker.jobs import launch, tuning
    from ncf.sagemaker.jobs.fetch import fetch
    from ncf.sagemaker.prices import estimate
    from ncf.tuning.space import Space

    experiment, searched = Experiment.load(recipe, set or ()), Space.load(space)
    search = tuning.TunerOptions(trials, parallel, strategy, early_stopping)
    options = replace(options, name=tuning.new_name(session))
    launch.data_digest(Path(data))
    each = estimate(
        options.instance_type, "training", options.instance_count, options.max_run, spot=options.spot
    )
    shared.accept_cost(session, each.times(trials, "trials"), max_cost, yes)
    inputs = launch.Inputs(Path(data), script_mode=script_mode, image=image)
    resolved = launch.resolve(session, experiment, inputs, options)
    tuning.tuning_request(
        session, experiment, searched, resolved, search
    )  # raises for a space that cannot be
    with closing(Upload("sending data")) as progress:
        sent = launch.send(session, inputs, resolved, progress)
    job = tuning.start(session, tuning.tuning_request(session, experiment, searched, sent, search))
    if no_wait:
        print_json({"job": job}) if as_json else typer.echo(f"Started {job}: the console shows its trials.")
        return
    ended = _wait(session, job, quiet)
    best = tuning.best(ended)
    assert best is not None
    fetched = fetch(session, best.job, output, data) if output else None
    _print_trials(job, ended, best, fetched, as_json)


def _wait(session: Any, job: str, quiet: bool) -> "list[TunerTrial]":
    """Wait for the tuner and print each trial that ends; ctrl-C leaves the tuner running."""
    from ncf.sagemaker.jobs import tuning
    from ncf.tracking import console

    printed: set[str] = set()

    def show(trials: "list[TunerTrial]") -> None:
        for trial in trials:
            if trial.job not in printed and trial.status in ("Completed", "Failed", "Stopped") and not quiet:
                printed.add(trial.job)
                figure = "" if trial.objective is None else f", NDCG@10 {trial.objective:.4f}"
                console.log(f"{trial.job}: {trial.status}{figure}")

    try:
        if not quiet:
            console.log(f"Tuning job {job} was started.")
        return tuning.wait(session, job, show)
    except KeyboardInterrupt:
        raise Interrupted(
            "The tuner is still running: 'ncf sagemaker jobs' lists its trials, and 'aws sagemaker "
            f"stop-hyper-parameter-tuning-job --hyper-parameter-tuning-job-name {job}' stops it."
        ) from None


def _print_trials(
    job: str, trials: "list[TunerTrial]", best: "TunerTrial", fetched: "Fetched | None", as_json: bool
) -> None:
    if as_json:
        rows = [
            {"job": trial.job, "status": trial.status, "objective": trial.objective, "seconds": trial.seconds,
             "values": dict(trial.values)}
            for trial in trials
        ]  # fmt: skip
        run = str(fetched.folder) if fetched else None
        print_json({"job": job, "best": best.job, "run": run, "trials": rows})
        return
    from rich.table import Table

    from ncf.tracking.console import OUT

    names = sorted({name for trial in trials for name in trial.values})
    table = Table(title=f"Trials of {job}", title_justify="left")
    for heading in ("trial", "state", "NDCG@10", *names):
        table.add_column(heading, justify="left" if heading in ("trial", "state") else "right")
    for trial in trials:
        figure = "" if trial.objective is None else f"{trial.objective:.4f}"
        table.add_row(trial.job, trial.status, figure, *(trial.values.get(name, "") for name in names))
    OUT.print(table)
    where = f"in {fetched.folder}" if fetched else f"'ncf sagemaker fetch {best.job}' fetches it"
    typer.echo(f"Best: {best.job}, NDCG@10 {best.objective:.4f} on validation ({where}).")
