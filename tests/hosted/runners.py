"""Three ways to run what a job or an endpoint asks for: not at all (canned), a function of this process, a container.

All get a `Spec` with a folder laid out as /opt/ml and give back a `Running`. Nothing else in the double knows which.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

HOST = "host.docker.internal"
"""This machine, as containers call it."""
OWNER = "ncf.double"
"""Label of all that is made: the process that ends it."""
HttpReply = tuple[int, bytes, str]
"""Status, body, content type."""


@dataclass
class Spec:
    """What to run."""

    name: str
    """Unique; the container's name."""
    image: str
    root: Path
    """Stands at /opt/ml."""
    command: Sequence[str]
    """`["train"]`, `["serve"]`; or arguments of `entrypoint`."""
    kind: str = "train"
    """train, process or serve."""
    entrypoint: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    host: str = "algo-1"
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Further folders: path in the container -> here."""
    lines: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def log(self, *lines: str) -> None:
        """A line of the log, for functions that stand in for containers."""
        self.lines.extend(lines)


class Running(Protocol):
    """What was started."""

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""

    def stop(self, seconds: int) -> None:
        """SIGTERM, and after so many seconds SIGKILL."""

    def log(self) -> list[str]:
        """All lines so far."""

    def ask(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> HttpReply:
        """One request to a server; raises `OSError` where it does not answer."""

    def end(self) -> None:
        """Remove it."""


class Runner(Protocol):
    """Starts what a spec says."""

    at_once: bool
    """Whether it is over before the call that started it is answered."""

    def start(self, spec: Spec) -> Running: ...

    def network(self, name: str) -> None:
        """Make a network for the hosts of one job."""

    def end(self) -> None:
        """End everything that was started."""


@dataclass
class Inline:
    """A function in a thread of this process, or, without one, a canned artifact and canned answers."""

    run: Callable[[Spec], int | None] | None = None
    serve: Callable[[Path, bytes, Mapping[str, str]], HttpReply] | None = None

    @property
    def at_once(self) -> bool:
        return self.run is None

    def start(self, spec: Spec) -> Running:
        if spec.kind == "serve":
            return InlineRunning(spec, None, self.serve or canned_answer)
        return InlineRunning(spec, self.run or canned_run, None)

    def network(self, name: str) -> None:
        pass

    def end(self) -> None:
        pass


class InlineRunning:
    """One call of the function."""

    def __init__(self, spec: Spec, run: Callable[[Spec], int | None] | None, serve: Any) -> None:
        self.spec, self.serve, self.code = spec, serve, None if run is None else -1
        self.thread = threading.Thread(target=self._work, args=(run,), daemon=True)
        self.finished = threading.Event()
        if run:
            self.thread.start()
            if run is canned_run:
                self.thread.join()

    def _work(self, run: Callable[[Spec], int | None]) -> None:
        try:
            self.code = run(self.spec) or 0
        except Exception:
            self.spec.log(*traceback.format_exc().splitlines())
            self.code = 1
        self.finished.set()

    def poll(self) -> int | None:
        return self.code if self.finished.is_set() else None

    def stop(self, seconds: int) -> None:
        self.spec.stop.set()
        if self.thread.is_alive():
            self.thread.join(seconds)

    def log(self) -> list[str]:
        return list(self.spec.lines)

    def ask(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> HttpReply:
        if path == "/ping":
            return 200, b"", "text/plain"
        reply: HttpReply = self.serve(self.spec.root / "model", body or b"", headers)
        return reply

    def end(self) -> None:
        self.spec.stop.set()


def canned_run(spec: Spec) -> int:
    """An artifact of one file, and a metric line."""
    if spec.kind == "train":
        (spec.root / "model").mkdir(parents=True, exist_ok=True)
        (spec.root / "model" / "canned.txt").write_text("canned", "utf-8")
    spec.log("[ncf] epoch=1 loss=0.25 validation_hr@10=0.8 validation_ndcg@10=0.5 test_ndcg@10=0.45")
    return 0


def canned_answer(model: Path, body: bytes, headers: Mapping[str, str]) -> HttpReply:
    """The body comes back."""
    return 200, body, headers.get("Content-Type", "application/json")


@dataclass
class Docker:
    """Real containers, each ended by its own id."""

    port: int = 8080
    images: Mapping[str, str] = field(default_factory=dict)
    """Image of a request -> image of this machine; else the part after the registry's host is tried."""
    started: list[DockerRunning] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    at_once: bool = False

    def start(self, spec: Spec) -> Running:
        running = DockerRunning(
            docker("run", "--detach", "--no-healthcheck", *_labelled(), *self._arguments(spec)), self.port
        )
        self.started.append(running)
        return running

    def network(self, name: str) -> None:
        docker("network", "create", *_labelled(), name)
        self.networks.append(name)

    def end(self) -> None:
        for running in self.started:
            running.end()
        for network in self.networks:
            docker("network", "rm", network)
        self.networks.clear()

    def tidy(self) -> None:
        """Remove what processes left that were killed."""
        for what, remove in (("ps --all", "rm --force --volumes"), ("network ls", "network rm")):
            listed = f'{{{{.ID}}}} {{{{.Label "{OWNER}"}}}}'
            for line in docker(*what.split(), "--filter", f"label={OWNER}", "--format", listed).splitlines():
                identity, owner = line.split()
                if not Path("/proc", owner).exists():
                    with suppress(RuntimeError):  # another process may be at it as well
                        docker(*remove.split(), identity)

    def _arguments(self, spec: Spec) -> list[str]:
        options = [
            "--add-host",
            f"{HOST}:host-gateway",
            "--name",
            spec.name,
            "--hostname",
            spec.host,
            "--volume",
            f"{spec.root}:/opt/ml",
        ]
        for inside, folder in spec.mounts.items():
            options += ["--volume", f"{folder}:{inside}"]
        for name, value in spec.environment.items():
            options += ["--env", f"{name}={value}"]
        if spec.network:
            options += ["--network", spec.network, "--network-alias", spec.host]
        if spec.entrypoint:
            options += ["--entrypoint", spec.entrypoint[0]]
        return [*options, self._image(spec.image), *spec.entrypoint[1:], *spec.command]

    def _image(self, asked: str) -> str:
        candidates = (self.images.get(asked, asked), asked.partition(".amazonaws.com/")[2])
        for image in filter(None, candidates):
            if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0:
                return image
        raise LookupError(asked)


