"""A training of several processes as a test sees it: started by a launcher, held at a step, killed, looked
at."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ncf.errors import Interrupted, NcfError
from ncf.training.parallel.launcher import launch
from processes import wait_until

NCF = [sys.executable, "-m", "ncf"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
_SITE = str(Path(__file__).parent / "hold")
_PATIENCE = 200


class Group:
    """A launcher, and all processes that come of it: they share a mark in their environment."""

    def __init__(self, command: list[object], folder: Path, **environment: str) -> None:
        self._mark = f"NCF_TEST_GROUP={uuid.uuid4()}"
        self.scratch = folder / f"group-{self._mark[-8:]}"
        self.scratch.mkdir()
        name, value = self._mark.split("=")
        paths = [_SITE, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        surroundings = {
            **os.environ,
            "COLUMNS": "400",
            "POLARS_MAX_THREADS": "1",
            "TMPDIR": str(self.scratch),
            name: value,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            **{k: v.replace("SCRATCH", str(self.scratch)) for k, v in environment.items()},
        }
        with (self.scratch / "out").open("w") as out, (self.scratch / "err").open("w") as err:
            self.launcher = subprocess.Popen(
                list(map(str, command)), cwd=folder, env=surroundings, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip

    @property
    def out(self) -> str:
        return (self.scratch / "out").read_text()

    @property
    def err(self) -> str:
        return (self.scratch / "err").read_text()

    def held(self, number: int = 0) -> int:
        """The process id of the rank that is held at its `number`-th step."""
        file = self.scratch / f"held-{number}"
        wait_until(lambda: file.exists() or self.launcher.poll() is not None, _PATIENCE)
        assert file.exists(), self.err
        return int(file.read_text())

    def go(self) -> None:
        (self.scratch / "go").touch()

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal sends it: to the launcher's process group."""
        os.killpg(self.launcher.pid, signal.SIGINT)

    def ended(self, code: int = 0) -> str:
        """What was written on standard error, once the launcher has ended with this code and left nobody
        behind."""
        assert self.launcher.wait(_PATIENCE) == code, self.out + self.err
        wait_until(lambda: not self.processes())
        return self.err

    def processes(self) -> list[int]:
        numbers = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self._mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                    numbers.append(int(process.name))
        return numbers

    def clear(self) -> None:
        self.launcher.kill()
        self.launcher.wait()
        for number in self.processes():
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)


def asked_to_stop(process: int) -> bool:
    """Whether a held rank has had its first SIGTERM; from then on a training no longer catches it."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return not caught >> (signal.SIGTERM - 1) & 1


@contextmanager
def group(command: list[object], folder: Path, **environment: str) -> Iterator[Group]:
    """`Group`, of which nothing is left after the block."""
    started = Group(command, folder, **environment)
    try:
        yield started
    finally:
        started.clear()


def hold(rank: int, *steps: str) -> dict[str, str]:
    """The environment in which this rank is held before these steps ("EPOCH,STEP"), by default one of the
    third epoch."""
    return {"NCF_TEST_HOLD": f"{rank} SCRATCH {' '.join(steps or ('2,7',))}"}


def launched(folder: Path, program: str, restarts: int) -> None:
    """Run `launch` in `folder` on the text of a program, in place of this process."""
    os.chdir(folder)
    try:
        launch(["-c", program], "out", 2, restarts)
    except NcfError as error:
        print(error, file=sys.stderr)
        sys.exit(130 if isinstance(error, Interrupted) else 2)
