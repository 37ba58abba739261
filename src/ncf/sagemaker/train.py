"""The program of a training container: `train` in our image, `train.py` in AWS's PyTorch images.

It reads /opt/ml, trains as `ncf train` does, and leaves the artifact in /opt/ml/model. The run lies in the checkpoint
folder, so a job that starts again there (a spot instance that was taken away, a restart) goes on where it was.

Exit 0 is success, and also a stop that was asked for (SIGTERM), after a checkpoint was saved. Anything else is 1 with
one sentence in /opt/ml/output/failure, of which SageMaker makes the job's FailureReason.

The one decision worth knowing: signals are caught before torch is imported. The first process of a container ignores
what it does not catch, and a stop in these two seconds would be lost.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ncf.data.files import storage_errors
from ncf.errors import Interrupted
from ncf.runtime import stop_requested
from ncf.sagemaker.ending import ended
from ncf.sagemaker.environment import ROOT, Job, read_job

if TYPE_CHECKING:
    from ncf.training.distributed import Communicator

MEETING_PORT = 29500
"""Where the first host listens for the others."""
LONGEST_REASON = 1024
"""Characters of FailureReason (DescribeTrainingJob)."""


def main(root: Path = ROOT, arguments: Sequence[str] = ()) -> int:
    """Run the job under `root`; the exit code of the container. `arguments` are hyperparameters as toolkits pass them."""

    def work() -> None:
        with stop_requested() as stop:
            train(read_job(root, arguments), stop)

    return ended(work, root / "output" / "failure", LONGEST_REASON)


def train(job: Job, stop: Callable[[], bool] = lambda: False) -> None:
    """Train and put what should be kept where SageMaker collects it."""
    from ncf.training.distributed import processes

    rank = job.hosts.index(job.host)
    with processes(job.hosts[0], MEETING_PORT, rank, len(job.hosts)) as communicator:
        try:
            _train(job, stop, communicator)
        except Interrupted:
            communicator.wait()
            raise
        communicator.wait()  # the first container that ends may end the others


def _train(job: Job, stop: Callable[[], bool], communicator: "Communicator") -> None:
    from ncf import experiment
    from ncf.data import Dataset
    from ncf.sagemaker.metric_lines import MetricLines
    from ncf.sagemaker.tracked import tracked
    from ncf.training.tracking import Silent

    if communicator.rank:  # its copy of the run is nobody's
        with tempfile.TemporaryDirectory() as scratch:
            manner = experiment.Manner(tracker=Silent(), stop=stop, communicator=communicator, resume=True)
            data = Dataset.open(job.data)
            experiment.train(data, job.experiment, scratch, gmf=job.gmf, mlp=job.mlp, manner=manner)
        return
    with tracked(MetricLines()) as tracker:
        manner = experiment.Manner(resume=True, tracker=tracker, stop=stop, communicator=communicator)
        run = experiment.train(
            Dataset.open(job.data), job.experiment, job.run, data_path=job.data,
            gmf=job.gmf, mlp=job.mlp, manner=manner,
        )  # fmt: skip
    with storage_errors(job.model):
        _copy(run.artifact.iterdir(), job.model)
        _copy((run.folder / name for name in ("run.json", "events.jsonl")), job.output)


def _copy(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, folder / file.name)


if __name__ == "__main__":
    sys.exit(main(arguments=sys.argv[1:]))
