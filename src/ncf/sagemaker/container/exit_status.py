"""How programs of containers end: with an exit code, and one sentence where SageMaker reads it."""

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ncf.errors import Interrupted, NcfError

LONGEST_REASON = 1024
"""Characters of FailureReason (DescribeTrainingJob)."""


def exit_code(work: Callable[[], None], target: Path, longest: int, *, keep_first: bool = False) -> int:
    """Run `work`; 0, or 1 with the sentence of its error on standard error and, cut to `longest`, in the file
    `target`.

    A requested stop, after which everything was saved, is no failure. With `keep_first` a sentence that is
    already in `target` stays: the first of several processes to fail knows the cause, the others only that it
    is gone.
    """
    try:
        work()
    except Interrupted as stopped:
        print(f"[ncf] {stopped}", flush=True)
    except NcfError as error:
        return _fail(target, str(error), longest, keep_first)
    except Exception as error:
        traceback.print_exc()
        sentence = f"ncf has a defect ({type(error).__name__}: {error}); its traceback is in the job's log."
        return _fail(target, sentence, longest, keep_first)
    return 0


def _fail(target: Path, sentence: str, longest: int, keep_first: bool) -> int:
    print(f"[ncf] {sentence}", file=sys.stderr, flush=True)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError), target.open("x" if keep_first else "w", encoding="utf-8") as file:
            file.write(sentence[:longest])
    except OSError as error:
        print(f"[ncf] That could not be written to {target} ({error.strerror}).", file=sys.stderr, flush=True)
    return 1
