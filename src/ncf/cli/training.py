"""`ncf train`, `ncf experiments import`."""

import os
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ncf.cli.help import App
from ncf.cli.options import (
    Data,
    ExperimentName,
    Json,
    RecipeData,
    RunPath,
    Set,
    Track,
    print_json,
    print_verdict,
)
from ncf.errors import ConfigError, need

if TYPE_CHECKING:
    from ncf.config import Experiment
    from ncf.data import Dataset
    from ncf.experiment import Run, RunOptions
    from ncf.renewal.final import Twin
    from ncf.training.parallel.communicator import Communicator

experiments_app = App(help="Send runs to MLflow.", callback=lambda: None)
_SHORT_ID = 8
_HOW = {"train.threads", "train.device", "train.tables", "train.checkpoint_every", "train.keep_checkpoints"}
"""Settings of a final fit that may differ from its twin's: they say how it is carried out."""


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="TOML file, or a name of 'ncf recipes list'; by default 'default'.",
            metavar="[RECIPE]",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Folder of the run; by default a new one in runs/.")
    ] = None,
    data: RecipeData = None,
    named: Annotated[
        str | None, typer.Option("--recipe", help="The same as RECIPE.", show_default=False)
    ] = None,
    set: Set = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Resume from the last checkpoint in --output.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --output.")] = False,
    gmf: Annotated[
        str | None, typer.Option(help="Pre-trained GMF run to fuse, instead of training one.")
    ] = None,
    mlp: Annotated[
        str | None, typer.Option(help="Pre-trained MLP run to fuse, instead of training one.")
    ] = None,
    final: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Train the recipe of this judged run for as many epochs on all interactions, test included.",
            show_default=False,
        ),
    ] = None,
    earlier: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Start from the vectors of this run, on the newer --data; RECIPE is by default the run's.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01, help="Search settings first, so that all takes about so long.", show_default=False
        ),
    ] = None,
    report_best_on_test: Annotated[
        bool,
        typer.Option(
            "--report-best-on-test", help="Also evaluate every epoch on test, as papers do (optimistic)."
        ),
    ] = False,
    track: Annotated[
        str | None,
        typer.Option(
            envvar="NCF_TRACK",
            help="Record the run in MLflow: sqlite:///FILE, a folder, http(s)://SERVER or an ARN.",
            show_default=False,
        ),
    ] = None,
    track_as: ExperimentName = "ncf",
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Groups per step, over all processes (train.batch_size).", show_default=False
        ),
    ] = None,
    tables: Annotated[
        Literal["replicated", "sharded"] | None,
        typer.Option(
            help="Whether each process has all embeddings or a share (train.tables).", show_default=False
        ),
    ] = None,
    nproc: Annotated[int, typer.Option(min=1, help="Number of processes to start on this machine.")] = 1,
    max_restarts: Annotated[
        int, typer.Option(min=0, help="With --nproc: restarts from the last checkpoint after a crash.")
    ] = 0,
    distributed: Annotated[
        Literal["auto", "torchrun", "horovod", "smddp"],
        typer.Option(help="What started this process and the others."),
    ] = "auto",
    timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds to wait for a process that does not respond.")
    ] = 1800.0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Train a recipe, evaluate it, save checkpoints and write the artifact.

    Examples:
        ncf train --data data/mine --output runs/mine
        ncf train neumf --data data/mine --set model.factors=32 --set train.epochs=10
    """
    if track:
        need("mlflow", "mlflow")
    if minutes is not None:
        need("tune", "optuna")
    from ncf import experiment
    from ncf.config import Experiment
    from ncf.runtime import stop_requested
    from ncf.sagemaker.container.environment import job_identity
    from ncf.tracking import console
    from ncf.tracking.mlflow_run import open_tracker
    from ncf.tracking.tracker import Silent, Tracker, Trackers
    from ncf.training.parallel.connect import connect
    from ncf.training.parallel.launcher import LaunchMark, began_here, restarted
    from ncf.training.run_folder import refuse_taken

    if resume and output is None:
        raise ConfigError("--resume needs --output, the folder of the run to resume.")
    given = [("train.batch_size", batch_size), ("train.tables", tables)]
    overrides = [*(set or ()), *(f"{name}={value}" for name, value in given if value is not None)]
    if None not in (named, recipe) and named != recipe:
        raise ConfigError(f"Two recipes are given, {recipe} and --recipe {named}: keep one.")
    if earlier and (final or gmf or mlp or minutes is not None):
        raise ConfigError("--from starts from one run: leave out --final, --gmf, --mlp and --minutes.")
    begun = _Beginning.of(named or recipe, overrides, final, minutes, earlier)
    settings = begun.settings
    if minutes is not None and (nproc > 1 or settings.pretraining is not None):
        raise ConfigError("--minutes searches in one process, a recipe without [pretraining]: leave it out.")
    if nproc > 1:
        _refuse_to_launch(distributed)
        _launch(begun.name, output, nproc, max_restarts)
        return
    if max_restarts:
        raise ConfigError("--max-restarts needs --nproc; torchrun has its own option of that name.")
    if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) and output is None:
        raise ConfigError("torchrun --max-restarts needs --output, the folder that a restart resumes.")
    with ExitStack() as stack:
        communicator = stack.enter_context(connect(distributed, timedelta(seconds=timeout)))
        first = communicator.rank == 0
        shown = Silent() if quiet or not first else console.ConsoleTracker()
        stack.enter_context(closing(shown))
        trackers: list[Tracker] = [shown]
        if track and first:
            recorder = open_tracker(track, track_as, console.log, job_identity)
            trackers.append(stack.enter_context(recorder))
        stop = stack.enter_context(stop_requested())
        with console.timed(shown, "reading") as phases:
            dataset, data_path = begun.data(data, communicator)
        if communicator.size > 1 and first:
            trackers.append(LaunchMark())
        # A restart repeats the same command, so only the folder tells whether there is something to resume.
        again = restarted() and output is not None and began_here(output)
        options = experiment.RunOptions(
            resume=communicator.broadcast(resume or again),
            overwrite=overwrite,
            report_best_on_test=report_best_on_test,
            tracker=Trackers(trackers),
            phases=phases,
            stop=stop,
            communicator=communicator,
        )
        if minutes is not None:
            if communicator.size > 1:
                raise ConfigError("--minutes searches in one process: start it without a launcher.")
            output = output or str(experiment.fresh_folder(settings.name))
            there = refuse_taken(Path(output), options.resume, overwrite)
            with console.timed(options.tracker, "settings search") as searched:
                settings = (
                    Experiment.parse(there["experiment"], source=f"{output}/run.json")
                    if there is not None and options.resume  # it has searched already
                    else _searched(minutes, dataset, settings, Path(output), data_path, options)
                )
            options = replace(options, phases={**phases, **searched})
        if first:
            output = output or str(experiment.fresh_folder(begun.name))
        run = experiment.train(
            dataset,
            settings,
            output,
            data_path=data_path,
            gmf=gmf,
            mlp=mlp,
            options=options,
            final=begun.twin.folder if begun.twin else None,
            warm=earlier,
        )
    if first:
        _print_run(run, as_json)
    left_to_launcher("", 0)


@dataclass(frozen=True)
class _Beginning:
    """What `ncf train` trains: the settings, and the run that they come from, if any."""

    settings: "Experiment"
    twin: "Twin | None" = None

    @classmethod
    def of(
        cls,
        recipe: str | None,
        overrides: list[str],
        final: str | None,
        minutes: float | None,
        earlier: str | None,
    ) -> "_Beginning":
        from ncf.config import Experiment
        from ncf.renewal.warm import warm_recipe

        if earlier is not None:
            own = Experiment.load(recipe, overrides) if recipe else None
            return cls(warm_recipe(earlier, own, overrides))
        if final is None:
            return cls(Experiment.load(recipe or "default", overrides))
        from ncf.renewal.final import recipe_of, twin_of

        given = [name for name in overrides if name.partition("=")[0] not in _HOW]
        if recipe is not None or given or minutes is not None:
            what = recipe or (f"--set {given[0]}" if given else "--minutes")
            raise ConfigError(f"--final takes the recipe of {final} as it is: leave {what} out.")
        twin = twin_of(final)
        values = recipe_of(twin).model_dump(mode="json")
        return cls(Experiment.parse(values, overrides, source=final), twin)

    @property
    def name(self) -> str:
        """Of the run's folder, where none is given."""
        return f"{self.settings.name}-final" if self.twin else self.settings.name

    def data(self, folder: str | None, communicator: "Communicator") -> "tuple[Dataset, Path]":
        """Open the data. If a known data set must be prepared first, one process per machine does it."""
        from ncf import experiment
        from ncf.renewal.final import data_of
        from ncf.runtime import local_rank
        from ncf.tracking import console

        if self.twin is not None:
            return data_of(self.twin.folder, self.twin.artifact, folder)
        opened = experiment.open_data(self.settings, folder, console.log) if local_rank() == 0 else None
        communicator.barrier()
        return opened or experiment.open_data(self.settings, folder, console.log)


