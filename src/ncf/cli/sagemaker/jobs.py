"""`ncf sagemaker push-image`, `train`, `fetch`, `jobs`, `logs`, `stop`."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ncf.cli.options import Json, print_json
from ncf.cli.sagemaker import options as shared
from ncf.cli.sagemaker.tracking import Track, TrackAs, again, recorded, tracking
from ncf.errors import Interrupted, need

if TYPE_CHECKING:
    from ncf.sagemaker.container.distribution import Distribution
    from ncf.sagemaker.jobs.fetch import Fetched
    from ncf.sagemaker.jobs.mlflow import Tracking
    from ncf.sagemaker.jobs.requests import TrainingOptions
    from ncf.sagemaker.jobs.training import TrainingJob
    from ncf.sagemaker.session import Session

JobName = Annotated[str, typer.Argument(metavar="JOB", help="Name of a training job.")]
RunFolder = Annotated[str | None, typer.Option(help="Folder of the run; runs/JOB by default.")]


@shared.with_session((*shared.HOSTED_READS, "kms_key", "tags"))
def push_image(
    session: "Session",
    image: Annotated[
        str, typer.Option(help="An image on this machine; 'make image' builds it.")
    ] = "ncf:local",
    repository: Annotated[
        str | None, typer.Option(help="Repository in ECR; the project's name by default.", show_default=False)
    ] = None,
    image_tag: Annotated[
        str | None, typer.Option(help="Tag in ECR; the version of ncf by default.", show_default=False)
    ] = None,
    keep: Annotated[int, typer.Option(min=1, help="How many images a new repository keeps.")] = 10,
    quiet: shared.Quiet = False,
    as_json: Json = False,
) -> None:
    """Push the image to ECR for hosted SageMaker; the repository is made if it does not exist.

    Examples:
        ncf sagemaker push-image
        ncf sagemaker push-image --image ncf:local --image-tag 7
    """
    from ncf.sagemaker.jobs.push import push_image
    from ncf.tracking import console

    log = (lambda _: None) if quiet else console.log
    uri = push_image(session, image, repository, tag=image_tag, keep=keep, log=log)
    print_json({"image": uri}) if as_json else typer.echo(f"Pushed {uri}")


def _distribution(
    distributed: Annotated[
        Literal["torchrun", "horovod", "smddp"],
        typer.Option(help="How processes and instances train together."),
    ] = "torchrun",
    processes_per_host: Annotated[
        int | None,
        typer.Option(
            help="Processes on each instance; by default one for each GPU, or 1.", show_default=False
        ),
    ] = None,
    timeout: Annotated[
        int | None,
        typer.Option(
            help="Seconds after which an instance that stops responding ends the job.", show_default=False
        ),
    ] = None,
) -> "Distribution":
    """How the job's processes start and meet."""
    from ncf.sagemaker.container.distribution import Distribution

    return Distribution(distributed, processes_per_host, timeout)


