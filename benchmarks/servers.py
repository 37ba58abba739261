"""`ncf serve` as a process for benchmarks and tests, and what a group of processes holds and uses, read from
/proc."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from torchserve import Stack, free_ports, get, members, stop_group, wait_for_ping


@contextmanager
def ncf_server(artifact: Path, *, workers: int = 1, options: Sequence[str] = ()) -> Iterator[Stack]:
    """Our server on `artifact` while the block runs. Raises `RuntimeError` where it does not come up."""
    with tempfile.TemporaryDirectory(prefix="ncf-serve-") as name:
        log = Path(name) / "log"
        port = free_ports(1)[0]
        command = [
            sys.executable,
            "-m",
            "ncf",
            "serve",
            str(artifact),
            "--port",
            str(port),
            "--workers",
            str(workers),
            *options,
        ]
        began = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            wait_for_ping(port, process, log)
            yield Stack(port, process.pid, log, time.perf_counter() - began)
        finally:
            stop_group(process)


@dataclass(frozen=True)
class Memory:
    """MiB of a group of processes: shared pages counted once (PSS), and counted in every process (RSS)."""

    pss: float
    rss: float
    processes: int


def memory_of(group: int) -> Memory:
    """What all processes of a group hold now."""
    pss = rss = 0.0
    processes = members(group)
    for process in processes:
        with suppress(OSError):
            for line in Path(f"/proc/{process}/smaps_rollup").read_text("utf-8").splitlines():
                name, _, rest = line.partition(":")
                if name in ("Pss", "Rss"):
                    kibibytes = int(rest.split()[0])
                    pss, rss = pss + kibibytes * (name == "Pss"), rss + kibibytes * (name == "Rss")
    return Memory(pss / 1024, rss / 1024, len(processes))


def processor_seconds_of(group: int) -> float:
    """User and system time that the living processes of a group have used."""
    ticks = 0
    for process in members(group):
        with suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def metrics_of(port: int) -> dict[str, float]:
    """The counts of /metrics without labels, by name."""
    lines = get(port, "/metrics")[1].decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in pairs}
