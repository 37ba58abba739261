"""What the worker of a deployment does: one container of the SDK's local mode, from its start to its end.

It is healthy when /ping answers within the start-up time; the endpoint then points to it, and the deployment before it is
asked to end, a moment later, so that no request is on its way there. It lives until it is told to end or its container
ends by itself.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncf.errors import CloudError
from ncf.sagemaker.local import docker, endpoints, logs, process, sdk, training
from ncf.sagemaker.local.state import Record, Store
from ncf.sagemaker.local.watch import ContainerWatcher
from ncf.serving.archive import unpack

STARTUP = 180
"""Seconds that a container has to become healthy, where its variant does not say."""
GRACE = 30
"""Seconds that a serving container has to answer what it has accepted."""
_DRAIN = 2.0
_EVERY = 0.3


def run_deployment(store: Store, record: Record) -> None:
    """From Starting to InService, and to its end."""
    folder = store.folder(endpoints.DEPLOYMENT, record["name"])
    watch = ContainerWatcher(folder, logs.stream_folder(store.home, endpoints.DEPLOYMENT, record["endpoint"]))
    startup = record["variant"].get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP)
    try:
        with Serving(watch, store.region, record, {}, startup):
            old = endpoints.healthy(store, record["name"])
            if old:
                time.sleep(_DRAIN)
                process.terminate(store.folder(endpoints.DEPLOYMENT, old))
            while not watch.stopping.wait(_EVERY):
                if watch.one_has_ended():
                    codes = docker.exit_codes(docker.containers(folder))
                    raise CloudError(f"It ran, and then {_lower(training.reason_of(watch, codes))}")
    except CloudError as error:
        endpoints.failed(store, record, str(error))
    else:
        endpoints.ended(store, record)


class Serving:
    """A healthy container for as long as the block lasts; raises `CloudError` where it does not become one."""

    def __init__(
        self, watch: ContainerWatcher, region: str, task: Record, more: Mapping[str, str], startup: float
    ) -> None:
        self.watch = watch
        self.port: int = task["port"]
        self._task = task
        self._more = more
        self._startup = startup
        self._root = watch.folder / "root"
        self._session = sdk.session(self._root, watch.folder, region, self.port, startup + 30)

    def __enter__(self) -> Any:
        try:
            self._start()
        except BaseException:
            self._end(0)
            raise
        return self._session.sagemaker_runtime_client

    def __exit__(self, *_: object) -> None:
        self._end(GRACE)

    def _start(self) -> None:
        container = self._task["container"]
        model = model_folder(container, self.watch.folder / "model")
        thread = self.watch.start(lambda: sdk.serve(self._session, container, model, self._more))
        give_up = time.monotonic() + self._startup
        while thread.is_alive():
            thread.join(_EVERY)
            self.watch.look()
            self._give_up_on(thread, give_up)
        if self.watch.error is not None:
            raise CloudError(self._reason())

    def _give_up_on(self, thread: threading.Thread, give_up: float) -> None:
        if self.watch.stopping.is_set():
            raise CloudError("It was asked to end before it was healthy.")
        if thread.is_alive() and self.watch.one_has_ended():
            raise CloudError(self._reason())
        if thread.is_alive() and (said := sdk.compose_error(self._session)) is not None:
            raise CloudError(self._reason(said))
        if time.monotonic() > give_up:
            said = logs.tail(self.watch.logs) or "it wrote nothing"
            raise CloudError(f"The container did not answer /ping within {self._startup:.0f} s: {said}")

    def _reason(self, compose: str = "") -> str:
        self.watch.look()
        self.watch.drain(2)
        ran = [one for one in docker.containers(self.watch.folder) if one.state != "created"]
        if "already allocated" in compose or "address already in use" in compose:
            return f"Port {self.port} is taken by another program: deploy again, or set {endpoints.PORT} to a free one."
        if compose and not ran:
            return f"The container could not be started: {compose}"
        return training.reason_of(self.watch, docker.exit_codes(ran))

    def _end(self, grace: int) -> None:
        docker.stop(docker.containers(self.watch.folder), grace)
        self.watch.drain()
        docker.remove(self.watch.folder)
        docker.take_over([self._root, self.watch.folder / "model"], self._task["image"])
        shutil.rmtree(self._root, ignore_errors=True)


def model_folder(container: Mapping[str, Any], target: Path) -> str:
    """The address of the model for the SDK: a folder with nothing else in it; archives are unpacked here.

    The SDK unpacks an archive where it lies, among what else is there, and mounts the whole.
    """
    source = container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri")
    uri = container.get("ModelDataUrl") or source
    if not uri:
        target.mkdir(parents=True, exist_ok=True)
        return f"file://{target}"
    path = sdk.path_of(uri)
    if path is None:
        return str(uri)
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
    elif path.is_file():
        unpack(path, target)
    else:
        raise CloudError(f"The model is not there: {path}.")
    return f"file://{target}"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
