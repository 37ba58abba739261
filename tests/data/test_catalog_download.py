"""The downloader against a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from ncf.data.catalog import fetch
from ncf.errors import DataError, StorageError

BODY = bytes(range(256)) * 4_000
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """/good, /slow, /short (ends before the announced length), /plain (no length), anything else: 404."""

    requests: ClassVar[Counter[str]] = Counter()
    asked: ClassVar = threading.Event()

    def do_GET(self) -> None:
        Handler.requests[self.path] += 1
        if self.path not in ("/good", "/slow", "/short", "/plain"):
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/plain":
            self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        Handler.asked.set()
        if self.path == "/slow":
            time.sleep(0.5)
        self.wfile.write(BODY[:1000] if self.path == "/short" else BODY)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.requests.clear()
    Handler.asked.clear()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_verified_file_with_progress(server: str, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    target = tmp_path / "cache" / "file"
    path = fetch(f"{server}/good", target, SHA256, lambda *state: seen.append(state))
    assert path.read_bytes() == BODY
    assert seen[-1] == ("good", len(BODY), len(BODY))
    assert [received for _, received, _ in seen] == sorted(received for _, received, _ in seen)
    assert left_over(target.parent) == ["file"]


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_a_file_that_is_there_is_not_fetched_again(server: str, tmp_path: Path, sha256: str | None) -> None:
    for _ in range(2):
        fetch(f"{server}/good", tmp_path / "file", sha256)
    assert Handler.requests["/good"] == 1


def test_a_damaged_copy_is_fetched_again(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BODY[:-1] + b"x")
    fetch(f"{server}/good", tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == BODY


def test_without_an_announced_length(server: str, tmp_path: Path) -> None:
    assert fetch(f"{server}/plain", tmp_path / "file", sha256=SHA256).read_bytes() == BODY


def test_another_file_is_refused(server: str, tmp_path: Path) -> None:
    sentence = r"is not the known one \(its sha256 is not the recorded one\), so it was not kept.*--source"
    with pytest.raises(DataError, match=sentence):
        fetch(f"{server}/good", tmp_path / "file", "0" * 64)
    assert left_over(tmp_path) == []


def test_a_downloaded_file_is_not_for_its_owner_alone(server: str, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    path = fetch(f"{server}/good", tmp_path / "file", SHA256)
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_transfer_that_breaks_off(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(DataError, match=r"could not be downloaded \(the transfer .*--source"):
        fetch(f"{server}/short", tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert left_over(tmp_path) == ["file"]


@pytest.mark.parametrize("address", ["/nothing", None])
def test_no_such_file_and_no_server(server: str, tmp_path: Path, address: str | None) -> None:
    url = "http://127.0.0.1:9/file" if address is None else server + address
    with pytest.raises(
        DataError, match=r"could not be downloaded \(.*\): try again, or fetch the file by other means"
    ):
        fetch(url, tmp_path / "file", timeout=5)
    assert left_over(tmp_path) == []


def test_two_processes_download_once(server: str, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=fetch, args=(f"{server}/slow", tmp_path / "file", SHA256))
    other.start()
    assert Handler.asked.wait(60)
    fetch(f"{server}/slow", tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == BODY
    other.join(30)
    assert other.exitcode == 0
    assert Handler.requests["/slow"] == 1


def test_a_lock_that_is_never_released(server: str, tmp_path: Path) -> None:
    from filelock import FileLock

    with (
        FileLock(tmp_path / "file.lock"),
        pytest.raises(DataError, match=r"Another process has been downloading file for a long time: end it"),
    ):
        fetch(f"{server}/good", tmp_path / "file", lock_timeout=0.05)


def test_a_cache_that_cannot_be_written(server: str, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match="could not be written"):
        fetch(f"{server}/good", tmp_path / "cache" / "file")
