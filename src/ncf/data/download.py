"""Fetch one public file, once, whole.

In: an address, a target, and what is known of the file (size, sha256). Out: the verified file under its name.
The decision worth knowing: a lock beside the target lets several processes ask at once; the first downloads,
the others wait and find the file there. Nothing gets the name before it has been verified.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from ncf.data.files import atomic_file, sha256_of, storage_errors
from ncf.errors import DataError, NcfError

Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes so far, and all bytes if known."""

_CHUNK = 1 << 18


def fetch(
    url: str,
    target: Path,
    size: int | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
    timeout: float = 30.0,
    lock_timeout: float = 1800.0,
) -> Path:
    """Download `url` to `target` unless a verified copy is there. `size`, `sha256`: None if not known."""
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{target}.lock", timeout=lock_timeout):
            if not _is_whole(target, size, sha256):
                _download(url, target, size, sha256, progress, timeout)
    except Timeout as error:
        raise DataError(
            f"Another process has been downloading {target.name} for a long time: "
            f"end it, or remove {target}.lock."
        ) from error
    return target


def _is_whole(target: Path, size: int | None, sha256: str | None) -> bool:
    if not target.is_file():
        return False
    if size is not None and target.stat().st_size != size:
        return False
    return sha256 is None or sha256_of(target) == sha256


def _download(
    url: str, target: Path, size: int | None, sha256: str | None, progress: Progress | None, timeout: float
) -> None:
    digest = hashlib.sha256()
    with atomic_file(target) as temporary:
        with temporary.open("wb") as file:

            def write(piece: bytes) -> None:
                file.write(piece)
                digest.update(piece)

            received = _transfer(url, write, progress, timeout)
        if size is not None and received != size:
            raise DataError(_refused(url, f"it has {received:,} bytes and not {size:,}"))
        if sha256 is not None and digest.hexdigest() != sha256:
            raise DataError(_refused(url, "its sha256 is not the recorded one"))


def _transfer(url: str, write: Callable[[bytes], object], progress: Progress | None, timeout: float) -> int:
    """Pass the body on, piece by piece; the number of bytes."""
    received, name = 0, url.rsplit("/", 1)[-1]
    request = urllib.request.Request(url, headers={"User-Agent": "ncf"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            announced = response.headers.get("Content-Length")
            total = int(announced) if announced else None
            while piece := _read(response, url):
                write(piece)
                received += len(piece)
                if progress is not None:
                    progress(name, received, total)
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(_failed(url, f"the server answered {error.code}")) from error
    except urllib.error.URLError as error:
        raise DataError(_failed(url, str(error.reason))) from error
    except (ValueError, http.client.HTTPException, TimeoutError) as error:
        raise DataError(_failed(url, str(error))) from error
    if total is not None and received != total:
        raise DataError(_failed(url, f"the transfer ended after {received:,} of {total:,} bytes"))
    return received


def _read(response: http.client.HTTPResponse, url: str) -> bytes:
    """One piece. What goes wrong on the network is told apart here from what goes wrong on the disk."""
    try:
        return response.read(_CHUNK)
    except NcfError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise DataError(_failed(url, f"the transfer broke off: {error}")) from error


def _failed(url: str, reason: str) -> str:
    return (
        f"{url} could not be downloaded ({reason}): try again, or fetch the file by other "
        "means and give its folder with --source."
    )


def _refused(url: str, reason: str) -> str:
    return (
        f"The file at {url} is not the known one ({reason}), so it was not kept: fetch the right one "
        "by other means and give its folder with --source."
    )
