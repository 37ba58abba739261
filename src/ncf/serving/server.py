"""`ncf serve`: the app on a port, in one process or several.

The one decision worth knowing: the artifact is verified and a self-test answered before the port is opened,
in the parent and again in every worker, so a server that cannot answer never looks as if it could. Weights
are mapped files: workers share one copy of them. It is a copy of the server's own, since a mapped file that
somebody overwrites ends the process with SIGBUS.
"""

from __future__ import annotations

import fcntl
import gc
import json
import math
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from threadpoolctl import threadpool_limits

from ncf.errors import ArtifactError, ConfigError
from ncf.serving.api import answer, read
from ncf.serving.artifact import locate_artifact
from ncf.serving.recommender import Recommender
from ncf.serving.schemas import Limits
from ncf.serving.workers import Supervisor, starting

_SETTINGS = "NCF_SERVE"
_GRACE_SECONDS = 4
_SCRATCH = "ncf-serve-"
_OTHER_FILES = 64
"""File descriptors of a process besides its connections."""


@dataclass(frozen=True)
class ServeSettings:
    """How to serve: the artifact, where to listen, how many workers, and the limits of a request."""

    artifact: str
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    exact: bool = False
    body_seconds: float = 10.0
    most_waiting: int = 1024
    connections: int = 2048
    limits: Limits = field(default_factory=Limits)
    explorer: bool = True
    """Whether there is the explorer, which shows the histories of users."""
    own_copy: bool = True
    """Serve a copy of the artifact; leave out where nobody can change it."""

    def check(self) -> None:
        """Raise `ConfigError` for a value that cannot be meant."""
        for option, value in {
            "--workers": self.workers,
            "--max-body": self.limits.body_bytes,
            "--max-users": self.limits.users,
        }.items():
            if value < 1:
                raise ConfigError(f"{option} must be at least 1, and not {value}.")
        if not (math.isfinite(self.body_seconds) and self.body_seconds > 0):
            raise ConfigError(f"--body-timeout must be seconds above 0, and not {self.body_seconds}.")
        if not self.host.strip():
            raise ConfigError("--host is empty: give an address such as 127.0.0.1, or 0.0.0.0 for all.")


def serve(settings: ServeSettings) -> None:
    """Serve until SIGTERM or ctrl-C, then finish what was begun, within 5 seconds.

    Raises `ConfigError` for a bad setting and `ArtifactError` for an artifact that cannot be served.
    """
    settings.check()
    _check_port(settings.host, settings.port)
    self_test(Recommender.open(settings.artifact, exact=settings.exact))
    # A model.tar.gz is unpacked once, for all workers, to where nobody else writes.
    copied = settings.own_copy and Path(settings.artifact).is_dir()
    settings = replace(settings, artifact=str(locate_artifact(settings.artifact)))
    with _scratch() as scratch:
        if copied:
            settings = replace(settings, artifact=str(_own_copy(Path(settings.artifact), scratch)))
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(scratch)
        os.environ[_SETTINGS] = json.dumps(asdict(settings))
        _run(settings, scratch)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for this server, removed at its end. Those of servers that were killed are removed first."""
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with suppress(OSError), _locked(left, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as name, _locked(Path(name), fcntl.LOCK_SH):
        yield Path(name)


@contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    """Hold a lock on `folder`, which also keeps systemd from cleaning it up as old."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


def _own_copy(artifact: Path, scratch: Path) -> Path:
    """A copy of `artifact` below `scratch`; `artifact` itself, with a warning, where there is no room."""
    needed = sum(path.stat().st_size for path in artifact.iterdir())
    if shutil.disk_usage(scratch).free < needed:
        print(
            f"ncf: {scratch.parent} has no room for a copy of {artifact}: do not overwrite its files while "
            "they are served.",
            file=sys.stderr,
        )
        return artifact
    return Path(shutil.copytree(artifact, scratch / "artifact"))


def _check_port(host: str, port: int) -> None:
    """Raise `ConfigError` where the port is taken or the host is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"Cannot listen on {host}:{port} ({error.strerror or error}): use another --port or --host."
            ) from None


def self_test(recommender: Recommender) -> None:
    """Answer one request for a known user and one for a stranger; raises `ArtifactError` where that fails."""
    known = recommender.users.ids_of([0]).tolist() if len(recommender.users) else []
    try:
        for users in (known, [""]):
            answer(recommender, read(json.dumps({"users": users, "k": 1}).encode(), None))
    except Exception as error:
        raise ArtifactError(
            f"The artifact {recommender.artifact.folder} does not answer a self-test ({error}): train again."
        ) from error


def app_from_environment() -> ASGIApp:
    """The app of one worker, from what `serve` left in the environment."""
    from ncf.serving.app import State, create_app

    settings = ServeSettings(**json.loads(os.environ[_SETTINGS]))
    limits = Limits(**settings.limits)  # type: ignore[arg-type]
    with starting(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])):
        recommender = Recommender.open(Path(settings.artifact), exact=settings.exact)
        threadpool_limits(1)  # After opening, as a large catalogue's index brings threads of its own.
        self_test(recommender)
    app = create_app(
        State(recommender, limits, settings.body_seconds, settings.most_waiting, settings.explorer)
    )
    # What is loaded now stays: the collector need not go through it again while requests are answered.
    gc.collect()
    gc.freeze()
    return app


def _run(settings: ServeSettings, scratch: Path) -> None:
    # uvicorn raises the signal that stopped it once more when it is done; being stopped is no failure here.
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = uvicorn.Config(
        "ncf.serving.server:app_from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        limit_concurrency=_possible(settings.connections),
        backlog=settings.connections,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=75,
        access_log=False,
        log_level="warning",
        server_header=False,
        loop="uvloop",
        http="ncf.serving.connections:Connection",
        ws="none",
    )
    with suppress(KeyboardInterrupt):
        if settings.workers > 1:
            Supervisor(config, [config.bind_socket()], scratch).run()
        else:
            uvicorn.Server(config).run()


def _possible(connections: int) -> int:
    """So many connections, or as many as a process may have open at once."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return connections if most < 0 else max(1, min(connections, most - _OTHER_FILES))
