"""The program of a training container: `train` in our image, `train.py` in AWS's PyTorch images.

It reads /opt/ml, trains as `ncf train` does, and leaves the artifact in /opt/ml/model. The run is in the
checkpoint folder, so a job that starts again there (a spot instance that was taken away, a restart) continues
where it was. Where the job has several processes, on one host or many, it starts those of its host, unless it
is one of them.

It exits with 0 on success, and also after a requested stop (SIGTERM), once a checkpoint is saved. Otherwise
it exits with 1 and one sentence in /opt/ml/output/failure, which becomes the job's FailureReason.

The one decision worth knowing: signals are caught before torch is imported. The first process of a container
ignores signals that it does not catch, so a stop during these two seconds would be lost.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ncf.data.files import storage_errors
from ncf.errors import ConfigError, Interrupted
from ncf.runtime import stop_requested
from ncf.sagemaker.container import launcher, rendezvous
from ncf.sagemaker.container.environment import ROOT, Job, job_identity, read_job
from ncf.sagemaker.container.exit_status import LONGEST_REASON, exit_code
from ncf.tracking.tracker import Tracker, Trackers

if TYPE_CHECKING:
    from ncf.training.parallel.communicator import Communicator


def main(root: Path = ROOT, arguments: Sequence[str] = ()) -> int:
    """Run the job below `root` and return the exit code; toolkits pass hyperparameters as `arguments`."""
    code, started = 0, launcher.started(os.environ)
    failure = root / "output" / "failure"
    if not started:
        with suppress(OSError):
            failure.unlink()  # of an earlier try

    def work() -> None:
        nonlocal code
        with stop_requested() as stop:
            job = read_job(root, arguments, os.environ)
            if started and job.distribution.kind == "smddp":
                os.environ.update(launcher.from_mpi(job, os.environ))
            count = 1 if started else _meet(job, stop)
            if count > 1:
                code = launcher.run_agent(job, count, root, arguments)
            else:
                train(job, stop)

    return exit_code(work, failure, LONGEST_REASON, keep_first=started) or code


def _meet(job: Job, stop: Callable[[], bool]) -> int:
    """Wait for all hosts; returns how many processes this one should have. A single one is this process."""
    count = 1 if job.distribution.kind == "horovod" else launcher.processes_here(job)
    rendezvous.await_hosts(job.host, job.hosts, stop, port=rendezvous.PORT)
    if count == 1 and (len(job.hosts) > 1 or job.distribution.kind == "smddp"):
        os.environ.update(launcher.variables(job))
    return count


def train(job: Job, stop: Callable[[], bool] = lambda: False) -> None:
    """Train, and put the results where SageMaker collects them; `stop` says whether to end early."""
    from ncf.training.parallel.communicator import PATIENCE
    from ncf.training.parallel.connect import connect

    kind = "auto" if job.distribution.kind == "torchrun" else job.distribution.kind
    seconds = job.distribution.timeout
    with connect(kind, timedelta(seconds=seconds) if seconds else PATIENCE) as communicator:
        try:
            _train(job, stop, communicator)
        except Interrupted:
            communicator.barrier()
            raise
        communicator.barrier()  # the first container that ends may end the others


def _train(job: Job, stop: Callable[[], bool], communicator: "Communicator") -> None:
    from ncf import experiment
    from ncf.data import Dataset
    from ncf.sagemaker.container.metric_lines import MetricLines
    from ncf.tracking.tracker import Silent

    data, halves = Dataset.open(job.data), {"gmf": job.gmf, "mlp": job.mlp}
    if communicator.rank:
        options = experiment.RunOptions(resume=True, tracker=Silent(), stop=stop, communicator=communicator)
        experiment.train(data, job.experiment, job.run, options=options, **halves)
        return
    with tracked(MetricLines()) as tracker:
        options = experiment.RunOptions(
            resume=True,
            serves=not job.trial,
            verdict=not job.trial,
            tracker=tracker,
            stop=stop,
            communicator=communicator,
        )
        run = experiment.train(data, job.experiment, job.run, data_path=job.data, options=options, **halves)
    communicator.phase("copying the artifact")
    with storage_errors(job.model):
        _copy(run.artifact.iterdir(), job.model)
        _copy((run.folder / name for name in ("run.json", "events.jsonl")), job.output)


def _copy(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder / file.name)


@contextmanager
def tracked(tracker: Tracker) -> Iterator[Tracker]:
    """`tracker`, with MLflow added where the environment asks for it and can be reached."""
    from ncf.tracking.mlflow import DEFAULT_EXPERIMENT
    from ncf.tracking.mlflow_run import open_tracker

    address = _variable("NCF_TRACK", "MLFLOW_TRACKING_URI")
    if address is None:
        yield tracker
        return
    experiment = _variable("NCF_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    try:
        recorder = open_tracker(address, experiment, tracker.log, job_identity)
    except ConfigError as error:
        tracker.log(f"Warning: this run is not recorded in MLflow: {error}")
        yield tracker
        return
    with recorder:
        yield Trackers([tracker, recorder])


def _variable(*names: str) -> str | None:
    """The first of these environment variables that is set."""
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


if __name__ == "__main__":
    sys.exit(main(arguments=sys.argv[1:]))
