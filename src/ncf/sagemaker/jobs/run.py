"""What processing and transform jobs share: start, follow the log, stop when interrupted, report a failure.

In: a request and the calls of the service. Out: the lines of the log on the way, and `JobFailed` unless the
job completed. Training jobs fail with the same exception, but they are not stopped when their follower
leaves.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.jobs import logs
from ncf.sagemaker.session import Session

OVER = ("Completed", "Failed", "Stopped")
LAST_LINES = 20


class JobFailed(CloudError):
    """A job that did not complete; `lines` are the last of its log."""

    def __init__(self, sentence: str, code: str, lines: Sequence[str]) -> None:
        super().__init__(sentence, code)
        self.lines = tuple(lines)


def run_job(
    session: Session,
    noun: str,
    calls: tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]],
    request: dict[str, Any],
    log: Callable[[str], None],
    *,
    max_run: float = math.inf,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Run a job to its end; raises `JobFailed` unless it completed.

    `noun` is "Processing" or "Transform", `calls` are the client's create, describe and stop of such a job,
    `log` receives the lines of the job's log. After `max_run` seconds, or any exception here, the job is
    stopped.
    """
    (create, describe, stop), name = calls, request[f"{noun}JobName"]
    word, key = noun.lower(), {f"{noun}JobName": name}
    end, last = time.monotonic() + max_run, deque[str](maxlen=LAST_LINES)
    job: dict[str, Any] = {}

    def ended() -> bool:
        nonlocal job
        job = describe(**key)
        over = job[f"{noun}JobStatus"] in OVER
        if time.monotonic() > end and not over:
            sentence = f"The {word} job {name} took more than --max-run {max_run} seconds and was stopped."
            raise CloudError(sentence)
        return over

    create(**request)
    try:
        for line in logs.follow(session, f"/aws/sagemaker/{noun}Jobs", f"{name}/", ended, sleep=sleep):
            last.append(line.text)
            log(line.text)
    except BaseException:
        try:
            stop(**key)
        except CloudError as error:
            if error.code != "ValidationException":  # it is over already
                raise
        raise
    status = job[f"{noun}JobStatus"]
    if status != "Completed":
        verb = "failed" if status == "Failed" else "was stopped"
        reason = str(job.get("ExitMessage") or job.get("FailureReason") or "see its log").rstrip(".")
        raise JobFailed(f"The {word} job {name} {verb}: {reason}.", status, list(last))
