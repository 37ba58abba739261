"""How the instances of a job train one model: torchrun, Horovod or SMDDP.

In: options of `ncf sagemaker train`. Out: environment variables of the job, which its container reads back,
and for SMDDP the hyperparameters by which AWS's toolkit starts the processes. The one decision worth knowing:
the job's environment says how its processes meet. So one image and one set of hyperparameters serve every
kind, and a job can resume with another number of instances.

| variable | what |
| --- | --- |
| `NCF_DISTRIBUTED` | torchrun (also where it is missing), horovod or smddp |
| `NCF_PROCESSES` | processes on each host; by default one for each GPU, or 1 |
| `NCF_TIMEOUT` | seconds after which a process that stops responding ends the job |

Sources: "Use the PyTorch framework estimators in the SageMaker Python SDK", SageMaker Developer Guide (SMDDP
replaces all-reduce only under its own launcher, which runs on mpirun); `sagemaker_pytorch_container.training`
of the toolkit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ncf.errors import ConfigError

KINDS = ("torchrun", "horovod", "smddp")
KIND, PROCESSES, TIMEOUT = "NCF_DISTRIBUTED", "NCF_PROCESSES", "NCF_TIMEOUT"


@dataclass(frozen=True)
class Distribution:
    """How the processes of a job are started and meet."""

    kind: str = "torchrun"
    processes: int | None = None
    """On each host; by default one for each GPU, or 1."""
    timeout: int | None = None
    """Seconds after which a process that stops responding ends the job."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"--distributed must be torchrun, horovod or smddp, and not {self.kind!r}.")
        if any(number is not None and number < 1 for number in (self.processes, self.timeout)):
            raise ConfigError("--processes-per-host and --timeout must be 1 or more.")

    @property
    def environment(self) -> dict[str, str]:
        """The job's variables; none for defaults."""
        kind = self.kind if self.kind != "torchrun" else None
        variables = {KIND: kind, PROCESSES: self.processes, TIMEOUT: self.timeout}
        return {name: str(value) for name, value in variables.items() if value is not None}

    def hyperparameters(self, instance_type: str) -> dict[str, str]:
        """What AWS's toolkit reads to start the processes; only SMDDP needs the toolkit's launcher."""
        if self.kind != "smddp":
            return {}
        values = {
            "sagemaker_distributed_dataparallel_enabled": True,
            "sagemaker_instance_type": instance_type,
        }
        return {name: json.dumps(value) for name, value in values.items()}


TORCHRUN = Distribution()


def from_variables(variables: Mapping[str, str]) -> Distribution:
    """The distribution that a container's environment asks for; raises `ConfigError` for a bad value."""
    numbers = {}
    for field, name in (("processes", PROCESSES), ("timeout", TIMEOUT)):
        text = variables.get(name)
        if text is not None and not (text.isascii() and text.isdigit() and int(text)):
            raise ConfigError(f"{name} must be a number of 1 or more, and not {text!r}.")
        numbers[field] = int(text) if text else None
    return Distribution(variables.get(KIND, "torchrun"), **numbers)
