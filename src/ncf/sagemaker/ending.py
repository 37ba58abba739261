"""How the programs of training and processing containers end: an exit code, and one sentence where SageMaker reads it."""

import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from ncf.errors import Interrupted, NcfError


def ended(work: Callable[[], None], told: Path, longest: int) -> int:
    """Do the work; the exit code. A failure is 1 with its sentence on standard error and, cut to `longest`, in `told`.

    A stop that was asked for, after which everything was saved, is no failure.
    """
    try:
        work()
    except Interrupted as stopped:
        print(f"[ncf] {stopped}", flush=True)
    except NcfError as error:
        return _fail(told, str(error), longest)
    except Exception as error:
        traceback.print_exc()
        sentence = f"ncf made a mistake ({type(error).__name__}: {error}); its traceback is in the job's log."
        return _fail(told, sentence, longest)
    return 0


def _fail(told: Path, sentence: str, longest: int) -> int:
    print(f"[ncf] {sentence}", file=sys.stderr, flush=True)
    try:
        told.parent.mkdir(parents=True, exist_ok=True)
        told.write_text(sentence[:longest], "utf-8")
    except OSError as error:
        print(f"[ncf] That could not be written to {told} ({error.strerror}).", file=sys.stderr, flush=True)
    return 1
