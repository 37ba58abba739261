"""Options that say how the instances of a job train one model together."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ncf.sagemaker.container.distribution import Distribution

Distributed = Annotated[
    str, typer.Option(help="How processes and instances train together: torchrun, horovod or smddp.")
]
ProcessesPerHost = Annotated[
    int | None,
    typer.Option(help="Processes on each instance; one for each GPU, or 1, by default.", show_default=False),
]
Timeout = Annotated[
    int | None,
    typer.Option(
        help="Seconds after which an instance that does not answer ends the job.", show_default=False
    ),
]


def open_distribution(
    distributed: Distributed = "torchrun",
    processes_per_host: ProcessesPerHost = None,
    timeout: Timeout = None,
) -> "Distribution":
    """How the job's processes are started and meet."""
    from ncf.sagemaker.container.distribution import Distribution

    return Distribution(distributed, processes_per_host, timeout)
