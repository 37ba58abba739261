"""The checks of `ncf doctor` for local mode: Docker's client, its engine, compose, the image; and Docker's
set-up.

The set-up is done by the script `docker-engine` next to this file; a checkout runs the same script for `make
image`.
"""

from __future__ import annotations

import getpass
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from ncf.errors import CloudError, ConfigError
from ncf.sagemaker.account.checks import Check, Finding
from ncf.sagemaker.jobs.images import LOCAL_IMAGE
from ncf.sagemaker.local.docker import docker

FORBIDDEN = "runs, but this user may not use it"
"""The message about an engine that refuses this user."""
SCRIPT = Path(__file__).with_name("docker-engine")
_SECONDS = 8.0
_FIX = "'ncf doctor --fix-local-mode' does it"
_NO_DOCKER = Finding("not checked", "Docker is not installed")


def checks(only_for: str) -> list[Check]:
    """The checks of Docker; `only_for` as in `Check`."""
    looks = (("Docker", client), ("Docker engine", engine), ("compose", compose), ("image", image))
    return [Check(name, look, only_for, 2 * _SECONDS + 1) for name, look in looks]


def client() -> Finding:
    """Check that the program `docker` is installed."""
    path = shutil.which("docker")
    if path is None:
        return Finding("problem", "not installed", f"install Docker: {_FIX}")
    done = docker("--version", timeout=_SECONDS)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["without an error message"])[-1]
        return Finding("problem", f"{path} does not run: {reason}", "install Docker again")
    return Finding("ok", f"{_version(done.stdout)} at {path}")


def engine() -> Finding:
    """Check that the engine runs and that this user may use it."""
    if shutil.which("docker") is None:
        return _NO_DOCKER
    done = docker("version", "--format", "{{.Server.Version}}", timeout=_SECONDS)
    if done.returncode == 0:
        return Finding("ok", f"{done.stdout.strip()} answers")
    reason = done.stderr.lower()
    if "permission denied" in reason:
        remedy = f"join the group: 'sudo usermod -aG docker {getpass.getuser()}', then sign in again"
        return Finding("problem", FORBIDDEN, remedy)
    if "timed out" in reason:
        message = f"does not answer within {_SECONDS:g} s"
        return Finding("problem", message, "restart it: 'sudo systemctl restart docker'")
    return Finding("problem", "does not run", f"start it: 'sudo systemctl start docker', or {_FIX}")


def compose() -> Finding:
    """Check for compose where the SDK looks: the plug-in of version 2 or later, then the program."""
    if shutil.which("docker") is None:
        return _NO_DOCKER
    plugin = docker("compose", "version", timeout=_SECONDS)
    if plugin.returncode == 0 and re.search(r"version\s+v?([2-9]|\d\d)", plugin.stdout):
        return Finding("ok", f"{_version(plugin.stdout)}, as 'docker compose'")
    if path := shutil.which("docker-compose"):
        return Finding("ok", f"at {path}, as 'docker-compose'")
    return Finding(
        "problem", "not installed; local mode starts containers with it", f"install docker-compose: {_FIX}"
    )


def image() -> Finding:
    """Check that ncf's own image was built."""
    if engine().state != "ok":
        return Finding("not checked", "no Docker engine answers")
    done = docker("image", "inspect", "--format", "{{.Size}} {{.Created}}", LOCAL_IMAGE, timeout=_SECONDS)
    if done.returncode != 0:
        remedy = "build it with 'make image' in a checkout of ncf, or name another with --image"
        return Finding("problem", f"{LOCAL_IMAGE} is not there", remedy)
    size, _, created = done.stdout.strip().partition(" ")
    return Finding("ok", f"{LOCAL_IMAGE}, {int(size) / 1e9:.2f} GB, made {created[:10]}")


def root() -> Path | None:
    """The folder in which Docker keeps images; None where the engine does not answer, or runs elsewhere."""
    if shutil.which("docker") is None:
        return None
    done = docker("info", "--format", "{{.DockerRootDir}}", timeout=_SECONDS)
    path = Path(done.stdout.strip())
    return path if done.returncode == 0 and path.is_absolute() and path.exists() else None


def plan() -> list[str]:
    """The commands that would set up Docker here, possibly none; raises `ConfigError` where ncf cannot
    help."""
    done = subprocess.run(["sh", str(SCRIPT), "plan"], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.removeprefix("docker-engine: ").strip()
        raise ConfigError(f"ncf cannot set up Docker here: {reason}")
    return done.stdout.splitlines()


def set_up(command: Sequence[str] = ("sh", str(SCRIPT), "fix")) -> None:
    """Set up Docker, with the output on standard error; raises `CloudError` where that fails."""
    code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, check=False).returncode
    if code:
        raise CloudError(
            f"Docker could not be set up (exit code {code}): see the message above, and try again."
        )


def _version(text: str) -> str:
    number = re.search(r"\d+(\.\d+)+\S*", text)
    return number.group().rstrip(",") if number else text.strip()
