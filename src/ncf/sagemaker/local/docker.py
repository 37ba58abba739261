"""Containers of jobs and endpoints, run by the `docker` command, and what Docker lacks in one sentence each.

In: a `Spec` with a folder laid out as /opt/ml. Out: a `Container` that can be watched, asked, stopped and
removed. Every container and network has two labels: the folder of its worker, by which a later command finds
what a dead worker left, and the number of the process that started it.
"""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ncf.errors import CloudError

FOLDER_LABEL, OWNER_LABEL = "ncf.folder", "ncf.owner"
HOST = "host.docker.internal"
"""This machine, as containers call it."""
HttpReply = tuple[int, bytes, str]
"""Status, body and content type."""
_PORT = 8080
# A proxy of this machine must not be asked for containers on it.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Spec:
    """What to run."""

    name: str
    """Unique; the container's name."""
    kind: str
    """`train`, `process` or `serve`."""
    image: str
    root: Path
    """The folder that the container sees as /opt/ml."""
    log_file: Path
    """Where its output goes, each line after its time."""
    folder: Path
    """Of the worker; the label of all that is started."""
    command: Sequence[str] = ()
    """Arguments of the entry point."""
    entrypoint: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Further files and folders: path in the container -> path here."""
    host: str = "algo-1"
    network: str | None = None
    gpus: bool = False
    port: int | None = None
    """The port of this machine that leads to port 8080 of a server."""


class Container(Protocol):
    """What was started."""

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""

    def stop(self, seconds: int) -> None:
        """Send SIGTERM; what has not ended after so many seconds is killed."""

    def end(self) -> None:
        """Remove it; its log is complete then."""


class Runner(Protocol):
    """Starts what a spec says."""

    at_once: bool
    """Whether a call returns only when what it started has ended; for tests."""

    def check(self, image: str) -> str:
        """The image of this machine for the image of a request; raises `CloudError` where there is none."""

    def start(self, spec: Spec) -> Container:
        """Start one container."""

    def network(self, name: str, folder: Path) -> None:
        """Make a network for the hosts of one job."""

    def clean(self, folder: Path) -> None:
        """Remove all containers and networks of a worker's folder."""


