"""The few commands that are given to Docker directly, and what is wrong with it in one sentence.

Containers are found by a label, the folder of the worker that they belong to, which the SDK's compose file gives them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ncf.errors import CloudError

LABEL = "ncf.folder"
NETWORK = "sagemaker-local"
"""The SDK's network; containers of all jobs are on it."""
_NAME = re.compile(r"(algo-\d+-\w+)$")


@dataclass(frozen=True)
class Container:
    """One container of a worker."""

    id: str
    name: str
    state: str
    """`created`, `running`, `exited`, …"""

    @property
    def host(self) -> str:
        """`algo-1-x7k2p`, as the program in it sees itself."""
        found = _NAME.search(self.name)
        return found.group(1) if found else self.name


def check_docker() -> None:
    """Raise `CloudError` where local mode cannot work: no client, no engine, no compose."""
    if shutil.which("docker") is None:
        raise CloudError("Docker is not installed: 'ncf doctor --fix-local-mode' installs it.", "NoDocker")
    if docker("version", "--format", "{{.Server.Version}}").returncode != 0:
        raise CloudError(
            "Docker is not running, or this user may not use it: start it ('sudo systemctl start docker', "
            "or 'ncf doctor --fix-local-mode'), or join the group docker.",
            "NoDocker",
        )
    if docker("compose", "version").returncode != 0 and shutil.which("docker-compose") is None:
        raise CloudError(
            "Docker has no compose, which SageMaker's local mode needs: 'ncf doctor --fix-local-mode' installs it.",
            "NoCompose",
        )


def check_image(image: str) -> None:
    """Raise `CloudError` for an image that is not here; those of ECR are fetched."""
    if ".dkr.ecr." not in image and docker("image", "inspect", image).returncode != 0:
        raise CloudError(
            f"There is no image {image!r} on this machine: 'make image' builds ncf's own, 'docker pull' fetches others.",
            "NoImage",
        )


def docker(*arguments: str, timeout: float | None = 60) -> subprocess.CompletedProcess[str]:
    """Run one command; its exit code and what it said."""
    try:
        return subprocess.run(
            ["docker", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
            errors="replace", check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(arguments, 1, "", str(error))


def containers(folder: Path) -> list[Container]:
    """All containers of a worker's folder, ended ones too, in the order of their names."""
    said = docker(
        "ps", "--all", "--no-trunc", "--filter", f"label={LABEL}={folder}",
        "--format", "{{.ID}} {{.Names}} {{.State}}",
    ).stdout  # fmt: skip
    found = [Container(*line.split()) for line in said.splitlines() if len(line.split()) == 3]
    return sorted(found, key=lambda one: one.host)


def stop(found: Sequence[Container], seconds: int) -> None:
    """SIGTERM to those that run; what has not ended in time is killed."""
    running = [one.id for one in found if one.state == "running"]
    if running:
        docker("stop", "--time", str(seconds), *running, timeout=seconds + 60)


def remove(folder: Path) -> None:
    """Kill and remove all containers of a folder."""
    if found := containers(folder):
        docker("rm", "--force", "--volumes", *(one.id for one in found))


def exit_codes(found: Sequence[Container]) -> list[int]:
    """How the containers ended."""
    if not found:
        return []
    said = docker("inspect", "--format", "{{.State.ExitCode}}", *(one.id for one in found)).stdout
    return [int(line) for line in said.split()]


def entrypoint(image: str) -> list[str]:
    """The program that an image starts with, or an empty list."""
    said = docker("image", "inspect", "--format", "{{json .Config.Entrypoint}}", image).stdout
    return list(json.loads(said or "null") or ())


def ensure_network() -> None:
    """Make the SDK's network beforehand: two jobs that start at once would make it twice."""
    if docker("network", "inspect", NETWORK).returncode != 0:
        labels = (f"com.docker.compose.network={NETWORK}", f"com.docker.compose.project={NETWORK}")
        docker("network", "create", *(word for label in labels for word in ("--label", label)), NETWORK)


def take_over(folders: Sequence[Path], image: str, owner: int | None = None) -> None:
    """Give the user what containers have written as root, so that it can be read, resumed and removed."""
    user = os.getuid() if owner is None else owner
    there = [folder for folder in folders if folder.is_dir()]
    if user == 0 or not there:
        return
    mounts = [word for n, folder in enumerate(there) for word in ("--volume", f"{folder}:/mnt/{n}")]
    docker(
        "run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "chown", *mounts, image,
        "--recursive", f"{user}:{os.getgid()}", "/mnt", timeout=600,
    )  # fmt: skip


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def port_is_free(port: int) -> bool:
    """Whether a container could listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
