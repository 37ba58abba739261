"""The program of a training container: `train` in our image, `train.py` in AWS's PyTorch images.

It reads /opt/ml, trains as `ncf train` does, and leaves the artifact in /opt/ml/model. The run lies in the checkpoint
folder, so a job that starts again there (a spot instance that was taken away, a restart) goes on where it was. Where the
job has several processes, on one host or on many, it starts those of its host, unless it is one of them.

Exit 0 is success, and also a stop that was asked for (SIGTERM), after a checkpoint was saved. Anything else is 1 with
one sentence in /opt/ml/output/failure, of which SageMaker makes the job's FailureReason.

The one decision worth knowing: signals are caught before torch is imported. The first process of a container ignores
what it does not catch, and a stop in these two seconds would be lost.
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
from ncf.sagemaker.container import launcher
from ncf.sagemaker.container.arrival import await_hosts
from ncf.sagemaker.container.environment import ROOT, Job, job_identity, read_job
from ncf.sagemaker.container.exit_status import LONGEST_REASON, ended
from ncf.tracking.tracker import Tracker, Trackers

if TYPE_CHECKING:
    from ncf.training.parallel.communicator import Communicator


@contextmanager
def tracked(tracker: Tracker) -> Iterator[Tracker]:
    """`tracker`, with MLflow beside it where the environment asks for it."""
    from ncf.tracking.mlflow import DEFAULT_EXPERIMENT
    from ncf.tracking.mlflow_run import open_tracker

    address = _first("NCF_TRACK", "MLFLOW_TRACKING_URI")
    if address is None:
        yield tracker
        return
    experiment = _first("NCF_EXPERIMENT", "MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    try:
        recorder = open_tracker(address, experiment, tracker.log, job_identity)
    except ConfigError as error:
        tracker.log(f"Warning: this run is not recorded in MLflow: {error}")
        yield tracker
        return
    with recorder:
        yield Trackers([tracker, recorder])


def _first(*names: str) -> str | None:
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


ARRIVAL_PORT = 29501
"""Where the first host listens for the others before they train."""
PATIENCE = 900.0
"""Seconds that hosts wait for each other to start: the last image may be pulled minutes after the first."""


def main(root: Path = ROOT, arguments: Sequence[str] = ()) -> int:
    """Run the job under `root`; the exit code of the container. `arguments` are hyperparameters as toolkits pass them."""
    code, one_of_many = 0, launcher.started(os.environ)
    failure = root / "output" / "failure"
    if not one_of_many:
        with suppress(OSError):
            failure.unlink()  # an earlier try's

    def work() -> None:
        nonlocal code
        with stop_requested() as stop:
            job = read_job(root, arguments, os.environ)
            if one_of_many and job.distribution.kind == "smddp":
                os.environ.update(launcher.from_mpi(job, os.environ))
            count = 1 if one_of_many else _meet(job, stop)
            if count > 1:
                code = launcher.run_agent(job, count, root, arguments)
            else:
                train(job, stop)

    return ended(work, failure, LONGEST_REASON, others_tell_too=one_of_many) or code


def _meet(job: Job, stop: Callable[[], bool]) -> int:
    """How many processes this host should have, once all hosts are there; where it is one, this process becomes it."""
    count = 1 if job.distribution.kind == "horovod" else launcher.here(job)
    await_hosts(job.host, job.hosts, ARRIVAL_PORT, PATIENCE, stop)
    if count == 1 and (len(job.hosts) > 1 or job.distribution.kind == "smddp"):
        os.environ.update(launcher.variables(job))
    return count


def train(job: Job, stop: Callable[[], bool] = lambda: False) -> None:
    """Train and put what should be kept where SageMaker collects it."""
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
    from ncf.sagemaker.container.train import tracked
    from ncf.tracking.tracker import Silent

    data, halves = Dataset.open(job.data), {"gmf": job.gmf, "mlp": job.mlp}
    if communicator.rank:
        options = experiment.RunOptions(resume=True, tracker=Silent(), stop=stop, communicator=communicator)
        experiment.train(data, job.experiment, job.run, options=options, **halves)
        return
    with tracked(MetricLines()) as tracker:
        options = experiment.RunOptions(resume=True, tracker=tracker, stop=stop, communicator=communicator)
        run = experiment.train(data, job.experiment, job.run, data_path=job.data, options=options, **halves)
    communicator.phase("copying the artifact")
    with storage_errors(job.model):
        _copy(run.artifact.iterdir(), job.model)
        _copy((run.folder / name for name in ("run.json", "events.jsonl")), job.output)


def _copy(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder / file.name)


if __name__ == "__main__":
    sys.exit(main(arguments=sys.argv[1:]))
