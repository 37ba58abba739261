"""Horovod in a job of several containers: `train` of our image where `NCF_DISTRIBUTED` is horovod.

In: /opt/ml and the job's environment. Out: the exit code of this host's container. Every host runs an ssh
server; the first one's `mpirun` starts `NCF_PROCESSES` processes of `ncf.sagemaker.container.train` on each,
rank 0 on the first host.

The one decision worth knowing: each host keeps one TCP connection to the first for as long as the job lasts
(`ncf.sagemaker.container.rendezvous`). All get the exit code over it; where it breaks, the other side is
gone. So no host polls, and none waits for a dead one.

`mpirun` gives the processes on other hosts an empty environment. Each reads that of its own host's container
from a file. A stop (SIGTERM) reaches them as SIGUSR1, which `mpirun` forwards; SIGTERM would make it kill
them.
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
from ncf.sagemaker.container.exit_status import LONGEST_REASON, exit_code
from ncf.sagemaker.container.rendezvous import PORT, HostFailure, PeerHosts, follow, gather

ENVIRONMENT = Path("/run/ncf-environment.json")
GRACE = 20.0
"""Seconds between asking `mpirun` to end all processes and killing it."""
_TICK = 0.5


@dataclass(frozen=True)
class Host:
    """This container among the job's."""

    name: str
    all: tuple[str, ...]
    """In the order of ranks; the first one runs `mpirun`."""
    interface: str
    """The network interface between them; empty where it is not known."""


def main(root: Path = ROOT) -> int:
    """Run this host's part of the job below `root` and return its exit code; under `mpirun`, train."""
    if "OMPI_COMM_WORLD_RANK" in os.environ:
        return _rank(root)
    failure, code = root / "output" / "failure", 0
    with suppress(OSError):
        failure.unlink()  # of an earlier try

    def work() -> None:
        nonlocal code
        host = read_host(root)
        processes = from_variables(os.environ).processes or _gpus() or 1
        with stop_requested() as stop, _ssh_server():
            ENVIRONMENT.touch(mode=0o600)
            ENVIRONMENT.write_text(json.dumps(dict(os.environ)), "utf-8")
            if host.name == host.all[0]:
                code = lead(host.all, mpirun(host, processes), stop, failure)
            else:
                code = follow(host.name, host.all, stop, failure)

    return exit_code(work, failure, LONGEST_REASON) or code


def read_host(root: Path) -> Host:
    """This host, from resourceconfig.json, which SageMaker writes below `root`."""
    path = root / "input" / "config" / "resourceconfig.json"
    try:
        given = json.loads(path.read_text("utf-8"))
        interface = str(given.get("network_interface_name", ""))
        there = any(interface == name for _, name in socket.if_nameindex())
        return Host(given["current_host"], tuple(sorted(given["hosts"])), interface if there else "")
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): SageMaker writes it before training.") from None


def mpirun(host: Host, processes: int) -> list[str]:
    """The command of Open MPI that starts so many `processes` on every host."""
    slots = ",".join(f"{name}:{processes}" for name in host.all)
    options = ["--mca", "pml", "ob1", "--mca", "btl", "self,vader,tcp"]
    options += ["--mca", "btl_vader_single_copy_mechanism", "none", "--mca", "plm_rsh_no_tree_spawn", "1"]
    options += ["--mca", "mpi_yield_when_idle", "1"]  # in local mode the hosts share their cores
    for layer in ("btl", "oob") if host.interface else ():
        options += ["--mca", f"{layer}_tcp_if_include", host.interface]
    for name in ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH"):
        options += ["-x", name] if name in os.environ else []
    return [
        "mpirun", "--allow-run-as-root", "--bind-to", "none", "--host", slots, "-np",
        str(processes * len(host.all)),
        *options, sys.executable, "-m", "ncf.sagemaker.container.mpirun",
    ]  # fmt: skip


def lead(
    hosts: Sequence[str], command: Sequence[str], stop: Callable[[], bool], failure: Path, port: int = PORT
) -> int:
    """The first host's part: gather the others, run `command`, and send them its exit code, which is
    returned.

    `hosts` are all hosts with this one first, `failure` the file that holds the reason of a failure. Raises
    `NcfError` where a host goes away.
    """
    with gather(hosts[0], hosts, stop, port=port) as peers:
        try:
            code = _run(command, stop, peers)
        except NcfError:
            peers.end(1)
            raise
        failures = [*peers.end(code), *HostFailure.read(failure)]
    if code and not stop():
        sentence = (
            f"The processes of this job exited with code {code} and no error message: see the end of its log."
        )
        if failures:
            # The first failure is the cause; later ones are its consequences.
            sentence = max(failures, key=lambda entry: entry.age).sentence
        failure.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text(sentence[:LONGEST_REASON], "utf-8")
    return 0 if stop() and not failures else code


def _run(command: Sequence[str], stop: Callable[[], bool], peers: PeerHosts) -> int:
    """Run the command and return its exit code; a stop is forwarded to it, and a lost host ends it."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        asked = False
        while process.poll() is None:
            if stop() and not asked:
                asked = True
                process.send_signal(signal.SIGUSR1)
            if lost := peers.lost(_TICK):
                _end(process)
                raise NcfError(f"{lost} went away during training: see its log for the reason.")
        return process.returncode


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()


def _rank(root: Path) -> int:
    """Train in a process that `mpirun` started, with the host's environment; a stop comes as SIGUSR1."""
    from ncf.sagemaker.container.train import main as train

    os.environ.update(json.loads(ENVIRONMENT.read_text("utf-8")))
    signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGTERM))
    return train(root)


@contextmanager
def _ssh_server() -> Iterator[None]:
    """Run an ssh server for as long as the job lasts: the first host's `mpirun` connects to it."""
    program = "/usr/sbin/sshd"
    if not (Path(program).exists() and shutil.which("mpirun")):
        raise ConfigError(
            "This image has neither Horovod nor an ssh server to start it on several hosts: build one with "
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
