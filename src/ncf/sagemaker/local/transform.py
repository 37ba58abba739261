"""What the worker of a transform job does: it starts a container as for an endpoint, and sends it the input in pieces.

The SDK's own transform is not used: it does not look at the status of an answer, so that an error's text becomes a row,
and when it fails it leaves its container behind and does not end. Here as on AWS a piece is as many whole lines as the
payload admits (`MultiRecord`), one line (`SingleRecord`), or a whole file; order is kept; any error fails the job.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ncf.data.files import atomic_folder
from ncf.errors import CloudError
from ncf.sagemaker.local import docker, jobs, logs, sdk
from ncf.sagemaker.local.jobs import TRANSFORM
from ncf.sagemaker.local.serving import STARTUP, Serving
from ncf.sagemaker.local.state import Record, Store
from ncf.sagemaker.local.watch import ContainerWatcher

_PAYLOAD = 6
_MEBIBYTE = 2**20


def run_transform(store: Store, record: Record) -> None:
    """From InProgress to Completed, Failed or Stopped."""
    name = record["name"]
    folder = store.folder(TRANSFORM.word, name)
    watch = ContainerWatcher(folder, logs.stream_folder(store.home, TRANSFORM.word, name))
    request = record["request"]
    task = {**record, "port": docker.free_port()}
    try:
        sources = _sources(request["TransformInput"]["DataSource"]["S3DataSource"])
        with Serving(watch, store.region, task, _variables(request), STARTUP) as client:
            jobs.move(store, TRANSFORM.word, name, "InProgress", "Transforming", started=time.time())
            with atomic_folder(folder / "answers") as answers:
                for path, relative in sources:
                    _transform(watch, client, request, path, answers / f"{relative}.out")
        _keep(folder / "answers", request["TransformOutput"]["S3OutputPath"])
        jobs.move(store, TRANSFORM.word, name, "Completed", "Completed")
    except CloudError as error:
        if watch.stopping.is_set():
            jobs.move(store, TRANSFORM.word, name, "Stopped", "Stopped")
        else:
            jobs.move(store, TRANSFORM.word, name, "Failed", "Failed", reason=str(error))


def pieces(path: Path, split: str, strategy: str, most: int) -> Iterator[bytes]:
    """The payloads of a file, of at most `most` bytes; raises `CloudError` for a line that is longer."""
    if split == "None":
        content = path.read_bytes()
        if len(content) > most:
            raise CloudError(f"{path.name} has more bytes than one request may: set SplitType to Line.")
        yield content
        return
    kept: list[bytes] = []
    size = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if len(line) > most:
                raise CloudError(f"Line {number} of {path.name} is longer than MaxPayloadInMB: raise it.")
            if kept and (strategy == "SingleRecord" or size + len(line) > most):
                yield b"".join(kept)
                kept, size = [], 0
            kept.append(line)
            size += len(line)
    if kept:
        yield b"".join(kept)


def _transform(
    watch: ContainerWatcher, client: Any, request: dict[str, Any], source: Path, target: Path
) -> None:
    given, wanted = request["TransformInput"], request["TransformOutput"]
    most = request.get("MaxPayloadInMB", _PAYLOAD) * _MEBIBYTE
    by_line = wanted.get("AssembleWith") == "Line"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for piece in pieces(
            source, given.get("SplitType", "None"), request.get("BatchStrategy", "MultiRecord"), most
        ):
            if watch.stopping.is_set():
                raise CloudError("It was stopped.")
            body = _answer(client, piece, given.get("ContentType"), wanted.get("Accept"), source.name)
            file.write(body + b"\n" if by_line and not body.endswith(b"\n") else body)


def _answer(client: Any, piece: bytes, content: str | None, accept: str | None, name: str) -> bytes:
    from urllib3.exceptions import HTTPError

    try:
        answer = client.invoke_endpoint(piece, "", content, accept)
        body: bytes = answer["Body"].read()
        answer["Body"].release_conn()
    except (HTTPError, OSError) as error:
        raise CloudError(f"The container did not answer a request for {name} ({error}).") from error
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    if status >= 400:
        said = body.decode("utf-8", "replace")[:400]
        raise CloudError(f"The container refused a request for {name} with {status}: {said}")
    return body


def _sources(source: dict[str, str]) -> list[tuple[Path, str]]:
    """The input files, with their names below the prefix."""
    path = sdk.path_of(source["S3Uri"])
    if path is None or source["S3DataType"] != "S3Prefix":
        raise CloudError(
            "Local mode transforms files and folders (S3Prefix, file://): download the input first."
        )
    if path.is_file():
        return [(path, path.name)]
    found = sorted(one for one in path.rglob("*") if one.is_file())
    if not found:
        raise CloudError(f"There is no input at {path}.")
    return [(one, one.relative_to(path).as_posix()) for one in found]


def _variables(request: dict[str, Any]) -> dict[str, str]:
    """What SageMaker sets in the containers of transform jobs."""
    strategy = {"SingleRecord": "SINGLE_RECORD", "MultiRecord": "MULTI_RECORD"}
    return {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(request.get("MaxPayloadInMB", _PAYLOAD)),
        "SAGEMAKER_BATCH_STRATEGY": strategy[request.get("BatchStrategy", "MultiRecord")],
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "1",
        **request.get("Environment", {}),
    }


def _keep(answers: Path, uri: str) -> None:
    target = sdk.path_of(uri)
    if target is None:
        raise CloudError("Local mode writes answers to file:// only.")
    shutil.copytree(answers, target, dirs_exist_ok=True)
    shutil.rmtree(answers)
