"""What a check is, and what it found; each check has a time limit.

In: a `Check`. Out: its `Finding`. The one decision worth knowing: each check runs in a thread of its own, so that a
network that swallows packets or an engine that hangs costs seconds and not minutes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from ncf.errors import NcfError

State = Literal["ok", "warning", "problem", "not checked"]


@dataclass(frozen=True)
class Finding:
    """What one look found."""

    name: str
    state: State
    said: str
    """What is there, or why it was not looked at."""
    remedy: str = ""
    """What to do, where it is not ok."""

    def to_json(self) -> dict[str, str]:
        """For `--json`."""
        return vars(self).copy()


@dataclass(frozen=True)
class Check:
    """One look: `look` returns a finding or raises `NcfError`, which is a problem."""

    name: str
    look: Callable[[], Finding]
    only_for: str = ""
    """Where a problem is none for what was asked but a warning: what it would be one for."""
    seconds: float = 10.0


def finding(check: Check) -> Finding:
    """Take one look, for so many seconds at most."""
    answers: list[Finding | Exception] = []
    thread = threading.Thread(target=lambda: answers.append(_answer(check.look, check.name)), daemon=True)
    thread.start()
    thread.join(check.seconds)
    if not answers:
        return Finding(
            check.name,
            "not checked",
            f"no answer within {check.seconds:g} s",
            "try again; if it stays so, look at the network",
        )
    answer = answers[0]
    if isinstance(answer, Exception):
        raise answer
    if answer.state == "problem" and check.only_for:
        return replace(answer, state="warning", remedy=f"only for {check.only_for}: {answer.remedy}")
    return answer


def _answer(look: Callable[[], Finding], name: str) -> Finding | Exception:
    try:
        return look()
    except NcfError as error:
        said, _, remedy = str(error).partition(": ")
        return Finding(name, "problem", said, remedy)
    except Exception as error:
        return error


def fine(findings: Iterable[Finding]) -> bool:
    """Whether nothing is a problem."""
    return all(one.state != "problem" for one in findings)