@shared.with_session(shared.MAKES)
@shared.gathered("options", shared.training_options)
@shared.gathered("distribution", _distribution)
def train(
    session: "Session",
    options: "TrainingOptions",
    distribution: "Distribution",
    recipe: shared.Recipe,
    data: Annotated[str, typer.Option(help="Prepared data folder.")],
    output: RunFolder = None,
    set: shared.Set = None,
    checkpoints: Annotated[
        str | None, typer.Option(help="URI, or folder with --local; the job's own folder by default.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="JOB", help="Continue from the checkpoints of an earlier job.")
    ] = None,
    keep_alive: Annotated[
        int | None, typer.Option(help="Warm pool: seconds that the instances wait for another job.")
    ] = None,
    image: shared.Image = None,
    script_mode: shared.ScriptMode = False,
    gmf: Annotated[str | None, typer.Option(help="Pre-trained GMF run to fuse.")] = None,
    mlp: Annotated[str | None, typer.Option(help="Pre-trained MLP run to fuse.")] = None,
    track: Track = None,
    track_as: TrackAs = None,
    name: Annotated[str | None, typer.Option(help="Name of the job, the project before it.")] = None,
    no_wait: shared.NoFollow = False,
    max_cost: shared.MaxCost = None,
    yes: shared.Yes = False,
    quiet: shared.Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a recipe in a container, here with --local or as a job of hosted SageMaker; then fetch it.

    Examples:
        ncf sagemaker train neumf --data data/mine --local
        ncf sagemaker train neumf --data data/mine --spot --max-cost 2 --no-wait
    """
    if image is None and (script_mode or distribution.kind == "smddp"):
        need("sagemaker", "sagemaker")
    if track:
        need("mlflow", "mlflow")
    from ncf.cli.sagemaker.progress import Upload
    from ncf.config import Experiment
    from ncf.sagemaker.jobs import launch
    from ncf.sagemaker.jobs.fetch import check_free
    from ncf.sagemaker.prices import estimate

    experiment = Experiment.load(recipe, set or ())
    launch.data_digest(Path(data))
    where = tracking(session, track, track_as)
    if output is not None and not no_wait:
        check_free(Path(output))
    options = replace(
        options, name=launch.job_name(session, name, experiment), keep_alive=keep_alive,
        environment=where.environment if where else {}, distribution=distribution,
    )  # fmt: skip
    inputs = launch.Inputs(Path(data), gmf, mlp, script_mode, image, checkpoints, resume)
    billed, count = options.max_run + (keep_alive or 0), options.instance_count
    most = estimate(options.instance_type, "training", count, billed, spot=options.spot)
    shared.accept_cost(session, most, max_cost, yes)
    try:
        with closing(Upload("sending data")) as progress:
            job = launch.launch(session, experiment, inputs, options, progress)
    except KeyboardInterrupt:
        raise Interrupted("Nothing was started; uploaded files are kept for the next try.") from None
    if no_wait:
        _started(session, job, as_json, where)
        return
    _follow(session, job, _epochs(experiment, gmf is not None), quiet, where)
    _fetch(session, job, output, data, where, as_json)


@shared.with_session(shared.READS)
def fetch(
    session: "Session",
    job: JobName,
    output: RunFolder = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Local folder of its training data; by default found in data/.", show_default=False
        ),
    ] = None,
    track: Track = None,
    track_as: TrackAs = None,
    as_json: Json = False,
) -> None:
    """Download a finished job as a verified run folder; an interrupted download is resumed.

    Examples:
        ncf sagemaker fetch JOB --output runs/mine
        ncf sagemaker fetch JOB --local --data data/mine
    """
    if track:
        need("mlflow", "mlflow")
    _fetch(session, job, output, data, tracking(session, track, track_as), as_json)


@shared.with_session(shared.READS)
def jobs(
    session: "Session",
    most: Annotated[int, typer.Option("--most", "-n", help="How many, newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """List the project's training jobs: state, duration, metric, and cost so far.

    Examples:
        ncf sagemaker jobs
        ncf sagemaker jobs --local --most 5
    """
    from ncf.sagemaker.jobs.training import list_jobs

    listed = list_jobs(session, most)
    if as_json:
        print_json({"jobs": [_summary(job) for job in listed]})
        return
    if not listed:
        typer.echo("This project has no training jobs.")
        return
    from rich.table import Table

    from ncf.tracking.console import OUT

    table = Table()
    for heading in ("job", "state", "duration", "NDCG@10", "$"):
        table.add_column(heading, justify="left" if heading in ("job", "state") else "right")
    for job in listed:
        table.add_row(*_row(job))
    OUT.print(table)


@shared.with_session(shared.READS)
def logs(
    session: "Session",
    job: JobName,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow until the job ends.")] = False,
) -> None:
    """Print the log of a job's containers.

    Examples:
        ncf sagemaker logs JOB
        ncf sagemaker logs JOB --local --follow
    """
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
        raise _still_running(session, job) from None


@shared.with_session(shared.READS)
def stop(session: "Session", job: JobName) -> None:
    """Stop a job; it has two minutes to save a checkpoint, from which --resume continues.

    Examples:
        ncf sagemaker stop JOB
        ncf sagemaker stop JOB --local
    """
    from ncf.sagemaker.jobs import training

    stopped = training.stop(session, job)
    again = "" if stopped.status == "Completed" else f" ('ncf sagemaker train … --resume {job}' continues)"
    typer.echo(f"{job}: {stopped.status}{again}")


def _follow(session: "Session", job: str, epochs: int, quiet: bool, tracking: "Tracking | None") -> None:
    """Follow a job to its end; ctrl-C leaves it running."""
    from ncf.cli.sagemaker.progress import Follower
    from ncf.sagemaker.jobs import training
    from ncf.sagemaker.jobs.run import JobFailed
    from ncf.tracking import console

    try:
        if not quiet:
            console.log(f"Job {job} was started.")
            with closing(Follower(epochs)) as follower:
                training.wait(session, job, follower.line, follower.status)
            return
        training.wait(session, job)
    except KeyboardInterrupt:
        raise _still_running(session, job, tracking) from None
    except JobFailed as failed:
        for line in failed.lines if quiet else ():
            console.log(line)
        raise


def _still_running(session: "Session", job: str, tracking: "Tracking | None" = None) -> Interrupted:
    where = f"{job} --local" if session.local else job
    return Interrupted(
        f"The job is still running: 'ncf sagemaker logs {where} --follow' follows it, 'ncf sagemaker stop "
        f"{where}' stops it, 'ncf sagemaker fetch {where}{again(tracking)}' fetches its run."
    )


def _started(session: "Session", job: str, as_json: bool, tracking: "Tracking | None") -> None:
    if as_json:
        print_json({"job": job})
        return
    where = f"{job} --local" if session.local else job
    fetching = f"ncf sagemaker fetch {where}{again(tracking)}"
    typer.echo(f"Started {job}: 'ncf sagemaker logs {where} --follow', then '{fetching}'.")


def _fetch(
    session: "Session",
    job: str,
    output: str | None,
    data: str | None,
    where: "Tracking | None",
    as_json: bool,
) -> None:
    """Fetch and record a job, and print its results; the end of its log where it failed."""
    from ncf.sagemaker.jobs.fetch import fetch
    from ncf.sagemaker.jobs.logs import TRAINING, read
    from ncf.sagemaker.jobs.run import JobFailed
    from ncf.tracking import console

    try:
        fetched = fetch(session, job, output, data)
    except JobFailed:
        for line in read(session, TRAINING, f"{job}/")[-20:]:
            console.log(line.text)
        raise
    recorded(session, job, fetched.folder, where)
    _print_results(fetched, job, as_json)


def _print_results(fetched: "Fetched", job: str, as_json: bool) -> None:
    """Print the test figures, as `ncf train` does."""
    metrics = fetched.metrics
    if as_json:
        print_json({"job": job, "run": str(fetched.folder), "artifact": str(fetched.artifact), **metrics})
        return
    means = metrics.get("test", {}).get("metrics", {})
    labels = (("hr@10", "HR@10"), ("ndcg@10", "NDCG@10"))
    shown = [f"{label} {means[key]:.4f}" for key, label in labels if key in means]
    epoch, figures = metrics.get("selected", "the last epoch"), ", ".join(shown) or "nothing was held out"
    typer.echo(f"Test, weights of {epoch}: {figures} ('ncf evaluate {fetched.folder}' shows more).")


def _epochs(experiment: Any, fused: bool) -> int:
    """Epochs of training in all, with those of GMF and MLP unless these are `fused` from earlier runs."""
    stages = [experiment]
    if experiment.pretraining and not fused:
        stages += [experiment.pretraining.gmf, experiment.pretraining.mlp]
    return sum(stage.train.epochs for stage in stages)


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
