"""`ncf sagemaker train`, `fetch`, `jobs`, `logs`, `stop`."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.cli.sagemaker.distributed import open_distribution
from ncf.cli.sagemaker.tracking import Track, TrackAs, again, recorded, tracking
from ncf.errors import Interrupted

if TYPE_CHECKING:
    from ncf.sagemaker.container.distribution import Distribution
    from ncf.sagemaker.jobs.fetch import Fetched
    from ncf.sagemaker.jobs.mlflow import Tracking
    from ncf.sagemaker.jobs.training import TrainingJob
    from ncf.sagemaker.session import Session

JobName = Annotated[str, typer.Argument(metavar="JOB", help="Name of a training job.")]
InstanceType = Annotated[str, typer.Option(help="SageMaker instance type.")]
InstanceCount = Annotated[
    int,
    typer.Option(
        "--instance-count", "--instances", help="How many instances, which train one model together."
    ),
]
Image = Annotated[
    str | None, typer.Option(help="Container image; NCF_IMAGE, or the one of push-image.", show_default=False)
]
ScriptMode = Annotated[
    bool, typer.Option("--script-mode", help="AWS's PyTorch image with this package's source.")
]
MaxRun = Annotated[int, typer.Option(help="Stop after so many seconds.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting: section.key=value; repeat.")
]


@shared.with_session(shared.MAKES)
@shared.gathered("distribution", open_distribution)
def train(
    session: "Session",
    distribution: "Distribution",
    recipe: Annotated[str, typer.Argument(help="A TOML file; recipes/ has one for each published result.")],
    data: Annotated[str, typer.Option(help="Prepared data folder.")],
    output: Annotated[str | None, typer.Option(help="Folder of the run; runs/JOB by default.")] = None,
    set: Set = None,
    instance_type: InstanceType = "ml.c7i.xlarge",
    instance_count: InstanceCount = 1,
    volume_size: Annotated[int, typer.Option(help="Gigabytes of each instance's volume.")] = 30,
    max_run: MaxRun = 3600,
    spot: Annotated[
        bool, typer.Option("--spot", help="Spot instances: cheaper, and may be taken away.")
    ] = False,
    max_wait: Annotated[
        int | None, typer.Option(help="With --spot: seconds for waiting and running.", show_default=False)
    ] = None,
    checkpoints: Annotated[
        str | None, typer.Option(help="URI, or folder with --local; the job's own place by default.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="JOB", help="Go on from the checkpoints of an earlier job.")
    ] = None,
    keep_alive: Annotated[
        int | None, typer.Option(help="Warm pool: seconds that the instances wait for another job.")
    ] = None,
    image: Image = None,
    script_mode: ScriptMode = False,
    gmf: Annotated[str | None, typer.Option(help="Pre-trained GMF run to fuse.")] = None,
    mlp: Annotated[str | None, typer.Option(help="Pre-trained MLP run to fuse.")] = None,
    track: Track = None,
    track_as: TrackAs = None,
    name: Annotated[str | None, typer.Option(help="Name of the job, the project before it.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Start, and do not follow.")] = False,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a recipe in a container: here with --local, or as a job of hosted SageMaker; then fetch the run."""
    from ncf.cli.sagemaker.cost import accept_cost
    from ncf.cli.sagemaker.progress import Upload
    from ncf.config import Experiment
    from ncf.sagemaker.jobs import launch
    from ncf.sagemaker.jobs.fetch import check_free
    from ncf.sagemaker.jobs.requests import TrainingOptions
    from ncf.sagemaker.prices import estimate

    experiment = Experiment.load(recipe, set or ())
    launch.data_digest(Path(data))
    where = tracking(session, track, track_as)
    if output is not None and not no_wait:
        check_free(Path(output))
    options = TrainingOptions(
        name=launch.job_name(session, name, experiment), data="", image="", instance_type=instance_type,
        instance_count=instance_count, volume_gb=volume_size, max_run=max_run, spot=spot, max_wait=max_wait,
        keep_alive=keep_alive, environment=where.environment if where else {}, distribution=distribution,
    )  # fmt: skip
    inputs = launch.Inputs(Path(data), gmf, mlp, script_mode, image, checkpoints, resume)
    billed = max_run + (keep_alive or 0)
    accept_cost(
        session, estimate(instance_type, "training", instance_count, billed, spot=spot), max_cost, yes
    )
    try:
        with closing(Upload("sending data")) as progress:
            job = launch.launch(session, experiment, inputs, options, progress)
    except KeyboardInterrupt:
        raise Interrupted("Nothing was started; what was sent is kept for the next try.") from None
    if no_wait:
        _started(session, job, as_json, where)
        return
    _follow(session, job, _epochs(experiment, gmf is not None), quiet, where)
    fetched = _fetched(session, job, output, data)
    recorded(session, job, fetched.folder, where)
    _told(fetched, job, as_json)


@shared.with_session(shared.READS)
def fetch(
    session: "Session",
    job: JobName,
    output: Annotated[str | None, typer.Option(help="Folder of the run; runs/JOB by default.")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="The data it was trained on, here; looked for in data/ by default.", show_default=False
        ),
    ] = None,
    track: Track = None,
    track_as: TrackAs = None,
    as_json: Json = False,
) -> None:
    """Download a finished job as a run folder, verified; cut off, it goes on where it was."""
    where = tracking(session, track, track_as)
    fetched = _fetched(session, job, output, data)
    recorded(session, job, fetched.folder, where)
    _told(fetched, job, as_json)


