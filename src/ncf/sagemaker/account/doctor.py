"""`ncf doctor`: checks this machine, Docker and AWS, and says what to do about each problem.

In: a session. Out: `Finding`s, in the order in which a user needs them. Nothing is changed anywhere.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ncf.runtime import choose_device, choose_threads, free_memory
from ncf.sagemaker.account import aws_checks, docker_checks
from ncf.sagemaker.account.checks import Check, Finding, run_check
from ncf.sagemaker.session import Session

_GB = 1e9
_LEAST_DISK, _GOOD_DISK = 1.0, 5.0
_GOOD_MEMORY = 2.0
OPTIONAL = ("mlflow", "tune", "index")
"""Extras that SageMaker does not need."""


def examine(session: Session) -> Iterator[Finding]:
    """Yield each finding as it comes; a local session needs Docker, a hosted one AWS."""
    local = session.local
    yield from map(run_check, machine_checks(session))
    yield from map(run_check, docker_checks.checks("" if local else "local mode and images"))
    yield from map(run_check, aws_checks.checks(session, "hosted SageMaker" if local else ""))


def machine_checks(session: Session) -> list[Check]:
    """The checks of this machine."""
    return [
        Check("Python", _python),
        Check("packages", lambda: _packages(None)),
        Check("extra sagemaker", lambda: _packages("sagemaker")),
        Check("other extras", _optional),
        Check("torch", _torch, seconds=60),
        Check("disk", lambda: _disk(session)),
        Check("memory", _memory),
    ]


def _python() -> Finding:
    wanted = metadata.metadata("ncf")["Requires-Python"] or ">=3.11"
    version = ".".join(map(str, sys.version_info[:3]))
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Finding("ok", f"{version} at {sys.executable}")
    return Finding(
        "problem", f"{version}, ncf needs {wanted}", "install a newer Python and make a new environment"
    )


def _packages(extra: str | None) -> Finding:
    requirements = declared(extra)
    if not requirements:
        message = "the installed ncf does not declare it"
        return Finding("not checked", message, "install ncf again: it is older than its source")
    if wrong := unmet(requirements):
        package = f"'ncf[{extra}]'" if extra else "ncf"
        return Finding("problem", "; ".join(wrong), f"pip install --upgrade {package}")
    ours = "" if extra else f"ncf {metadata.version('ncf')}, "
    return Finding("ok", f"{ours}{len(requirements)} packages as declared")


def _optional() -> Finding:
    absent = [extra for extra in OPTIONAL if not declared(extra) or unmet(declared(extra))]
    installed = [extra for extra in OPTIONAL if extra not in absent]
    lists = ((installed, "installed"), (absent, "not installed"))
    message = "; ".join(f"{', '.join(names)} {words}" for names, words in lists if names)
    return Finding(
        "ok", message, f"only if you want them: pip install 'ncf[{','.join(absent)}]'" if absent else ""
    )


def unmet(requirements: list[Requirement]) -> list[str]:
    """A phrase for each requirement whose package is missing or has another version."""
    wrong = []
    for requirement in requirements:
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} is not {requirement.specifier}")
    return wrong


def declared(extra: str | None) -> list[Requirement]:
    """What the installed ncf requires here for an extra, or without extras for None."""
    requirements = [Requirement(line) for line in metadata.requires("ncf") or ()]
    return [
        requirement
        for requirement in requirements
        if ("extra ==" in str(requirement.marker)) == (extra is not None)
        and (requirement.marker is None or requirement.marker.evaluate({"extra": extra or ""}))
    ]


def _torch() -> Finding:
    import torch

    device = choose_device("auto")
    return Finding(
        "ok", f"{torch.__version__}, device {device}, {choose_threads()} threads of {os.cpu_count()} cores"
    )


def _disk(session: Session) -> Finding:
    folders = {"data": Path("data"), "local mode": session.settings.home, "Docker": docker_checks.root()}
    existing = {name: _existing(path.resolve()) for name, path in folders.items() if path is not None}
    free = {name: shutil.disk_usage(path).free / _GB for name, path in existing.items()}
    message = ", ".join(f"{size:.1f} GB free for {name} ({existing[name]})" for name, size in free.items())
    if min(free.values()) < _LEAST_DISK:
        remedy = "free some space ('docker system prune', old runs/), or set NCF_HOME elsewhere"
        return Finding("problem", message, remedy)
    if min(free.values()) < _GOOD_DISK:
        return Finding(
            "warning", message, "an image takes about 1.3 GB, a data set and its runs as much again"
        )
    return Finding("ok", message)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return path if path.exists() else _existing(path.parent)


def _memory() -> Finding:
    free, total = free_memory() / _GB, psutil.virtual_memory().total / _GB
    message = f"{free:.1f} of {total:.1f} GB free"
    if free < _GOOD_MEMORY:
        return Finding("warning", message, "end other programs: ML-1M and a container want about 2 GB")
    return Finding("ok", message)
