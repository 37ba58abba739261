"""`ncf train`, `ncf experiments import`."""

import os
import sys
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ncf.cli.options import ExperimentName, Json, Track, print_json
from ncf.errors import ConfigError

if TYPE_CHECKING:
    from ncf.config import Experiment
    from ncf.data import Dataset
    from ncf.experiment import Run
    from ncf.training.parallel.communicator import Communicator

experiments_app = typer.Typer(
    help="Runs in MLflow.", callback=lambda: None, no_args_is_help=True, rich_markup_mode=None
)
_SHORT_ID = 8


def train(
    recipe: Annotated[str, typer.Argument(help="A TOML file; recipes/ has one for each published result.")],
    output: Annotated[
        str | None, typer.Option(help="Folder of the run; a new one in runs/ by default.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Prepared data folder, instead of the recipe's.")] = None,
    set: Annotated[
        list[str] | None, typer.Option("--set", help="Override a setting: section.key=value.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of --output.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --output.")] = False,
    gmf: Annotated[
        str | None, typer.Option(help="Pre-trained GMF run to fuse, instead of training one.")
    ] = None,
    mlp: Annotated[
        str | None, typer.Option(help="Pre-trained MLP run to fuse, instead of training one.")
    ] = None,
    report_best_on_test: Annotated[
        bool,
        typer.Option(
            "--report-best-on-test", help="Also judge every epoch on test, as papers do (it flatters)."
        ),
    ] = False,
    track: Annotated[
        str | None,
        typer.Option(
            envvar="NCF_TRACK",
            help="Record in MLflow: sqlite:///FILE, a folder, http(s)://SERVER or an ARN.",
            show_default=False,
        ),
    ] = None,
    track_as: ExperimentName = "ncf",
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Groups a step over all processes (train.batch_size).", show_default=False),
    ] = None,
    tables: Annotated[
        str | None,
        typer.Option(help="replicated, or sharded over the processes (train.tables).", show_default=False),
    ] = None,
    nproc: Annotated[
        int, typer.Option(min=1, help="Processes to start on this machine, under torchrun's agent.")
    ] = 1,
    max_restarts: Annotated[
        int, typer.Option(min=0, help="With --nproc: starts again from the checkpoint after a crash.")
    ] = 0,
    distributed: Annotated[
        str,
        typer.Option(help="Who started this process: auto, torchrun, horovod or smddp."),
    ] = "auto",
    timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds that processes wait for one that hangs.")
    ] = 1800.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    as_json: Json = False,
) -> None:
    """Train a recipe: judge it, save checkpoints, write the artifact."""
    from ncf import experiment
    from ncf.cli import console
    from ncf.config import Experiment
    from ncf.runtime import stop_requested
    from ncf.sagemaker.container.environment import job_identity
    from ncf.tracking.mlflow_run import open_tracker
    from ncf.tracking.tracker import Silent, Trackers
    from ncf.training.parallel.connect import connect
    from ncf.training.parallel.launcher import Begun, begun, restarted

    if resume and output is None:
        raise ConfigError("--resume needs the --output folder of the run to go on with.")
    given = [("train.batch_size", batch_size), ("train.tables", tables)]
    overrides = [*(set or ()), *(f"{name}={value}" for name, value in given if value is not None)]
    settings = Experiment.load(recipe, overrides)
    if nproc > 1:
        _refuse_to_launch(distributed)
        _launch(settings.name, output, nproc, max_restarts)
        return
    if max_restarts:
        raise ConfigError(
            "--max-restarts goes with --nproc; torchrun has an option of its own with that name."
        )
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) and output is None:
        raise ConfigError(
            "torchrun with --max-restarts needs --output, the folder that a restart goes on with."
        )
    with ExitStack() as stack:
        communicator = stack.enter_context(connect(distributed, timedelta(seconds=timeout)))
        first = communicator.rank == 0
        shown = Silent() if quiet or not first else console.ConsoleTracker()
        stack.enter_context(closing(shown))
        recorder = (
            stack.enter_context(open_tracker(track, track_as, console.log, job_identity))
            if track and first
            else Silent()
        )
        stop = stack.enter_context(stop_requested())
        dataset, data_path = _data(settings, data, communicator)
        begin = [Begun()] if communicator.size > 1 and first else []
        again = restarted() and output is not None and begun(output)
        resume = communicator.broadcast(resume or again)
        tracker = Trackers([shown, recorder, *begin])
        options = experiment.RunOptions(
            resume,
            overwrite,
            report_best_on_test,
            tracker=tracker,
            stop=stop,
            communicator=communicator,
        )
        run = experiment.train(
            dataset, settings, output, data_path=data_path, gmf=gmf, mlp=mlp, options=options
        )
    if first:
        _print_run(run, as_json)
    told("", 0)


