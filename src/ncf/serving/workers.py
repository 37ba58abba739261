"""Several serving processes: started, started anew when they end, ended with the process that started them.

uvicorn's supervisor starts a worker anew at once and for ever.

The one decision worth knowing: a worker leaves a file with its process id when it is ready. One that ended
before could not start, and the next try waits longer. Where none serves, the server ends as soon as a worker
knows why it cannot start, or after a few tries.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process
from pathlib import Path
from socket import socket

from uvicorn import Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from ncf.errors import ArtifactError, NcfError
from ncf.runtime import end_with

_REASON = "reason"
_TRIES = 4
_LONGEST_WAIT = 30.0


@contextmanager
def starting(scratch: Path) -> Iterator[None]:
    """Enclose what a worker does before it serves; `scratch` is the folder that the supervisor reads."""
    parent = parent_process()
    if parent is None:  # The only process.
        yield
        return
    end_with(int(parent.pid or 0))
    try:
        yield
    except NcfError as error:
        (scratch / _REASON).write_text(str(error), "utf-8")
        sys.exit(3)  # uvicorn's code for this.
    (scratch / f"ready-{os.getpid()}").touch()
    (scratch / _REASON).unlink(missing_ok=True)


class Supervisor(Multiprocess):
    """The workers of one server. `scratch` is a folder of their own."""

    def __init__(self, config: Config, sockets: list[socket], scratch: Path) -> None:
        super().__init__(config, sockets)
        self._scratch = scratch
        self._tries: Counter[int] = Counter()
        self._next: dict[int, float] = {}
        self._failed = False

    def run(self) -> None:
        """Serve until a signal; raises `ArtifactError` where no worker serves and none can be started."""
        super().run()
        if self._failed:
            reason = self._scratch / _REASON
            if reason.is_file():
                raise ArtifactError(reason.read_text("utf-8"))
            raise ArtifactError(
                f"No worker could be started in {_TRIES} tries: see what they wrote above, and start again."
            )

    def keep_subprocess_alive(self) -> None:
        """Start workers that ended anew. uvicorn calls this twice a second."""
        for place, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if place in self._next:
                if time.monotonic() >= self._next[place]:
                    del self._next[place]
                    self.processes[place] = Process(self.config, self.sockets)
                    self.processes[place].start()
            elif not process.is_alive():
                self._bury(place, process)
        alive = [place for place in range(len(self.processes)) if place not in self._next]
        hopeless = (self._scratch / _REASON).exists() or min(self._tries.values(), default=0) >= _TRIES
        if not alive and hopeless:
            self._failed = True
            self.should_exit.set()

    def _bury(self, place: int, process: Process) -> None:
        """Clean up after a worker that ended or hangs, and say when the next one is to start."""
        from ncf.serving.metrics import forget

        process.kill()
        process.join()
        forget(process.pid)
        ready = self._scratch / f"ready-{process.pid}"
        self._tries[place] = 0 if ready.exists() else self._tries[place] + 1
        ready.unlink(missing_ok=True)
        wait = min(2.0 ** self._tries[place] / 2, _LONGEST_WAIT) if self._tries[place] else 0.0
        self._next[place] = time.monotonic() + wait

    def terminate_all(self) -> None:
        """End the workers that live; the connections of the others are closed."""
        for place, process in enumerate(self.processes):
            if place not in self._next:
                process.terminate()