def update(
    run: RunPath,
    events: Annotated[
        str, typer.Option(help="New interactions: a file, folder, pattern or s3:// URI.", show_default=False)
    ],
    output: Annotated[
        str | None, typer.Option(help="Folder of the new run; its data go into OUTPUT-data.")
    ] = None,
    data: Data = None,
    user: Annotated[
        str | None, typer.Option(help="Column of user ids, if not called as in the first table.")
    ] = None,
    item: Annotated[str | None, typer.Option(help="Column of item ids, likewise.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of timestamps, likewise.")] = None,
    items: Annotated[str | None, typer.Option(help="Newer table with titles and other columns.")] = None,
    set: Set = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
    as_json: Json = False,
) -> None:
    """Add new events to the data of a run, and train on from it: the run and its data stay.

    Examples:
        ncf update runs/mine --events new.csv
        ncf update runs/mine --events new.csv --output runs/newer --items titles.csv
    """
    from ncf import experiment
    from ncf.data import Dataset, update_data
    from ncf.data.columns import ColumnNames
    from ncf.data.folder import refuse_foreign
    from ncf.renewal.final import data_of
    from ncf.renewal.warm import warm_recipe
    from ncf.serving.artifact import open_artifact
    from ncf.training.run_folder import refuse_taken

    warm_recipe(run, None, list(set or ()))  # a wrong setting is refused before anything is written
    artifact = open_artifact(run)
    earlier, folder = data_of(run, artifact, data)
    output = output or str(experiment.fresh_folder(artifact.experiment.name))
    target = Path(f"{output}-data")
    refuse_taken(Path(output), False, False)
    refuse_foreign(target)
    if target.resolve() == folder.resolve():
        raise ConfigError(f"{target} holds the data of {run}, which stay: choose another --output.")
    found = update_data(earlier, events, ColumnNames(user, item, time), items)
    there = f"{found.already:,} of {found.rows:,} rows of {events} were in the data already"
    if found.prepared is None:
        if as_json:
            print_json({"run": None, "rows": found.rows, "already": found.already})
        else:
            typer.echo(f"{there}: nothing to do.")
        return
    dataset, report = found.prepared
    if (target / "dataset.json").is_file() and Dataset.open(target).digest != dataset.digest:
        raise ConfigError(f"{target} holds other data, which stay: choose another --output, or remove them.")
    dataset.save(target)
    if not as_json:
        for line in [*report.lines(), f"{there}, and were left out.", f"wrote     {target}"]:
            typer.echo(line)
    train(earlier=run, output=output, data=str(target), set=set, quiet=quiet, as_json=as_json)


