"""How the programs of training and processing containers end: an exit code, and one sentence where SageMaker reads it."""

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ncf.errors import Interrupted, NcfError

LONGEST_REASON = 1024
"""Characters of FailureReason (DescribeTrainingJob)."""


def ended(work: Callable[[], None], told: Path, longest: int, *, others_tell_too: bool = False) -> int:
    """Do the work; the exit code. A failure is 1 with its sentence on standard error and, cut to `longest`, in `told`.

    A stop that was asked for, after which everything was saved, is no failure. Where `others_tell_too`, what is in `told`
    already is kept: the first of several processes to fail knows why, and the others only that it is gone.
    """
    try:
        work()
    except Interrupted as stopped:
        print(f"[ncf] {stopped}", flush=True)
    except NcfError as error:
        return _fail(told, str(error), longest, others_tell_too)
    except Exception as error:
        traceback.print_exc()
        sentence = f"ncf made a mistake ({type(error).__name__}: {error}); its traceback is in the job's log."
        return _fail(told, sentence, longest, others_tell_too)
    return 0


def _fail(told: Path, sentence: str, longest: int, others_tell_too: bool) -> int:
    print(f"[ncf] {sentence}", file=sys.stderr, flush=True)
    try:
        told.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), told.open("x" if others_tell_too else "w", encoding="utf-8") as file:
            file.write(sentence[:longest])
    except OSError as error:
        print(f"[ncf] That could not be written to {told} ({error.strerror}).", file=sys.stderr, flush=True)
    return 1
