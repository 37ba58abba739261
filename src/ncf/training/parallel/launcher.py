"""`ncf train --nproc N`: the same command N times on this machine, under torchrun's elastic agent, in this process.

In: the command line of one process. Out: nothing, or the error with which the group ended. The decision worth knowing:
who restarts. A process that ends with a sentence (a full disk, other data) would end so again, and is not restarted; one
that was killed, hangs or crashed is, with all others, from the last checkpoint, up to `restarts` times. How a process ended
is passed on through a file, so that a sentence is printed once, whichever process had it.
"""

import json
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ncf.data.files import storage_errors, write_text
from ncf.errors import Interrupted, NcfError
from ncf.tracking.tracker import Silent

_ENDINGS, _ATTEMPT, _LAUNCHER = "NCF_ENDINGS", "NCF_ATTEMPT", "NCF_LAUNCHER"
_DONE, _INTERRUPTED, _LOST = 0, 130, 75
_STRAGGLERS_SECONDS = 10
"""How long the others have after one has failed; only one that hangs needs as long."""
_STOP_SECONDS = 120
"""How long all have after ctrl-C, to end the step and write a checkpoint."""
_BEGUN_BY = "launch"


def launch(
    command: Sequence[str],
    output: str,
    processes: int,
    restarts: int = 0,
    log: Callable[[str], None] = print,
) -> None:
    """Run `command` (arguments of Python) in `processes` processes; after a crash again, and `restarted` tells them so.

    Raises the `NcfError` that one of them ended with, or one that names the process that was lost and says how to go on
    with the run in `output`.
    """
    on = f"the same command with --output {output} --resume goes on from the last checkpoint"
    for attempt in range(restarts + 1):
        with tempfile.TemporaryDirectory(prefix="ncf-launch-") as scratch:
            crashed = _run(command, processes, Path(scratch), attempt)
        if crashed is None:
            return
        if attempt < restarts:
            log(f"{crashed} All start again from the last checkpoint (restart {attempt + 1} of {restarts}).")
    if restarts:
        raise NcfError(f"{crashed} The last of {restarts} restarts is used up: {on}.")
    raise NcfError(f"{crashed} All have ended: {on}, and --max-restarts N does so by itself.")


def restarted() -> bool:
    """Whether this process takes the place of one that crashed: under `launch`, or under torchrun."""
    return any(int(os.environ.get(name, "0")) for name in (_ATTEMPT, "TORCHELASTIC_RESTART_COUNT"))


def ending(sentence: str, code: int) -> bool:
    """Leave the sentence for whoever launched this process; False where it is to be printed, as nobody did or is left."""
    if _ENDINGS not in os.environ:
        return False
    if os.environ[_LAUNCHER] != str(os.getppid()):
        return os.environ["RANK"] != "0"
    folder = Path(os.environ[_ENDINGS])
    text = json.dumps({"sentence": sentence, "code": code})
    (folder / f"ending-{os.environ['RANK']}.json").write_text(text)
    return True


class Begun(Silent):
    """Remembers in a run's folder which launch began it, so that a restart does not take an older run for its own."""

    def __init__(self) -> None:
        self._written = False

    def opened(self, folder: Path) -> None:
        if not self._written:  # runs of halves are opened later
            with storage_errors(folder):
                write_text(folder / _BEGUN_BY, "\n".join(_launchers()))
        self._written = True


def begun(output: str) -> bool:
    """Whether the run in this folder was begun by the launch that this process belongs to."""
    file = Path(output) / _BEGUN_BY
    return file.is_file() and not _launchers().isdisjoint(file.read_text().splitlines())


def _launchers() -> set[str]:
    """The agent, which outlives the processes that it starts, and the name of the job, if process 0 moves to another host."""
    job = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return {f"{socket.gethostname()}:{os.getppid()}", *([job] if job != "none" else [])}


def _run(command: Sequence[str], processes: int, scratch: Path, attempt: int) -> str | None:
    """None when all succeeded, a sentence about the first that crashed; raises what any ended with."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=scratch.name, rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", max_restarts=0, logs_specs=DefaultLogsSpecs(log_dir=str(scratch / "logs")),
        local_addr="127.0.0.1",
    )  # fmt: skip
    ours = {_ENDINGS: str(scratch), _ATTEMPT: str(attempt), _LAUNCHER: str(os.getpid())}
    os.environ |= ours
    logging.disable(logging.CRITICAL)  # the agent's log; this process does nothing else
    try:
        with _patience():
            elastic_launch(config, sys.executable)(*command)
    except SignalException as stopped:
        told = _told(scratch)
        if told is None and _done(scratch):
            return None
        name = signal.Signals(stopped.sigval).name
        raise told or Interrupted(f"Stopped by {name} before a checkpoint could be saved.") from None
    except ChildFailedError as error:
        told = _told(scratch)
        if told is not None:
            raise told from None
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            return f"Process {rank} of {processes} was killed ({failure.signal_name()})."
        return (
            _lost(scratch) or f"Process {rank} of {processes} ended with code {failure.exitcode} (see above)."
        )
    finally:
        logging.disable(logging.NOTSET)
        for variable in ours:
            del os.environ[variable]
    return None


@contextmanager
def _patience() -> Iterator[None]:
    """The agent's own patience is 30 s for all: too long for one that hangs, too short for a large checkpoint.

    It closes the group without a signal's name after a failure, and with one when it was itself asked to stop. We pass
    on SIGTERM, which ends a process without a word that is not training yet.
    """
    from torch.distributed.elastic.multiprocessing import PContext

    close = PContext.close
    asked: list[signal.Signals] = []

    def patient(context: PContext, death_sig: signal.Signals | None = None, *_: Any, **__: Any) -> None:
        seconds = _STOP_SECONDS if death_sig and not asked else _STRAGGLERS_SECONDS
        if death_sig:
            asked.append(death_sig)
        close(context, signal.SIGTERM, seconds)

    PContext.close = patient  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        PContext.close = close  # type: ignore[method-assign]


def _told(scratch: Path) -> NcfError | None:
    """What the first process that ended with a sentence of its own had to say."""
    for sentence, code in _endings(scratch):
        if code not in (_LOST, _DONE):
            return Interrupted(sentence) if code == _INTERRUPTED else NcfError(sentence)
    return None


def _lost(scratch: Path) -> str | None:
    """What the first one said that missed another."""
    return next((sentence for sentence, code in _endings(scratch) if code == _LOST), None)


def _done(scratch: Path) -> bool:
    """Whether process 0, which writes all there is, came to its end."""
    file = scratch / "ending-0.json"
    return file.is_file() and json.loads(file.read_text())["code"] == _DONE


def _endings(scratch: Path) -> list[tuple[str, int]]:
    files = sorted(scratch.glob("ending-*.json"), key=lambda file: file.stat().st_mtime_ns)
    found = [json.loads(file.read_text()) for file in files]
    return [(ending["sentence"], ending["code"]) for ending in found]
