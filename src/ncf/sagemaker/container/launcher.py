"""From the hosts of a job to processes that know their rank, as `ncf.training.parallel.connect.connect` looks for it.

In: a job, and what an earlier launcher may have set. Out: this process as one of several, or torchrun's elastic agent with
the processes of this host under it. The one decision worth knowing: whoever has started processes already, such as AWS's
toolkit, the SDK's drivers or `mpirun`, has told them their rank; then nothing is started here.
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
"""The variable with the name by which reports call this host: its system's name may be any number."""
_GRACE = 90
"""Seconds for a checkpoint after SIGTERM; SageMaker kills the container after 120."""
_PROGRAM = (
    "import sys; from pathlib import Path; from ncf.sagemaker.container.train import main; "
    "sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))"
)


def started(variables: Mapping[str, str]) -> bool:
    """Whether this process is one of several that somebody has started."""
    return {"RANK", "WORLD_SIZE"} <= variables.keys() or "OMPI_COMM_WORLD_RANK" in variables


def here(job: Job) -> int:
    """How many processes this host should have: those asked for, or one for each GPU."""
    if job.distribution.processes is not None:
        return job.distribution.processes
    import torch

    return max(1, torch.cuda.device_count())


def variables(job: Job) -> dict[str, str]:
    """What the only process of this host is told, as torchrun would."""
    return {
        "RANK": str(job.hosts.index(job.host)), "WORLD_SIZE": str(len(job.hosts)), "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1", "MASTER_ADDR": job.hosts[0], "MASTER_PORT": str(PORT), NAME: job.host,
    }  # fmt: skip


def from_mpi(job: Job, environment: Mapping[str, str]) -> dict[str, str]:
    """What a process of AWS's SMDDP launcher, which runs on `mpirun`, is told besides: the same in torchrun's words."""
    words = {
        "RANK": "RANK",
        "WORLD_SIZE": "SIZE",
        "LOCAL_RANK": "LOCAL_RANK",
        "LOCAL_WORLD_SIZE": "LOCAL_SIZE",
    }
    told = {ours: environment.get(f"OMPI_COMM_WORLD_{theirs}") for ours, theirs in words.items()}
    told |= {"MASTER_ADDR": job.hosts[0], "MASTER_PORT": str(PORT), NAME: job.host}
    return {name: text for name, text in told.items() if text is not None and name not in environment}


def run_agent(job: Job, count: int, root: Path, arguments: Sequence[str]) -> int:
    """Start `count` processes of the training program on this host and wait; their exit code.

    A process that fails leaves its sentence itself; raises `NcfError` for one that could not, since it was killed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_GRACE))
    os.environ[NAME] = job.host
    with tempfile.TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=len(job.hosts), max_nodes=len(job.hosts), nproc_per_node=count, run_id="ncf", max_restarts=0,
            rdzv_backend="static", rdzv_endpoint=f"{job.hosts[0]}:{PORT}",
            rdzv_configs={"rank": job.hosts.index(job.host)}, logs_specs=DefaultLogsSpecs(log_dir=logs),
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-c", _PROGRAM, str(root), *arguments)
        except SignalException:
            return 0  # each has saved what there was, and said so
        except ChildFailedError as error:
            rank, failed = error.get_first_failure()
            if failed.exitcode >= 0:
                return 1
            raise NcfError(
                f"Process {rank} of {count * len(job.hosts)} (host {job.host}) was killed ({failed.signal_name()}); where "
                "memory was short, fewer processes a host or a larger instance help."
            ) from None
    return 0
