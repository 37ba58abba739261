"""Looks at this machine and at AWS, and says for each thing whether it will do and what to do if not.

In: a session. Out: `Finding`s, in the order in which they are wanted. Each look has a time limit and is taken in a thread
of its own, so that a network that swallows packets or an engine that hangs costs seconds; nothing is changed anywhere.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from ncf.sagemaker.account import aws_checks, docker_checks
from ncf.sagemaker.account.checks import Check, Finding, finding
from ncf.sagemaker.session import Session

_GB = 1e9
_LEAST_DISK, _GOOD_DISK = 1.0, 5.0
_GOOD_MEMORY = 2.0
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*([^;]*?)\s*(?:;\s*(.*))?$")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")
_PLATFORM = re.compile(r"sys_platform\s*!=\s*['\"](\w+)['\"]")
OPTIONAL = ("mlflow", "tune", "index", "stats")


def examine(session: Session) -> Iterator[Finding]:
    """Every finding, as it comes. A session of local mode needs Docker and no AWS; a hosted one the other way round."""
    local = session.local
    yield from map(finding, checks(session))
    yield from map(finding, docker_checks.checks("" if local else "local mode and images"))
    yield from map(finding, aws_checks.checks(session, "hosted SageMaker" if local else ""))


def checks(session: Session) -> list[Check]:
    """The looks at this machine."""
    return [
        Check("Python", _python),
        Check("packages", lambda: _packages(None)),
        Check("extra sagemaker", lambda: _packages("sagemaker")),
        Check("other extras", _optional),
        Check("torch", _torch, seconds=60),
        Check("disk", lambda: _disk(session)),
        Check("memory", lambda: memory(Path("/proc/meminfo"))),
    ]


def _python() -> Finding:
    wanted = metadata.metadata("ncf")["Requires-Python"] or ">=3.11"
    here = ".".join(map(str, sys.version_info[:3]))
    if satisfied(here, wanted):
        return Finding("Python", "ok", f"{here} at {sys.executable}")
    return Finding(
        "Python",
        "problem",
        f"{here}, ncf needs {wanted}",
        "install a newer Python and make a new environment",
    )


def _packages(extra: str | None) -> Finding:
    name = f"extra {extra}" if extra else "packages"
    wrong, count = lacking(extra)
    what = (
        f"ncf {metadata.version('ncf')}, {count} packages as declared"
        if extra is None
        else f"{count} packages as declared"
    )
    if not count:
        return Finding(
            name,
            "not checked",
            "the installed ncf does not declare it",
            "install ncf again, as it is older than its source",
        )
    if not wrong:
        return Finding(name, "ok", what)
    remedy = f"pip install --upgrade 'ncf[{extra}]'" if extra else "pip install --upgrade ncf"
    return Finding(name, "problem", "; ".join(wrong), remedy)


def _optional() -> Finding:
    absent = [extra for extra in OPTIONAL if lacking(extra)[0] or not declared(extra)]
    there = [extra for extra in OPTIONAL if extra not in absent]
    said = "; ".join(
        f"{', '.join(names)} {words}"
        for names, words in ((there, "installed"), (absent, "not installed"))
        if names
    )
    remedy = f"only if you want them: pip install 'ncf[{','.join(absent)}]'" if absent else ""
    return Finding("other extras", "ok", said, remedy)


def lacking(extra: str | None) -> tuple[list[str], int]:
    """What is declared for an extra (None: for ncf itself) and not here or too old, and how many are declared."""
    wrong, count = [], 0
    for name, wanted in declared(extra):
        count += 1
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is not installed")
            continue
        if not satisfied(version, wanted):
            wrong.append(f"{name} {version} is not {wanted}")
    return wrong, count


def declared(extra: str | None) -> list[tuple[str, str]]:
    """Names and versions that ncf declares."""
    found = []
    for line in metadata.requires("ncf") or ():
        parts = _REQUIREMENT.match(line)
        if parts is None:
            continue
        marker = parts.group(3) or ""
        of_extra, platform = _EXTRA.search(marker), _PLATFORM.search(marker)
        if (of_extra.group(1) if of_extra else None) == extra and not (
            platform and platform.group(1) == sys.platform
        ):
            found.append((parts.group(1), parts.group(2)))
    return found


def satisfied(version: str, wanted: str) -> bool:
    """Whether `2.13.0` is `>=2.5,<3`; only the leading numbers of a version count."""
    tests = {
        ">=": lambda a, b: a >= b,
        "<": lambda a, b: a < b,
        "==": lambda a, b: a == b,
        ">": lambda a, b: a > b,
    }
    for part in filter(None, (one.strip() for one in wanted.split(","))):
        compared = re.match(r"(>=|<|==|>)\s*([\d.]+)", part)
        if compared and not tests[compared.group(1)](_numbers(version), _numbers(compared.group(2))):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(one) for one in re.match(r"[\d.]*", version).group().split(".") if one]  # type: ignore[union-attr]
    return tuple(numbers + [0] * (4 - len(numbers)))


def _torch() -> Finding:
    import torch

    from ncf.runtime import choose_device, choose_threads

    device = choose_device("auto")
    said = f"{torch.__version__}, device {device}, {choose_threads()} threads of {os.cpu_count()} cores"
    return Finding("torch", "ok", said)


def _disk(session: Session) -> Finding:

    places = {"data": Path("data"), "local mode": session.settings.home, "Docker": docker_checks.root()}
    free = {name: _free(path) for name, path in places.items() if path is not None}
    said = ", ".join(
        f"{size:.1f} GB free for {name} ({_existing(places[name])})" for name, size in free.items()
    )
    least = min(free.values())
    if least < _LEAST_DISK:
        return Finding(
            "disk",
            "problem",
            said,
            "free some space ('docker system prune', old runs/), or set NCF_HOME elsewhere",
        )
    if least < _GOOD_DISK:
        return Finding(
            "disk", "warning", said, "an image takes about 1.3 GB, a data set and its runs as much again"
        )
    return Finding("disk", "ok", said)


def _free(path: Path | None) -> float:
    return shutil.disk_usage(_existing(path)).free / _GB


def _existing(path: Path | None) -> Path:
    """The nearest folder above that is there."""
    here = (path or Path()).resolve()
    return here if here.exists() else _existing(here.parent)


def memory(source: Path) -> Finding:
    """From what Linux tells; other systems are not asked."""
    if not source.exists():
        return Finding("memory", "not checked", f"{sys.platform} does not tell it in a way that ncf knows")
    known = dict(re.findall(r"^(\w+):\s+(\d+) kB", source.read_text(), re.MULTILINE))
    free, total = (int(known[name]) * 1024 / _GB for name in ("MemAvailable", "MemTotal"))
    said = f"{free:.1f} of {total:.1f} GB free"
    if free < _GOOD_MEMORY:
        return Finding("memory", "warning", said, "end other programs: ML-1M and a container want about 2 GB")
    return Finding("memory", "ok", said)