def _searched(
    minutes: float,
    dataset: "Dataset",
    settings: "Experiment",
    output: Path,
    data_path: Path,
    options: "RunOptions",
) -> "Experiment":
    """The best settings of a search, whose trials are shown."""
    from ncf.cli.tune_watch import ShownSearch
    from ncf.runtime import choose_threads, workers
    from ncf.tuning.minutes import search_for

    with ShownSearch(None) as watcher, workers(choose_threads(settings.train.threads)) as pool:
        return search_for(
            minutes,
            dataset,
            settings,
            output.with_name(f"{output.name}-search"),
            data_path=data_path,
            workers=pool,
            tracker=options.tracker,
            watcher=watcher,
            stop=options.stop,
        )


def _print_run(run: "Run", as_json: bool) -> None:
    if as_json:
        print_json({"run": str(run.folder), "artifact": str(run.artifact), **run.metrics})
        return
    from ncf.cli.evaluation_tables import cold_sentence, miss_sentence
    from ncf.serving.card import final_sentence
    from ncf.tracking.console import headlines

    if final := final_sentence(run.metrics):
        typer.echo(f"{final} Judge it on later interactions with 'ncf evaluate {run.folder} --data NEW'.")
    judged = run.metrics["final"]["twin"] if final else run.folder
    test = run.metrics["test"]
    figures = ", ".join(headlines(test["metrics"])) or "nothing was held out"
    typer.echo(
        f"Test, weights of {run.metrics['selected']}: {figures} (see 'ncf evaluate {judged}' for more)."
    )
    if cold := test.get("cold_users"):
        typer.echo(cold_sentence(cold, test["without_cold_users"], "test"))
    if cutoffs := test.get("cannot_miss"):
        typer.echo(miss_sentence(cutoffs, "test", test["longest_list"]))
    best = run.metrics.get("best_on_test")
    if best:
        figures = ", ".join(headlines({name.removeprefix("test_"): value for name, value in best.items()}))
        typer.echo(
            f"Best epoch on test, as papers report it (optimistic): {figures} after epoch {best['epoch']}."
        )
    print_verdict(run.metrics.get("verdict"))


def left_to_launcher(message: str, code: int) -> bool:
    """Whether `ncf train --nproc` started this process and prints `message`, about its exit with `code`,
    itself."""
    if "NCF_ENDINGS" not in os.environ:
        return False
    from ncf.training.parallel.launcher import leave_message

    return leave_message(message, code)


def _refuse_to_launch(distributed: str) -> None:
    launchers = {"WORLD_SIZE": "torchrun", "HOROVOD_SIZE": "Horovod", "OMPI_COMM_WORLD_SIZE": "MPI"}
    for variable, launcher in launchers.items():
        if variable in os.environ:
            raise ConfigError(f"{launcher} started this process already: leave --nproc out.")
    if distributed == "horovod":
        raise ConfigError(
            "--nproc starts processes under torchrun's agent: leave --distributed horovod out, or run "
            "'horovodrun -np N ncf train … --distributed horovod' instead."
        )


def _launch(name: str, output: str | None, processes: int, restarts: int) -> None:
    """Run this same command in several processes, which share one --output."""
    from ncf import experiment
    from ncf.tracking import console
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


@experiments_app.command("import")
def import_experiment(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Output folder of 'ncf train'.")],
    track: Track = None,
    experiment: ExperimentName = "ncf",
    as_json: Json = False,
) -> None:
    """Send a finished run to MLflow: one trained without --track, or while the server was down.

    Examples:
        ncf experiments import runs/mine
        ncf experiments import runs/mine --track http://localhost:5000
    """
    need("mlflow", "mlflow")
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
