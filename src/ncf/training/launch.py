"""`ncf train --nproc N`: the same command N times on this machine, under torchrun's elastic agent, in this process.

In: the command line of one process. Out: nothing, or the error with which the group ended. The decision worth knowing:
who restarts. A process that ends with a sentence (a full disk, other data) would end so again, and is not restarted; one
that was killed or crashed is, with all others, from the last checkpoint, up to `restarts` times. A sentence is passed
on through a file, so that it is printed once, whichever process had it.
"""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from ncf.errors import Interrupted, NcfError

_ENDINGS = "NCF_ENDINGS"
_INTERRUPTED, _LOST = 130, 75


def launch(
    command: Sequence[str],
    again: Sequence[str],
    processes: int,
    restarts: int = 0,
    say: Callable[[str], None] = print,
) -> None:
    """Run `command` (arguments of Python) in `processes` processes; after a crash, `again` instead.

    Raises the `NcfError` that one of them ended with, or one that names the process that was lost.
    """
    for attempt in range(restarts + 1):
        with tempfile.TemporaryDirectory(prefix="ncf-launch-") as scratch:
            crashed = _run(again if attempt else command, processes, Path(scratch))
        if crashed is None:
            return
        if attempt < restarts:
            say(f"{crashed} All start again from the last checkpoint (restart {attempt + 1} of {restarts}).")
    advice = (
        "see its output above" if not restarts else f"{restarts} restarts did not help; see its output above"
    )
    raise NcfError(f"{crashed} No process is left: {advice}, or let --max-restarts start them again.")


def ending(sentence: str, code: int) -> bool:
    """Leave the sentence for whoever launched this process; False where nobody did, and it is to be printed."""
    if _ENDINGS not in os.environ:
        return False
    folder = Path(os.environ[_ENDINGS])
    text = json.dumps({"sentence": sentence, "code": code})
    (folder / f"ending-{os.environ['RANK']}.json").write_text(text)
    return True


def _run(command: Sequence[str], processes: int, scratch: Path) -> str | None:
    """None when all succeeded, a sentence about the first that crashed; raises what any ended with."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=scratch.name, rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0", max_restarts=0, logs_specs=DefaultLogsSpecs(log_dir=str(scratch / "logs")),
        local_addr="127.0.0.1",
    )  # fmt: skip
    os.environ[_ENDINGS] = str(scratch)
    try:
        elastic_launch(config, sys.executable)(*command)
    except SignalException:
        raise _told(scratch) or Interrupted("Stopped before training began.") from None
    except ChildFailedError as error:
        told = _told(scratch)
        if told is not None:
            raise told from None
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            return f"Process {rank} of {processes} was killed ({failure.signal_name()})."
        return _lost(scratch) or f"Process {rank} of {processes} ended with code {failure.exitcode}."
    finally:
        del os.environ[_ENDINGS]
    return None


def _told(scratch: Path) -> NcfError | None:
    """What the first process that ended with a sentence of its own had to say."""
    for sentence, code in _endings(scratch):
        if code != _LOST:
            return Interrupted(sentence) if code == _INTERRUPTED else NcfError(sentence)
    return None


def _lost(scratch: Path) -> str | None:
    """What the first one said that missed another."""
    return next((sentence for sentence, code in _endings(scratch) if code == _LOST), None)


def _endings(scratch: Path) -> list[tuple[str, int]]:
    files = sorted(scratch.glob("ending-*.json"), key=lambda file: file.stat().st_mtime_ns)
    found = [json.loads(file.read_text()) for file in files]
    return [(ending["sentence"], ending["code"]) for ending in found]
