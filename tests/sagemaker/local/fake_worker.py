"""A worker without containers. A job goes on until SIGTERM, or is completed at once if its name has `quick` in it or there
is a file of that name in the folder of local mode. Executions of pipelines are run as they are, with such jobs.

A deployment answers with what it was sent, or with the status that the body names (`status 503`); one whose model has
the variable BROKEN fails.
"""

import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ncf.sagemaker.local import endpoints, jobs, logs, pipeline_run, pipelines, process
from ncf.sagemaker.local.state import Record, Store
from ncf.sagemaker.local.watch import STOPPING, heed_signals

LINE = "2026-11-24T10:00:01.250000000Z [ncf] epoch=1 loss=0.5\n2026-11-24T10:00:02Z [ncf] epoch=2 loss=0.25\n"


class Echo(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(body.split()[1]) if body.startswith(b"status ") else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", self.headers["Content-Type"] or "text/plain")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def main(home: str, region: str, kind: str, name: str, lock: str) -> None:
    heed_signals()
    process.detach(int(lock))
    store = Store(Path(home), region)
    with store.locked():
        record = store.read(kind, name)
    assert record is not None
    runs = {endpoints.DEPLOYMENT: deployment, pipelines.EXECUTION: execution}
    runs.get(kind, job)(store, record)
    os._exit(0)


def job(store: Store, record: Record) -> None:
    kind, name = record["kind"], record["name"]
    folder = logs.stream_folder(store.home, kind, name)
    folder.mkdir(parents=True)
    (folder / "algo-1-fake1.log").write_text(LINE)
    jobs.move(store, kind, name, "InProgress", "Training", started=time.time())
    if "quick" in name or (store.home / "quick").exists():
        jobs.move(store, kind, name, "Completed", "Completed", artifact="file:///somewhere/model.tar.gz")
        return
    STOPPING.wait(120)
    jobs.move(store, kind, name, "Stopped", "Stopped")


def execution(store: Store, record: Record) -> None:
    process._COMMAND = (sys.executable, "-P", __file__)
    pipeline_run.run_execution(store, record)


def deployment(store: Store, record: Record) -> None:
    if "BROKEN" in record["container"].get("Environment", {}):
        endpoints.failed(store, record, "it is broken")
        return
    server = ThreadingHTTPServer(("127.0.0.1", record["port"]), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    old = endpoints.healthy(store, record["name"])
    if old:
        process.terminate(store.folder(endpoints.DEPLOYMENT, old))
    STOPPING.wait(120)
    server.shutdown()
    endpoints.ended(store, record)


if __name__ == "__main__":
    main(*sys.argv[1:])