def _print_run(run: "Run", as_json: bool) -> None:
    if as_json:
        print_json({"run": str(run.folder), "artifact": str(run.artifact), **run.metrics})
        return
    means = run.metrics["test"]["metrics"]
    figures = [
        f"{label} {means[key]:.4f}"
        for key, label in (("hr@10", "HR@10"), ("ndcg@10", "NDCG@10"))
        if key in means
    ]
    typer.echo(
        f"Test, weights of {run.metrics['selected']}: {', '.join(figures) or 'nothing was held out'} "
        f"('ncf evaluate {run.folder}' tells more)."
    )
    best = run.metrics.get("best_on_test")
    if best:
        typer.echo(
            f"Best on test, as papers print it (it flatters): HR@10 {best['test_hr@10']:.4f}, "
            f"NDCG@10 {best['test_ndcg@10']:.4f} after epoch {best['epoch']}."
        )


def told(sentence: str, code: int) -> bool:
    """Whether this is one of the processes that `ncf train --nproc` started, which then prints the sentence."""
    if "NCF_ENDINGS" not in os.environ:
        return False
    from ncf.training.parallel.launcher import ending

    return ending(sentence, code)


def _refuse_to_launch(distributed: str) -> None:
    starters = {"WORLD_SIZE": "torchrun", "HOROVOD_SIZE": "Horovod", "OMPI_COMM_WORLD_SIZE": "MPI"}
    for variable, starter in starters.items():
        if variable in os.environ:
            raise ConfigError(
                f"--nproc starts processes, but {starter} has started this one already: leave it out."
            )
    if distributed == "horovod":
        raise ConfigError(
            "--nproc starts processes under torchrun's agent: leave --distributed horovod out, or start with "
            "'horovodrun -np N ncf train … --distributed horovod' instead."
        )


def _launch(name: str, output: str | None, processes: int, restarts: int) -> None:
    """This command in several processes; they share one --output, and go on from its checkpoints after a crash."""
    from ncf import experiment
    from ncf.cli import console
    from ncf.training.parallel.launcher import launch

    words = [word for word in sys.argv[1:] if not word.startswith(("--nproc=", "--max-restarts="))]
    for option in ("--nproc", "--max-restarts"):
        if option in words:
            at = words.index(option)
            del words[at : at + 2]
    if output is None:
        output = str(experiment.fresh_folder(name))
        words += ["--output", output]
    launch(["-m", "ncf", *words], output, processes, restarts, console.log)


def _data(settings: "Experiment", data: str | None, communicator: "Communicator") -> "tuple[Dataset, Path]":
    """The data of this process; a known set that is not there yet is prepared by one process of each machine."""
    from ncf import experiment
    from ncf.cli import console
    from ncf.runtime import local_rank

    opened = experiment.open_data(settings, data, console.log) if local_rank() == 0 else None
    communicator.barrier()
    return opened or experiment.open_data(settings, data, console.log)


@experiments_app.command("import")
def import_experiment(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Output folder of 'ncf train'.")],
    track: Track = None,
    experiment: ExperimentName = "ncf",
    as_json: Json = False,
) -> None:
    """Send a run from its folder, or what the server lacks of it: after a server was down, or without --track."""
    from ncf.sagemaker.container.environment import job_identity
    from ncf.tracking import mlflow
    from ncf.tracking.mlflow_run import import_run, read_run

    read_run(Path(run))
    location = mlflow.resolve(track)
    run_id = import_run(mlflow.MLflowStore(location, experiment), Path(run), identity=job_identity)
    if as_json:
        print_json({"run_id": run_id, "track": mlflow.shown(location), "experiment": experiment})
        return
    typer.echo(f"{run} is run {run_id[:_SHORT_ID]} of {experiment} at {mlflow.shown(location)}.")