@shared.with_session(shared.READS)
def jobs(
    session: "Session",
    most: Annotated[int, typer.Option("--most", "-n", help="How many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """The project's training jobs: state, duration, metric, and what each cost so far."""
    from ncf.sagemaker.jobs.training import list_jobs

    found = list_jobs(session, most)
    if as_json:
        print_json({"jobs": [_summary(job) for job in found]})
        return
    if not found:
        typer.echo("There are no training jobs of this project.")
        return
    from rich.table import Table

    from ncf.cli.console import OUT

    table = Table()
    for heading in ("job", "state", "duration", "NDCG@10", "$"):
        table.add_column(heading, justify="left" if heading in ("job", "state") else "right")
    for job in found:
        table.add_row(*_row(job))
    OUT.print(table)


@shared.with_session(shared.READS)
def logs(
    session: "Session",
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
) -> None:
    """What a job's containers wrote."""
    from ncf.sagemaker.jobs import training
    from ncf.sagemaker.jobs.logs import TRAINING, Line, read

    known = training.describe(session, job)

    def show(line: Line) -> None:
        typer.echo(line.text)

    if not follow or known.over:
        for line in read(session, TRAINING, f"{job}/"):
            show(line)
        return
    try:
        training.wait(session, job, show)
    except KeyboardInterrupt:
        raise _going_on(session, job) from None


@shared.with_session(shared.READS)
def stop(
    session: "Session",
    job: JobName,
) -> None:
    """Stop a job; it has two minutes to save a checkpoint, and --resume goes on from it."""
    from ncf.sagemaker.jobs import training

    stopped = training.stop(session, job)
    again = "" if stopped.status == "Completed" else f" ('ncf sagemaker train … --resume {job}' goes on)"
    typer.echo(f"{job}: {stopped.status}{again}")


def _follow(session: "Session", job: str, epochs: int, quiet: bool, tracking: "Tracking | None") -> None:
    """Wait for the end; ctrl-C leaves the job as it is."""
    from ncf.cli import console
    from ncf.cli.sagemaker.progress import Follower
    from ncf.sagemaker.jobs import training

    try:
        if not quiet:
            console.log(f"Job {job} was started.")
            with closing(Follower(epochs)) as follower:
                training.wait(session, job, follower.line, follower.status)
            return
        training.wait(session, job)
    except KeyboardInterrupt:
        raise _going_on(session, job, tracking) from None
    except training.JobFailed as failed:
        for line in failed.lines if quiet else ():
            console.log(line)
        raise


def _going_on(session: "Session", job: str, tracking: "Tracking | None" = None) -> Interrupted:
    where = f"{job} --local" if session.local else job
    return Interrupted(
        f"The job goes on: 'ncf sagemaker logs {where} --follow' follows it, 'ncf sagemaker stop {where}' stops it, "
        f"'ncf sagemaker fetch {where}{again(tracking)}' fetches its run."
    )


def _started(session: "Session", job: str, as_json: bool, tracking: "Tracking | None") -> None:
    if as_json:
        print_json({"job": job})
        return
    where = f"{job} --local" if session.local else job
    fetching = f"ncf sagemaker fetch {where}{again(tracking)}"
    typer.echo(f"Started {job}: 'ncf sagemaker logs {where} --follow', then '{fetching}'.")


def _fetched(session: "Session", job: str, output: str | None, data: str | None) -> "Fetched":
    from ncf.cli import console
    from ncf.sagemaker.jobs.fetch import fetch
    from ncf.sagemaker.jobs.logs import TRAINING, read
    from ncf.sagemaker.jobs.training import JobFailed

    try:
        return fetch(session, job, output, data)
    except JobFailed:
        for line in read(session, TRAINING, f"{job}/")[-20:]:
            console.log(line.text)
        raise


def _told(fetched: "Fetched", job: str, as_json: bool) -> None:
    """The test figures, as `ncf train` prints them."""
    metrics = fetched.metrics
    if as_json:
        print_json({"job": job, "run": str(fetched.folder), "artifact": str(fetched.artifact), **metrics})
        return
    means = metrics.get("test", {}).get("metrics", {})
    labels = (("hr@10", "HR@10"), ("ndcg@10", "NDCG@10"))
    shown = [f"{label} {means[key]:.4f}" for key, label in labels if key in means]
    typer.echo(
        f"Test, weights of {metrics.get('selected', 'the last epoch')}: {', '.join(shown) or 'nothing was held out'} "
        f"('ncf evaluate {fetched.folder}' tells more)."
    )


def _epochs(experiment: Any, fused: bool) -> int:
    halves = experiment.pretraining if experiment.pretraining and not fused else None
    return int(experiment.train.epochs + (halves.gmf.train.epochs + halves.mlp.train.epochs if halves else 0))


def _summary(job: "TrainingJob") -> dict[str, Any]:
    return {
        "job": job.name, "status": job.status, "secondary": job.secondary, "seconds": job.seconds,
        "metrics": job.metrics, "cost": job.cost, "reason": job.reason or None,
    }  # fmt: skip


def _row(job: "TrainingJob") -> list[str]:
    from ncf.sagemaker.container.metric_lines import OBJECTIVE

    figure = job.metrics.get("test_ndcg@10", job.metrics.get(OBJECTIVE))
    state = job.status if job.secondary == job.status else f"{job.status}, {job.secondary}"
    return [
        job.name, state, "" if job.seconds is None else _duration(job.seconds),
        "" if figure is None else f"{figure:.4f}", "?" if job.cost is None else f"{job.cost:.2f}",
    ]  # fmt: skip


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
