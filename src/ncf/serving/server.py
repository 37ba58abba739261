"""`ncf serve`: the app on a port, in one process or several.

The one decision worth knowing: the artifact is verified and a self-test answered before the port is opened,
in the parent and again in every worker, so a server that cannot answer never looks as if it could. Weights
are mapped files: workers share one copy of them. uvicorn's supervisor starts a worker anew when it dies.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import tempfile
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

_SETTINGS = "NCF_SERVE"
_GRACE_SECONDS = 4


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


def serve(settings: ServeSettings) -> None:
    """Serve until SIGTERM or ctrl-C, then finish what was begun, within 5 seconds. Raises `ArtifactError`."""
    if settings.workers < 1:
        raise ConfigError(f"--workers must be at least 1, and not {settings.workers}.")
    _check_port(settings.host, settings.port)
    self_test(Recommender.open(settings.artifact, exact=settings.exact))
    # A model.tar.gz is unpacked once, for all workers.
    settings = replace(settings, artifact=str(locate_artifact(settings.artifact)))
    with tempfile.TemporaryDirectory(prefix="ncf-metrics-") as counts:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = counts
        os.environ[_SETTINGS] = json.dumps(asdict(settings))
        _run(settings)


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
    recommender = Recommender.open(Path(settings.artifact), exact=settings.exact)
    threadpool_limits(1)  # After opening, as a large catalogue's index brings threads of its own.
    self_test(recommender)
    app = create_app(State(recommender, limits, settings.body_seconds, settings.most_waiting))
    # What is loaded now stays: the collector need not go through it again while requests are answered.
    gc.collect()
    gc.freeze()
    return app


def _run(settings: ServeSettings) -> None:
    # uvicorn raises the signal that stopped it once more when it is done; being stopped is no failure here.
    signal.signal(signal.SIGTERM, lambda *_: None)
    uvicorn.run(
        "ncf.serving.server:app_from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        limit_concurrency=settings.connections,
        backlog=settings.connections,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=75,
        access_log=False,
        log_level="warning",
        server_header=False,
        loop="uvloop",
        http="httptools",
        ws="none",
    )
