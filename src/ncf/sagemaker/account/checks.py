"""One check of `ncf doctor`, and the finding that it returns.

In: a `Check`. Out: its `Finding`. The one decision worth knowing: each check runs in a thread of its own with
a time limit, so a network that drops packets or a Docker engine that hangs costs seconds, not minutes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from ncf.errors import NcfError

State = Literal["ok", "warning", "problem", "not checked"]


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    state: State
    message: str
    """What is there, or why it was not checked."""
    remedy: str = ""
    """What to do about it; empty where nothing needs to be done."""
    name: str = ""
    """The name of the check; `run_check` fills it in."""

    def to_json(self) -> dict[str, str]:
        """The fields, for `--json`."""
        return {"name": self.name, **{key: text for key, text in asdict(self).items() if key != "name"}}


@dataclass(frozen=True)
class Check:
    """A named function that returns a finding, or raises `NcfError` for a problem."""

    name: str
    look: Callable[[], Finding]
    only_for: str = ""
    """What needs this check, if the user asked for something else: a problem is then only a warning."""
    seconds: float = 10.0
    """Time limit."""


def run_check(check: Check) -> Finding:
    """Run one check within its time limit; a defect of ncf itself is raised."""
    answers: list[Finding | Exception] = []
    thread = threading.Thread(target=lambda: answers.append(_answer(check.look)), daemon=True)
    thread.start()
    thread.join(check.seconds)
    if not answers:
        remedy = "try again; if it happens again, check the network"
        return Finding("not checked", f"no answer within {check.seconds:g} s", remedy, check.name)
    answer = answers[0]
    if isinstance(answer, Exception):
        raise answer
    if answer.state == "problem" and check.only_for:
        answer = replace(answer, state="warning", remedy=f"only for {check.only_for}: {answer.remedy}")
    return replace(answer, name=check.name)


def _answer(look: Callable[[], Finding]) -> Finding | Exception:
    """What `look` returns; an exception is handed to the thread that waits."""
    try:
        return look()
    except NcfError as error:
        message, _, remedy = str(error).partition(": ")
        return Finding("problem", message, remedy)
    except Exception as error:
        return error


def all_passed(findings: Iterable[Finding]) -> bool:
    """Whether no finding is a problem."""
    return all(finding.state != "problem" for finding in findings)
