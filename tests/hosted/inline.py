"""Functions in place of containers, and a double that refuses or cuts connections on demand."""

from __future__ import annotations

import socket
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ncf.sagemaker.local import docker, double, logs
from ncf.sagemaker.local.docker import HttpReply
from ncf.sagemaker.local.protocol import Call
from ncf.sagemaker.local.requests import Refusal


@dataclass
class Spec(docker.Spec):
    """What to run, with what a function needs in place of a container."""

    stopped: threading.Event = field(default_factory=threading.Event)

    def log(self, *lines: str) -> None:
        """Write lines of the log."""
        logs.write(self.log_file, *lines)

    @property
    def stop(self) -> threading.Event:
        """Set by SIGTERM."""
        return self.stopped


Run = Callable[[Spec], int | None]
Serve = Callable[[Path, bytes, Mapping[str, str]], HttpReply]


def canned_run(spec: Spec) -> int:
    """Leave an artifact of one file, and a metric line."""
    if spec.kind == "train":
        (spec.root / "model" / "canned.txt").write_text("canned", "utf-8")
    spec.log("[ncf] epoch=1 loss=0.25 validation_hr@10=0.8 validation_ndcg@10=0.5 test_ndcg@10=0.45")
    return 0


def canned_answer(model: Path, body: bytes, headers: Mapping[str, str]) -> HttpReply:
    """The body comes back."""
    return 200, body, headers.get("Content-Type", "application/json")


@dataclass
class Inline:
    """Runs a function for each container; without one jobs are canned, and over at once."""

    run: Run | None = None
    serve: Serve = canned_answer
    unwell: Any = field(default_factory=set)
    """Models whose servers never become healthy."""
    said: list[str] = field(default_factory=list)
    """What servers write into their log when they start."""

    @property
    def at_once(self) -> bool:
        return self.run is None

    def check(self, image: str) -> str:
        return image

    def start(self, spec: docker.Spec) -> docker.Container:
        spec = Spec(**vars(spec))
        for inside, path in spec.mounts.items():
            if inside.startswith("/opt/ml/"):
                link = spec.root / inside.removeprefix("/opt/ml/")
                if link.is_dir():
                    link.rmdir()
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
        return _Server(spec, self) if spec.kind == "serve" else _Job(spec, self.run or canned_run)

    def network(self, name: str, folder: Path) -> None:
        pass

    def clean(self, folder: Path) -> None:
        pass


class _Job:
    """One call of the function."""

    def __init__(self, spec: Spec, run: Run) -> None:
        self.spec, self.code = spec, None
        self.thread = threading.Thread(target=self._work, args=(run,), daemon=True)
        self.thread.start()
        if run is canned_run:
            self.thread.join()

    def _work(self, run: Run) -> None:
        try:
            self.code: int | None = run(self.spec) or 0
        except Exception:
            self.spec.log(*traceback.format_exc().splitlines())
            self.code = 1

    def poll(self) -> int | None:
        return self.code

    def stop(self, seconds: int) -> None:
        self.spec.stopped.set()
        self.thread.join(seconds)

    def end(self) -> None:
        self.spec.stopped.set()


class _Server:
    """A server on the port of the spec."""

    def __init__(self, spec: Spec, runner: Inline) -> None:
        model, serve, healthy = spec.root / "model", runner.serve, spec.host not in runner.unwell
        spec.log(*runner.said)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(200 if healthy else 503, b"", "text/plain")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._send(*serve(model, body, dict(self.headers)))

            def _send(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", spec.port or 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def stop(self, seconds: int) -> None:
        self.code = 0

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass
class Fault:
    """What happens instead of an answer, so many times."""

    operation: str
    refusal: Refusal | None = None
    cut_after: int | None = None
    times: float = 1
    passed: int = 0
    """Requests that still go through before."""

    def meets(self, call: Call) -> bool:
        """Whether the call is one of those."""
        return self.times > 0 and self.operation in ("*", call.operation, f"{call.service}:{call.operation}")


class FaultyDouble(double.Double):
    """The double, with a list of what was asked, faults, and buckets of another account."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.faults: list[Fault] = []
        self.foreign: set[str] = set()
        self.calls: list[Call] = []

    def __call__(self, environ: dict[str, Any], start: double.Start) -> Iterable[bytes]:
        if fault := self._due(double._understood(environ, b""), cuts=True):
            # Read so many bytes and close the connection.
            assert fault.cut_after is not None
            environ["wsgi.input"].read(min(fault.cut_after, int(environ.get("CONTENT_LENGTH") or 0)))
            connection: socket.socket = environ["werkzeug.socket"]
            connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError("cut on demand")
        return super().__call__(environ, start)

    def admit(self, call: Call) -> None:
        with self._lock:
            self.calls.append(call)
        if fault := self._due(call, cuts=False):
            assert fault.refusal
            raise fault.refusal
        super().admit(call)
        if call.service == "s3" and call.path.strip("/").partition("/")[0] in self.foreign:
            raise Refusal("AccessDenied", "Access Denied", 403)

    def _due(self, call: Call, cuts: bool) -> Fault | None:
        if call.key == double.OWN_KEY:
            return None
        with self._lock:
            for fault in self.faults:
                if (fault.cut_after is not None) == cuts and fault.meets(call):
                    if fault.passed > 0:
                        fault.passed -= 1
                        return None
                    fault.times -= 1
                    return fault
        return None
