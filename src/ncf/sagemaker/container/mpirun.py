"""Horovod in a job of several containers: `train` of our image where `NCF_DISTRIBUTED` is horovod.

In: /opt/ml and the job's environment. Out: the exit code of this host's container. Every host runs an ssh server; the
first one's `mpirun` starts `NCF_PROCESSES` processes of `ncf.sagemaker.container.train` on each, rank 0 on the first host itself.

The one decision worth knowing: each host keeps one TCP connection to the first for as long as the job lasts
(`ncf.sagemaker.container.rendezvous`). The exit code comes over it to all; where it breaks, the other side is gone. So nobody polls,
and nobody waits for a dead host.

`mpirun` gives the processes on other hosts an empty environment. Each takes that of its own host's container, from a file.
A stop (SIGTERM) reaches them as SIGUSR1: that is forwarded by `mpirun`, which answers SIGTERM by killing them.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ncf.errors import ConfigError, NcfError
from ncf.runtime import stop_requested
from ncf.sagemaker.container.distribution import from_variables
from ncf.sagemaker.container.environment import ROOT
from ncf.sagemaker.container.exit_status import LONGEST_REASON, ended
from ncf.sagemaker.container.rendezvous import PORT, HostFailure, PeerHosts, call

ENVIRONMENT = Path("/run/ncf-environment.json")
GRACE = 20.0
"""Seconds between asking `mpirun` to end all processes and killing it."""
_TICK = 0.5


@dataclass(frozen=True)
class Host:
    """This container among the job's."""

    name: str
    all: tuple[str, ...]
    """In the order of ranks; the first one leads."""
    interface: str
    """The network interface between them; empty where it is not known."""


def main(root: Path = ROOT) -> int:
    """This host's part of the job; in a process that `mpirun` started, the training itself."""
    if "OMPI_COMM_WORLD_RANK" in os.environ:
        return _rank(root)
    failure, code = root / "output" / "failure", 0
    with suppress(OSError):
        failure.unlink()  # an earlier try's

    def work() -> None:
        nonlocal code
        host = read_host(root)
        processes = from_variables(os.environ).processes or _gpus() or 1
        with stop_requested() as stop, _ssh_server():
            ENVIRONMENT.touch(mode=0o600)
            ENVIRONMENT.write_text(json.dumps(dict(os.environ)), "utf-8")
            if host.name == host.all[0]:
                code = lead(host.all[1:], mpirun(host, processes), stop, failure)
            else:
                code = call(host.all[0], host.name, failure, stop)

    return ended(work, failure, LONGEST_REASON) or code


def read_host(root: Path) -> Host:
    """From resourceconfig.json, which SageMaker writes."""
    path = root / "input" / "config" / "resourceconfig.json"
    try:
        given = json.loads(path.read_text("utf-8"))
        interface = str(given.get("network_interface_name", ""))
        there = any(interface == name for _, name in socket.if_nameindex())
        return Host(given["current_host"], tuple(sorted(given["hosts"])), interface if there else "")
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): SageMaker writes it before training.") from None


def mpirun(host: Host, processes: int) -> list[str]:
    """The command that starts `processes` on every host (Open MPI)."""
    slots = ",".join(f"{name}:{processes}" for name in host.all)
    options = ["--mca", "pml", "ob1", "--mca", "btl", "self,vader,tcp"]
    options += ["--mca", "btl_vader_single_copy_mechanism", "none", "--mca", "plm_rsh_no_tree_spawn", "1"]
    options += ["--mca", "mpi_yield_when_idle", "1"]  # in local mode the hosts share their cores
    for layer in ("btl", "oob") if host.interface else ():
        options += ["--mca", f"{layer}_tcp_if_include", host.interface]
    for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH"):
        options += ["-x", name] if name in os.environ else []
    return [
        "mpirun", "--allow-run-as-root", "--bind-to", "none", "--host", slots, "-np", str(processes * len(host.all)),
        *options, sys.executable, "-m", "ncf.sagemaker.container.mpirun",
    ]  # fmt: skip


def lead(
    hosts: Sequence[str], command: Sequence[str], stop: Callable[[], bool], failure: Path, port: int = PORT
) -> int:
    """The first host: meet the others, run the command, tell them its exit code; raises `NcfError` where one is lost."""
    with PeerHosts(hosts, stop, port=port) as others:
        try:
            code = _run(command, stop, others)
        except NcfError:
            others.end(1)
            raise
        said = [*others.end(code), *HostFailure.read(failure)]
    if code and not stop():
        _tell(failure, max(said, key=lambda one: one.age).sentence if said else _UNSAID.format(code))
    return 0 if stop() and not said else code


_UNSAID = (
    "The processes of this job ended with exit code {} without a word: the end of the job's log says more."
)


def _tell(failure: Path, sentence: str) -> None:
    """What was said first is the cause; what other processes said of it later is not."""
    failure.parent.mkdir(parents=True, exist_ok=True)
    failure.write_text(sentence[:LONGEST_REASON], "utf-8")


def _run(command: Sequence[str], stop: Callable[[], bool], others: PeerHosts) -> int:
    """The exit code of the command, to which a stop is handed on, and which ends where a host is lost."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        asked = False
        while process.poll() is None:
            if stop() and not asked:
                asked = True
                process.send_signal(signal.SIGUSR1)
            if lost := others.lost(_TICK):
                _end(process)
                raise NcfError(f"{lost} went away while it trained: its own log says why it ended.")
        return process.returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def _rank(root: Path) -> int:
    """One of the processes: it takes its host's environment, and a stop comes as SIGUSR1."""
    from ncf.sagemaker.container.train import main as train

    os.environ.update(json.loads(ENVIRONMENT.read_text("utf-8")))
    signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGTERM))
    return train(root)


@contextmanager
def _ssh_server() -> Iterator[None]:
    """An ssh server for as long as the job lasts: the first host's `mpirun` comes by it."""
    program = "/usr/sbin/sshd"
    if not (Path(program).exists() and shutil.which("mpirun")):
        raise ConfigError(
            "This image has neither Horovod nor what starts it on several hosts: build one with "
            "'scripts/image ncf-horovod:local --build-arg HOROVOD=1' and give it with --image."
        )
    server = subprocess.Popen([program, "-D", "-e"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        server.terminate()
        server.wait()


def _gpus() -> int:
    """NVIDIA devices in this container."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


if __name__ == "__main__":
    sys.exit(main())
