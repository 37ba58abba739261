"""`ncf train --nproc N`: run the same command N times on this machine, under torchrun's elastic agent in this
process.

In: the command line of one process. Out: nothing, or the error with which the group ended. The decision worth
knowing is when to restart. A process that ends with a message of its own (disk full, other data) would end
the same way again, so the group is not restarted. If a process is killed, hangs or crashes, all of them start
again from the last checkpoint, up to `restarts` times. The agent's own restarts make no such difference, so
it gets none and is started again here.

A process leaves its message in a file instead of printing it, so that it is printed once for the whole group.
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
from types import FrameType

from ncf.data.files import storage_errors, write_text
from ncf.errors import Interrupted, NcfError
from ncf.tracking.tracker import Tracker

_ENDINGS, _ATTEMPT, _LAUNCHER = "NCF_ENDINGS", "NCF_ATTEMPT", "NCF_LAUNCHER"
_DONE, _INTERRUPTED, _LOST = 0, 130, 75
_STOP_SECONDS = 120
"""How long the processes may take after ctrl-C to finish their step and write a checkpoint."""
_MARK = "launch"


def launch(
    command: Sequence[str],
    output: str,
    processes: int,
    restarts: int = 0,
    log: Callable[[str], None] = print,
) -> None:
    """Run `command` in several processes, and again after a crash.

    `command` is what follows `python` on a command line, and `processes` the number of processes. `output` is
    the run's folder, for the advice how to resume. After a crash they are started again up to `restarts`
    times; `log` takes a message about each restart. Raises the `NcfError` that one of them ended with, or one
    that names the process that was lost.
    """
    advice = f"to resume from the last checkpoint, run the same command with --output {output} --resume"
    for attempt in range(restarts + 1):
        with tempfile.TemporaryDirectory(prefix="ncf-launch-") as scratch:
            crash = _run(command, processes, Path(scratch), attempt)
        if crash is None:
            return
        if attempt < restarts:
            log(f"{crash} All restart from the last checkpoint (restart {attempt + 1} of {restarts}).")
    if restarts:
        raise NcfError(f"{crash} All {restarts} restarts are used up: {advice}.")
    raise NcfError(f"{crash} All processes have ended: {advice}; --max-restarts N does this automatically.")


def restarted() -> bool:
    """Whether this process replaces one that crashed, under `launch` or torchrun."""
    return any(int(os.environ.get(name, "0")) for name in (_ATTEMPT, "TORCHELASTIC_RESTART_COUNT"))


def leave_message(message: str, code: int) -> bool:
    """Leave `message` and exit `code` for the launcher. False if this process has to print the message
    itself."""
    if _ENDINGS not in os.environ:
        return False
    if os.environ[_LAUNCHER] != str(os.getppid()):  # the launcher was killed: process 0 speaks for all
        return os.environ["RANK"] != "0"
    folder = Path(os.environ[_ENDINGS])
    text = json.dumps({"message": message, "code": code})
    (folder / f"ending-{os.environ['RANK']}.json").write_text(text)
    return True


class LaunchMark(Tracker):
    """Notes in a run's folder which launch began it, so that a restart does not resume an older run by
    mistake."""

    def __init__(self) -> None:
        self._written = False

    def opened(self, folder: Path) -> None:
        if not self._written:  # runs of halves are opened later
            with storage_errors(folder):
                write_text(folder / _MARK, "\n".join(_launch_names()))
        self._written = True


def began_here(output: str) -> bool:
    """Whether the launch that this process belongs to began the run in the folder `output`."""
    file = Path(output) / _MARK
    return file.is_file() and not _launch_names().isdisjoint(file.read_text().splitlines())


def _launch_names() -> set[str]:
    """The agent, which outlives the processes it starts; and torchrun's job, in case process 0 moves to
    another host."""
    job = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return {f"{socket.gethostname()}:{os.getppid()}", *([job] if job != "none" else [])}


def _run(command: Sequence[str], processes: int, scratch: Path, attempt: int) -> str | None:
    """Run the group once. Returns None if all succeeded, or a sentence about the first process that crashed.

    Raises the error that any of them left.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_STOP_SECONDS))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=scratch.name, rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1", max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(scratch / "logs")),
    )  # fmt: skip
    # The agent would pass ctrl-C on as SIGINT. torch before 2.9 ignores this attribute and does so.
    config.signals_to_handle = "SIGTERM,SIGHUP,SIGQUIT"
    ours = {_ENDINGS: str(scratch), _ATTEMPT: str(attempt), _LAUNCHER: str(os.getpid())}
    os.environ |= ours
    logging.disable(logging.CRITICAL)  # silences the agent; this process logs nothing else
    interrupts: list[int] = []
    try:
        with _ctrl_c_as_sigterm(interrupts):
            elastic_launch(config, sys.executable)(*command)
    except SignalException as stopped:
        error = _error(scratch)
        if error is None and _done(scratch):
            return None
        name = "SIGINT" if interrupts else signal.Signals(stopped.sigval).name
        raise error or Interrupted(f"Stopped by {name} before a checkpoint could be saved.") from None
    except ChildFailedError as failed:
        error = _error(scratch)
        if error is not None:
            raise error from None
        rank, failure = failed.get_first_failure()
        if failure.exitcode < 0:
            return f"Process {rank} of {processes} was killed ({failure.signal_name()})."
        return (
            _lost(scratch)
            or f"Process {rank} of {processes} exited with code {failure.exitcode} (see above)."
        )
    finally:
        logging.disable(logging.NOTSET)
        for variable in ours:
            del os.environ[variable]
    return None


@contextmanager
def _ctrl_c_as_sigterm(interrupts: list[int]) -> Iterator[None]:
    """Pass ctrl-C on to the processes as SIGTERM, and note it in `interrupts`.

    SIGTERM ends a process that is not training yet without a traceback, where SIGINT would raise
    KeyboardInterrupt. The second ctrl-C interrupts the agent's wait for the first; it then sends SIGTERM
    again, which training no longer catches.
    """
    from torch.distributed.elastic.multiprocessing import SignalException

    def interrupt(number: int, _: FrameType | None) -> None:
        interrupts.append(number)
        raise SignalException("interrupted", signal.SIGTERM)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _error(scratch: Path) -> NcfError | None:
    """The error of the first process that ended with a message of its own."""
    for message, code in _endings(scratch):
        if code not in (_LOST, _DONE):
            return Interrupted(message) if code == _INTERRUPTED else NcfError(message)
    return None


def _lost(scratch: Path) -> str | None:
    """The message of the first process that missed another one."""
    return next((message for message, code in _endings(scratch) if code == _LOST), None)


def _done(scratch: Path) -> bool:
    """Whether process 0, which writes everything, finished."""
    file = scratch / "ending-0.json"
    return file.is_file() and json.loads(file.read_text())["code"] == _DONE


def _endings(scratch: Path) -> list[tuple[str, int]]:
    """The messages and exit codes that the processes left, oldest first."""
    files = sorted(scratch.glob("ending-*.json"), key=lambda file: file.stat().st_mtime_ns)
    endings = [json.loads(file.read_text()) for file in files]
    return [(ending["message"], ending["code"]) for ending in endings]
