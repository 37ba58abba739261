"""`ncf sagemaker tune`: SageMaker's automatic model tuning."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.cli.sagemaker.jobs import Image, InstanceCount, InstanceType, MaxRun, Quiet, ScriptMode, Set
from ncf.errors import Interrupted

if TYPE_CHECKING:
    from ncf.sagemaker.jobs.fetch import Fetched
    from ncf.sagemaker.jobs.tuning import Strategy, TunerTrial
    from ncf.sagemaker.session import Session


@shared.with_session(shared.HOSTED_MAKES)
def tune(
    session: "Session",
    recipe: Annotated[str, typer.Argument(help="A TOML file; recipes/ has one for each published result.")],
    data: Annotated[str, typer.Option(help="Prepared data folder.")],
    space: Annotated[str, typer.Option(help="TOML file of the settings to vary, as 'ncf tune' reads it.")],
    trials: Annotated[int, typer.Option(help="Training jobs in all.")] = 20,
    parallel: Annotated[int, typer.Option(help="Training jobs at once.")] = 2,
    strategy: Annotated[str, typer.Option(help="Bayesian, Random or Hyperband.")] = "Bayesian",
    early_stopping: Annotated[
        bool, typer.Option("--early-stopping", help="Stop trials that do worse than the median.")
    ] = False,
    output: Annotated[
        str | None, typer.Option(help="Fetch the best run to this folder.", show_default=False)
    ] = None,
    set: Set = None,
    instance_type: InstanceType = "ml.c7i.xlarge",
    instance_count: InstanceCount = 1,
    volume_size: Annotated[int, typer.Option(help="Gigabytes of each instance's volume.")] = 30,
    max_run: MaxRun = 3600,
    spot: Annotated[bool, typer.Option("--spot", help="Spot instances.")] = False,
    max_wait: Annotated[
        int | None, typer.Option(help="With --spot: seconds for waiting and running.", show_default=False)
    ] = None,
    image: Image = None,
    script_mode: ScriptMode = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start, and do not follow.")] = False,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Search a space of settings with SageMaker's tuner; by NDCG@10 on validation. On this machine: 'ncf tune'."""
    from ncf.cli.sagemaker.cost import accept_cost
    from ncf.cli.sagemaker.progress import Upload
    from ncf.config import Experiment
    from ncf.sagemaker.jobs import launch, tuning
    from ncf.sagemaker.jobs.fetch import fetch
    from ncf.sagemaker.jobs.requests import TrainingOptions
    from ncf.sagemaker.prices import estimate
    from ncf.tuning.space import Space

    experiment, searched = Experiment.load(recipe, set or ()), Space.load(space)
    search = tuning.TunerOptions(trials, parallel, cast("Strategy", strategy), early_stopping)
    options = TrainingOptions(
        name=tuning.new_name(session), data="", image="", instance_type=instance_type, instance_count=instance_count,
        volume_gb=volume_size, max_run=max_run, spot=spot, max_wait=max_wait,
    )  # fmt: skip
    launch.data_digest(Path(data))
    most = estimate(instance_type, "training", instance_count, max_run, spot=spot).times(trials, "trials")
    accept_cost(session, most, max_cost, yes)
    inputs = launch.Inputs(Path(data), script_mode=script_mode, image=image)
    resolve_ties = launch.settle(session, experiment, inputs, options)
    tuning.tuning_request(session, experiment, searched, resolve_ties, search)
    with closing(Upload("sending data")) as progress:
        sent = launch.send(session, inputs, resolve_ties, progress)
    job = tuning.start(session, tuning.tuning_request(session, experiment, searched, sent, search))
    if no_wait:
        print_json({"job": job}) if as_json else typer.echo(f"Started {job}: the console shows its trials.")
        return
    found = _wait(session, job, quiet)
    best = tuning.best(found)
    assert best is not None
    fetched = fetch(session, best.job, output, data) if output else None
    _tell(job, found, best, fetched, as_json)


def _wait(session: Any, job: str, quiet: bool) -> "list[TunerTrial]":
    """Say of each trial when it has ended; ctrl-C leaves the tuner as it is."""
    from ncf.cli import console
    from ncf.sagemaker.jobs import tuning

    told: set[str] = set()

    def tell(found: "list[TunerTrial]") -> None:
        for trial in found:
            if trial.job not in told and trial.status in ("Completed", "Failed", "Stopped") and not quiet:
                told.add(trial.job)
                figure = "" if trial.objective is None else f", NDCG@10 {trial.objective:.4f}"
                console.log(f"{trial.job}: {trial.status}{figure}")

    try:
        if not quiet:
            console.log(f"Tuning job {job} was started.")
        return tuning.wait(session, job, tell)
    except KeyboardInterrupt:
        raise Interrupted(
            f"The tuner goes on: 'ncf sagemaker jobs' lists its trials, and 'aws sagemaker stop-hyper-parameter-tuning-job "
            f"--hyper-parameter-tuning-job-name {job}' stops it."
        ) from None


def _tell(
    job: str, found: "list[TunerTrial]", best: "TunerTrial", fetched: "Fetched | None", as_json: bool
) -> None:
    if as_json:
        trials = [
            {"job": one.job, "status": one.status, "objective": one.objective, "seconds": one.seconds,
             "values": dict(one.values)}
            for one in found
        ]  # fmt: skip
        print_json(
            {"job": job, "best": best.job, "run": str(fetched.folder) if fetched else None, "trials": trials}
        )
        return
    from rich.table import Table

    from ncf.cli.console import OUT

    names = sorted({name for one in found for name in one.values})
    table = Table(title=f"Trials of {job}", title_justify="left")
    for heading in ("trial", "state", "NDCG@10", *names):
        table.add_column(heading, justify="left" if heading in ("trial", "state") else "right")
    for one in found:
        figure = "" if one.objective is None else f"{one.objective:.4f}"
        table.add_row(one.job, one.status, figure, *(one.values.get(name, "") for name in names))
    OUT.print(table)
    where = f"in {fetched.folder}" if fetched else f"'ncf sagemaker fetch {best.job}' fetches it"
    typer.echo(f"Best: {best.job}, NDCG@10 {best.objective:.4f} on validation ({where}).")