class DockerRunning:
    """One container."""

    def __init__(self, container: str, port: int) -> None:
        self.container, self.port, self.ended = container, port, False
        self.address = ""
        self.last: list[str] = []

    def poll(self) -> int | None:
        state = self._inspect()["State"]
        return None if state["Status"] in ("created", "running") else int(state["ExitCode"])

    def stop(self, seconds: int) -> None:
        docker("stop", "--time", str(seconds), self.container)

    def log(self) -> list[str]:
        if not self.ended:
            command = ["docker", "logs", self.container]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            said = done.stdout.decode(errors="replace")
            if done.returncode:
                raise RuntimeError(f"docker logs: {said.strip()}")
            self.last = said.splitlines()
        return self.last

    def ask(self, path: str, body: bytes | None, headers: Mapping[str, str]) -> HttpReply:
        if not self.address:
            networks = self._inspect()["NetworkSettings"]["Networks"]
            self.address = next(iter(networks.values()))["IPAddress"]
        if not self.address:
            raise ConnectionError("the container has ended")
        request = urllib.request.Request(f"http://{self.address}:{self.port}{path}", body, dict(headers))
        try:
            with DIRECT.open(request, timeout=60 if body is not None else 2) as answer:
                return answer.status, answer.read(), answer.headers.get("Content-Type", "")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(), error.headers.get("Content-Type", "")

    def end(self) -> None:
        if not self.ended:
            self.log()
            self.ended = True
            docker("rm", "--force", "--volumes", self.container)

    def _inspect(self) -> Any:
        return json.loads(docker("inspect", self.container))[0]


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A machine's proxy has no business with its own containers."""


def _labelled() -> tuple[str, str]:
    return "--label", f"{OWNER}={os.getpid()}"


def docker(*arguments: str) -> str:
    """The output of one docker command; raises `RuntimeError` with what it said."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"docker {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
