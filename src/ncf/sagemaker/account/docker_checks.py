"""What `ncf doctor` looks at for local mode: Docker's client, its engine, compose, the image."""

from __future__ import annotations

import getpass
import re
import shutil
from pathlib import Path

from ncf.sagemaker.account.checks import Check, Finding
from ncf.sagemaker.jobs.images import LOCAL_IMAGE
from ncf.sagemaker.local.docker import docker

_SECONDS = 8.0
_FIX = "'ncf doctor --fix-local-mode' does it"


def checks(only_for: str) -> list[Check]:
    """The looks at Docker."""
    looks = (("Docker", client), ("Docker engine", engine), ("compose", compose), ("image", image))
    return [Check(name, look, only_for, 2 * _SECONDS + 1) for name, look in looks]


def client() -> Finding:
    """Whether there is a `docker`."""
    path = shutil.which("docker")
    if path is None:
        return Finding("Docker", "problem", "not installed", f"install Docker: {_FIX}")
    found = docker("--version", timeout=_SECONDS)
    if found.returncode != 0:
        return Finding(
            "Docker", "problem", f"{path} does not run: {_last(found.stderr)}", "install Docker again"
        )
    return Finding("Docker", "ok", f"{_version(found.stdout)} at {path}")


def engine() -> Finding:
    """Whether the engine runs and this user may use it."""
    if shutil.which("docker") is None:
        return Finding("Docker engine", "not checked", "there is no Docker")
    found = docker("version", "--format", "{{.Server.Version}}", timeout=_SECONDS)
    if found.returncode == 0:
        return Finding("Docker engine", "ok", f"{found.stdout.strip()} answers")
    said = found.stderr.lower()
    if "permission denied" in said:
        remedy = f"join the group: 'sudo usermod -aG docker {getpass.getuser()}', then sign in again"
        return Finding("Docker engine", "problem", "runs, but this user may not use it", remedy)
    if "timed out" in said:
        return Finding(
            "Docker engine",
            "problem",
            f"does not answer within {_SECONDS:g} s",
            "restart it: 'sudo systemctl restart docker'",
        )
    return Finding(
        "Docker engine", "problem", "does not run", f"start it: 'sudo systemctl start docker', or {_FIX}"
    )


def compose() -> Finding:
    """As the SDK looks for it: the plug-in of version 2 or later, then the program of its own."""
    if shutil.which("docker") is None:
        return Finding("compose", "not checked", "there is no Docker")
    plugin = docker("compose", "version", timeout=_SECONDS)
    if plugin.returncode == 0 and re.search(r"version\s+v?([2-9]|\d\d)", plugin.stdout):
        return Finding("compose", "ok", f"{_version(plugin.stdout)}, as 'docker compose'")
    path = shutil.which("docker-compose")
    if path is not None:
        return Finding("compose", "ok", f"at {path}, as 'docker-compose'")
    return Finding(
        "compose",
        "problem",
        "not installed; local mode starts containers by it",
        f"install docker-compose: {_FIX}",
    )


def image() -> Finding:
    """Whether ncf's own image was built."""
    if engine().state != "ok":
        return Finding("image", "not checked", "there is no engine to ask")
    found = docker("image", "inspect", "--format", "{{.Size}} {{.Created}}", LOCAL_IMAGE, timeout=_SECONDS)
    if found.returncode != 0:
        return Finding(
            "image",
            "problem",
            f"{LOCAL_IMAGE} is not there",
            "build it with 'make image' in a checkout of ncf, or name another with --image",
        )
    size, _, made = found.stdout.strip().partition(" ")
    return Finding("image", "ok", f"{LOCAL_IMAGE}, {int(size) / 1e9:.2f} GB, made {made[:10]}")


def root() -> Path | None:
    """Docker's folder, where it is on this machine and its engine answers."""
    if shutil.which("docker") is None:
        return None
    found = docker("info", "--format", "{{.DockerRootDir}}", timeout=_SECONDS)
    path = Path(found.stdout.strip())
    return path if found.returncode == 0 and path.is_absolute() and path.exists() else None


def _version(text: str) -> str:
    found = re.search(r"\d+(\.\d+)+\S*", text)
    return found.group().rstrip(",") if found else text.strip()


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no word of why"