def ask(port: int, path: str, body: bytes | None, headers: Mapping[str, str]) -> HttpReply:
    """One request to a server on this machine; raises `OSError` where nobody answers."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, dict(headers))
    try:
        with _DIRECT.open(request, timeout=60 if body is not None else 2) as answer:
            return answer.status, answer.read(), answer.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers.get("Content-Type", "")
    except http.client.HTTPException as error:
        # It ended in the middle of an answer.
        raise ConnectionError(str(error)) from error


@dataclass
class DockerRunner:
    """Real containers."""

    images: Mapping[str, str] = field(default_factory=dict)
    """Image of a request -> image of this machine, where they differ."""
    default: str | None = None
    """Image for requests whose own is not here."""
    strict: bool = True
    """Whether a missing image is refused before anything starts, as local mode does; AWS fails the job
    instead.
    """
    at_once: bool = False

    def check(self, image: str) -> str:
        if self.strict:
            check_docker()
        candidates = (self.images.get(image, image), image.partition(".amazonaws.com/")[2], self.default)
        for candidate in filter(None, candidates):
            if docker("image", "inspect", candidate).returncode == 0:
                return candidate
        if ".dkr.ecr." in image and self.strict:
            return image  # 'docker run' pulls it
        raise CloudError(
            f"There is no image {image!r} on this machine: 'make image' builds ncf's own, 'docker pull' "
            f"fetches others.",
            "NoImage",
        )

    def start(self, spec: Spec) -> Container:
        options = [
            "--add-host", f"{HOST}:host-gateway", "--no-healthcheck", "--name", spec.name, "--hostname",
            spec.host,
            "--volume", f"{spec.root}:/opt/ml", *_labels(spec.folder),
        ]  # fmt: skip
        for inside, path in spec.mounts.items():
            options += ["--volume", f"{path}:{inside}"]
        for name, value in spec.environment.items():
            options += ["--env", f"{name}={value}"]
        if spec.network:
            options += ["--network", spec.network, "--network-alias", spec.host]
        if spec.port is not None:
            options += ["--publish", f"127.0.0.1:{spec.port}:{_PORT}"]
        if spec.gpus:
            options += ["--gpus", "all"]
        if spec.entrypoint:
            options += ["--entrypoint", spec.entrypoint[0]]
        words = [*spec.entrypoint[1:], *spec.command]
        done = docker("run", "--detach", *options, self.check(spec.image), *words, timeout=None)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[0] if done.stderr.strip() else "Docker gave no reason"
            if "already allocated" in done.stderr or "address already in use" in done.stderr:
                raise CloudError(
                    f"Port {spec.port} is taken by another program: deploy again, or set NCF_LOCAL_PORT to a "
                    "free one."
                )
            raise CloudError(f"The container could not be started: {reason}")
        return DockerContainer(done.stdout.strip(), spec)

    def network(self, name: str, folder: Path) -> None:
        docker("network", "create", *_labels(folder), name)

    def clean(self, folder: Path) -> None:
        remove(f"{FOLDER_LABEL}={folder}")


class DockerContainer:
    """One container, whose log is written to a file by `docker logs`."""

    def __init__(self, identity: str, spec: Spec) -> None:
        self.identity = identity
        self._spec = spec
        self._code: int | None = None
        spec.log_file.parent.mkdir(parents=True, exist_ok=True)
        with spec.log_file.open("ab") as file:
            command = ["docker", "logs", "--follow", "--timestamps", identity]
            self._log = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)

    def poll(self) -> int | None:
        # The log ends with the container, so Docker is asked once only.
        if self._code is None and self._log.poll() is not None:
            done = docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", self.identity)
            status, _, code = done.stdout.strip().partition(" ")
            if status not in ("created", "running"):
                self._code = int(code) if code else 137
        return self._code

    def stop(self, seconds: int) -> None:
        docker("stop", "--time", str(seconds), self.identity, timeout=seconds + 60)

    def end(self) -> None:
        docker("rm", "--force", "--volumes", self.identity)
        try:
            self._log.wait(10)
        except subprocess.TimeoutExpired:
            self._log.kill()
            self._log.wait()
        # A last line without its end would not be read.
        with self._spec.log_file.open("rb+") as file:
            if file.seek(0, 2) and file.seek(-1, 2) and file.read(1) != b"\n":
                file.write(b"\n")


def check_docker() -> None:
    """Raise `CloudError` where containers cannot be run: no client, no engine."""
    if shutil.which("docker") is None:
        raise CloudError("Docker is not installed: 'ncf doctor --fix-local-mode' installs it.", "NoDocker")
    if docker("version", "--format", "{{.Server.Version}}").returncode != 0:
        raise CloudError(
            "Docker is not running, or this user may not use it: start it ('sudo systemctl start docker', "
            "or 'ncf doctor --fix-local-mode'), or join the group docker.",
            "NoDocker",
        )


def docker(*arguments: str, timeout: float | None = 60) -> subprocess.CompletedProcess[str]:
    """Run one command of Docker; a command that cannot run or takes too long has the exit code 1."""
    try:
        return subprocess.run(
            ["docker", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
            errors="replace", check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(arguments, 1, "", str(error))


def remove(label: str) -> None:
    """Remove all containers and networks with a label."""
    for listed, command in (("ps --all", "rm --force --volumes"), ("network ls", "network rm")):
        done = docker(*listed.split(), "--no-trunc", "--quiet", "--filter", f"label={label}")
        if identities := done.stdout.split():
            docker(*command.split(), *identities)


def tidy() -> None:
    """Remove what processes of `ncf sagemaker double` left that were killed."""
    for listed in ("ps --all", "network ls"):
        form = f'{{{{.Label "{OWNER_LABEL}"}}}} {{{{.Label "{FOLDER_LABEL}"}}}}'
        done = docker(*listed.split(), "--filter", f"label={OWNER_LABEL}", "--format", form)
        for line in set(done.stdout.splitlines()):
            owner, _, folder = line.partition(" ")
            if "ncf-double-" in folder and not Path("/proc", owner).exists():
                remove(f"{OWNER_LABEL}={owner}")


def take_over(folders: Sequence[Path], image: str, owner: int | None = None) -> None:
    """Make this user the owner of what containers wrote as root, so that it can be read and removed."""
    user = os.getuid() if owner is None else owner
    existing = [folder for folder in folders if folder.is_dir()]
    if user == 0 or not existing:
        return
    mounts = [word for n, folder in enumerate(existing) for word in ("--volume", f"{folder}:/mnt/{n}")]
    docker(
        "run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "chown", *mounts, image,
        "--recursive", f"{user}:{os.getgid()}", "/mnt", timeout=600,
    )  # fmt: skip


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serving_port() -> int:
    """The port of NCF_LOCAL_PORT, or a free one; raises `CloudError` where it is taken."""
    wanted = os.environ.get("NCF_LOCAL_PORT", "")
    if not wanted.isdigit():
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(wanted)))
        except OSError:
            raise CloudError(
                f"Port {wanted} is taken by another program: set NCF_LOCAL_PORT to another one, or leave it "
                f"out to get "
                "a free one.",
                "PortTaken",
            ) from None
    return int(wanted)


def answers_ping(port: int) -> bool:
    """Whether a server answers /ping with 200."""
    with suppress(OSError):
        return ask(port, "/ping", None, {})[0] == 200
    return False


def _labels(folder: Path) -> list[str]:
    return ["--label", f"{FOLDER_LABEL}={folder}", "--label", f"{OWNER_LABEL}={os.getpid()}"]
