"""A call of the SDK that runs containers, watched: their logs are kept, a wish to stop and a time limit are heeded.

The SDK blocks until its containers end, and tells nothing but that. So it runs in a thread, and the worker's main thread
looks after the containers, which it finds by their label.
"""

from __future__ import annotations

import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ncf.sagemaker.local import docker

_EVERY = 0.3


class StopFlag:
    """Whether this process was asked to end. A plain flag: a handler may not wait for the lock of an `Event`."""

    def __init__(self) -> None:
        self._asked = False

    def set(self) -> None:
        """It was."""
        self._asked = True

    def is_set(self) -> bool:
        """Whether it was."""
        return self._asked

    def wait(self, seconds: float) -> bool:
        """Whether it was, some seconds later or at once."""
        end = time.monotonic() + seconds
        while not self._asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _EVERY))
        return self._asked


STOPPING = StopFlag()


def heed_signals() -> None:
    """From now on SIGTERM is a wish to stop, of which every `ContainerWatcher` knows, also one that is made later."""
    signal.signal(signal.SIGTERM, lambda *_: STOPPING.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class ContainerWatcher:
    """The containers of one worker, from the first to the last."""

    def __init__(self, folder: Path, streams: Path, count: int = 1) -> None:
        self.folder = folder
        self.streams = streams
        self.count = count
        self.stopping = STOPPING
        """Set by SIGTERM: the containers are to end."""
        self.late = False
        """Whether they were stopped because their time was up."""
        self.error: BaseException | None = None
        """What the SDK raised."""
        self._followers: dict[str, subprocess.Popen[bytes]] = {}
        self._files = ExitStack()

    @property
    def logs(self) -> list[Path]:
        """The streams that were written."""
        return sorted(self.streams.glob("*.log"))

    def run(self, call: Callable[[], object], started: Callable[[], None], limit: float, grace: int) -> None:
        """Run a call to its end; `started` is called when its containers are there, `limit` is in seconds."""
        if self.stopping.is_set():
            return
        thread = self.start(call)
        deadline: float | None = None
        while thread.is_alive():
            if self.look() and deadline is None:
                started()
                deadline = time.monotonic() + limit
            self.late = self.late or (deadline is not None and time.monotonic() > deadline)
            if self.late or self.stopping.is_set():
                docker.stop(docker.containers(self.folder), grace)
            thread.join(_EVERY)
        self.look()
        self.drain()

    def start(self, call: Callable[[], object]) -> threading.Thread:
        """Start a call in a thread; what it raises is kept in `error`."""
        docker.ensure_network()
        thread = threading.Thread(target=self._guarded, args=(call,), daemon=True)
        thread.start()
        return thread

    def look(self) -> bool:
        """Follow containers that are new; whether all are there."""
        if len(self._followers) < self.count:
            for one in docker.containers(self.folder):
                if one.id not in self._followers and one.state != "created":
                    self._followers[one.id] = self._follow(one)
        return len(self._followers) >= self.count

    def one_has_ended(self) -> bool:
        """Whether a container that was there is no more; its log has ended then."""
        return any(one.poll() is not None for one in self._followers.values())

    def drain(self, seconds: float = 10) -> None:
        """Wait until everything that the containers said is in the files."""
        for one in self._followers.values():
            try:
                one.wait(seconds)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
        self._files.close()
        for path in self.logs:
            with path.open("rb+") as file:
                if file.seek(0, 2) and file.seek(-1, 2) and file.read(1) != b"\n":
                    file.write(b"\n")

    def _follow(self, container: docker.Container) -> subprocess.Popen[bytes]:
        self.streams.mkdir(parents=True, exist_ok=True)
        file = self._files.enter_context((self.streams / f"{container.host}.log").open("ab"))
        return subprocess.Popen(
            ["docker", "logs", "--follow", "--timestamps", container.id],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip

    def _guarded(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            traceback.print_exc()
            self.error = error
