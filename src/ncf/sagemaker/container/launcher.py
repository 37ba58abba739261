"""Starts the processes of this host, each with its rank where `ncf.training.parallel.connect.connect` looks
for it.

In: a job, and the variables that an earlier launcher may have set. Out: this process as one of several, or
torchrun's elastic agent with the processes of this host under it. The one decision worth knowing: a launcher
that came before, such as AWS's toolkit, the SDK's drivers or `mpirun`, has set the ranks; then nothing is
started here.
"""

import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ncf.errors import NcfError
from ncf.sagemaker.container.environment import Job

PORT = 29500
"""Where the first host's processes listen for the others."""
NAME = "NCF_HOST"
"""The variable that holds the host's name for reports: the system's own name may be any number."""
_GRACE = 90
"""Seconds for a checkpoint after SIGTERM; SageMaker kills the container after 120."""
_PROGRAM = (
    "import sys; from pathlib import Path; from ncf.sagemaker.container.train import main; "
    "sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))"
)


def started(variables: Mapping[str, str]) -> bool:
    """Whether a launcher has started this process as one of several."""
    return {"RANK", "WORLD_SIZE"} <= variables.keys() or "OMPI_COMM_WORLD_RANK" in variables


def processes_here(job: Job) -> int:
    """How many processes this host should have: the number asked for, or one for each GPU."""
    if job.distribution.processes is not None:
        return job.distribution.processes
    import torch

    return max(1, torch.cuda.device_count())


def variables(job: Job) -> dict[str, str]:
    """The variables of the only process of this host, as torchrun would set them."""
    return {
        "RANK": str(job.hosts.index(job.host)), "WORLD_SIZE": str(len(job.hosts)), "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": job.hosts[0], "MASTER_PORT": str(PORT), NAME: job.host,
    }  # fmt: skip


def from_mpi(job: Job, environment: Mapping[str, str]) -> dict[str, str]:
    """The rank of a process under AWS's SMDDP launcher, which runs on `mpirun`, in torchrun's variables."""
    names = {
        "RANK": "RANK", "WORLD_SIZE": "SIZE", "LOCAL_RANK": "LOCAL_RANK", "LOCAL_WORLD_SIZE": "LOCAL_SIZE",
    }  # fmt: skip
    values = {ours: environment.get(f"OMPI_COMM_WORLD_{theirs}") for ours, theirs in names.items()}
    values |= {"MASTER_ADDR": job.hosts[0], "MASTER_PORT": str(PORT), NAME: job.host}
    return {name: text for name, text in values.items() if text is not None and name not in environment}


def run_agent(job: Job, count: int, root: Path, arguments: Sequence[str]) -> int:
    """Run `count` processes of the training program on this host, and return their exit code.

    `root` and `arguments` are those of the program. A process that fails writes its sentence itself; raises
    `NcfError` for one that was killed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_GRACE))
    os.environ[NAME] = job.host
    with tempfile.TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=len(job.hosts), max_nodes=len(job.hosts), nproc_per_node=count, run_id="ncf",
            max_restarts=0,
            rdzv_backend="static", rdzv_endpoint=f"{job.hosts[0]}:{PORT}",
            rdzv_configs={"rank": job.hosts.index(job.host)}, logs_specs=DefaultLogsSpecs(log_dir=logs),
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-c", _PROGRAM, str(root), *arguments)
        except SignalException:
            return 0  # each process has saved a checkpoint
        except ChildFailedError as error:
            rank, failed = error.get_first_failure()
            if failed.exitcode >= 0:
                return 1
            raise NcfError(
                f"Process {rank} of {count * len(job.hosts)} (host {job.host}) was killed "
                f"({failed.signal_name()}): if memory was short, use fewer processes a host or a larger "
                "instance."
            ) from None
    return 0
