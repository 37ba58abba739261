"""AWS's serving stack without Docker: start it on a model, wait until it answers, stop it and all its
processes.

In: a virtual environment of `scripts/install-torchserve` and a model.tar.gz with `code/`. Out: TorchServe
under the toolkit of AWS's PyTorch inference images, on a free port of 127.0.0.1. Used by the tests and by
`serving.py`.

What runs is `sagemaker_pytorch_serving_container.serving.main()`, told by environment variables where its
folders and ports are. Two of its habits are changed, so that it needs no root and several may run: its
configuration is written into the folder of this stack, and the server that it waits for is looked for among
its own processes.
"""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ncf.serving.archive import unpack

START_SECONDS = 180.0
_STOP_SECONDS = 15.0
_MAIN = """
import os, sys
import psutil
from sagemaker_pytorch_serving_container import serving, torchserve

everything = psutil.process_iter
psutil.process_iter = lambda: (one for one in everything() if os.getsid(one.pid) == os.getsid(0))
torchserve.TS_CONFIG_FILE = sys.argv[1]
serving.main()
"""


@dataclass(frozen=True)
class Stack:
    """A running stack: where it listens, its process group, its log, and how long it took until it
    answered."""

    port: int
    group: int
    log: Path
    start_seconds: float


@contextmanager
def torchserve(
    environment: Path, model: Path, *, workers: int = 1, variables: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """The stack on `model` while the block runs. Raises `RuntimeError` where it does not come up."""
    if not (environment / "bin" / "torchserve").is_file() or shutil.which("java") is None:
        raise RuntimeError(
            f"{environment} has no TorchServe, or there is no Java: run scripts/install-torchserve "
            f"{environment}"
        )
    with tempfile.TemporaryDirectory(prefix="ts-") as name:
        folder = Path(name)
        unpack(model, folder / "model")
        (folder / "tmp").mkdir()
        ports = free_ports(4)
        log = folder / "log"
        command = [str(environment / "bin" / "python"), "-c", _MAIN, str(folder / "ts.properties")]
        settings = {**os.environ, **_settings(folder, environment, ports, workers), **(variables or {})}
        began = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=folder, env=settings, stdout=output, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        try:
            wait_for_ping(ports[0], process, log)
            yield Stack(ports[0], process.pid, log, time.perf_counter() - began)
        finally:
            stop_group(process)


def _settings(folder: Path, environment: Path, ports: list[int], workers: int) -> dict[str, str]:
    """Where everything is; the container's own values are /opt/ml and port 8080."""
    address = f"http://127.0.0.1:{ports[0]}"
    return {
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(environment),
        "SAGEMAKER_BASE_DIR": str(folder),
        "SAGEMAKER_PROGRAM": "inference.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": str(folder / "model" / "code"),
        "SAGEMAKER_REGION": "us-east-1",
        "SAGEMAKER_BIND_TO_PORT": str(ports[0]),
        "SAGEMAKER_MODEL_SERVER_WORKERS": str(workers),
        "TS_INFERENCE_ADDRESS": address,
        "TS_MANAGEMENT_ADDRESS": address,
        "TS_METRICS_ADDRESS": f"http://127.0.0.1:{ports[1]}",
        "TS_GRPC_INFERENCE_PORT": str(ports[2]),
        "TS_GRPC_MANAGEMENT_PORT": str(ports[3]),
        "TS_DISABLE_TOKEN_AUTHORIZATION": "true",
        "TMPDIR": str(folder / "tmp"),
        "TEMP": str(folder / "tmp"),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def wait_for_ping(
    port: int, process: subprocess.Popen[bytes], log: Path, seconds: float = START_SECONDS
) -> None:
    """Until GET /ping is 200. Raises `RuntimeError` with the end of the log."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            if get(port, "/ping")[0] == 200:
                return
        time.sleep(0.02)
    told = log.read_text("utf-8", "replace")[-4000:]
    raise RuntimeError(f"The server has not come up in {seconds:g} seconds, or has ended:\n{told}")


def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def post(port: int, body: bytes) -> tuple[int, bytes]:
    """Status and body of a JSON request to /invocations."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the process and every process that it started, SIGKILL to what is left after a while."""
    for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        until = time.monotonic() + seconds
        while members(process.pid) and time.monotonic() < until:
            process.poll()
            time.sleep(0.05)
    process.wait(_STOP_SECONDS)


def members(group: int) -> list[int]:
    """Process ids of a group, those that have ended and were not yet waited for left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = path.read_text("utf-8").rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found
