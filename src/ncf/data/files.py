"""Files that are either complete or not there at all.

In: a target path and something that writes. Out: the finished file or folder under its name, or the earlier
one untouched. The decision worth knowing: everything is written to a temporary sibling and renamed at the
end, so a full disk, a kill or an exception never leaves half a result, and every error of the disk becomes
one sentence.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ncf.errors import StorageError

_CHUNK = 1 << 22
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")

_SENTENCES = {
    errno.ENOSPC: "There is no space left to write {target}: free some space or choose another place; "
    "nothing that was there before has been changed.",
    errno.EDQUOT: "The disk quota does not allow writing {target}: free some space or choose another place; "
    "nothing that was there before has been changed.",
    errno.EACCES: "There is no permission to write {target}: choose another place or change its permissions.",
    errno.EPERM: "There is no permission to write {target}: choose another place or change its permissions.",
    errno.EROFS: "{target} lies on a read-only file system: choose another place.",
    errno.ENOTDIR: "{target} cannot be written because a part of its path is a file, not a folder: "
    "choose another place.",
}


def storage_error(error: OSError, target: str | Path) -> StorageError:
    """The sentence for an `OSError` that was met while `target` was written."""
    sentence = _SENTENCES.get(error.errno or 0)
    if sentence is None:
        reason = error.strerror or str(error)
        sentence = f"{{target}} could not be written ({reason}): check the disk or choose another place."
    return StorageError(sentence.format(target=target))


@contextmanager
def storage_errors(target: str | Path) -> Iterator[None]:
    """Turn each error of the disk in the block into a `StorageError` sentence about `target`.

    Libraries written in Rust (polars, safetensors) raise their own types, with the error number in the text.
    NumPy reports a short write, which is what happens on a full disk, without a number.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        match = _OS_ERROR.search(str(error))
        if match or _SHORT_WRITE.search(str(error)):
            number = int(match.group(1)) if match else errno.ENOSPC
            raise storage_error(OSError(number, os.strerror(number)), target) from error
        if isinstance(error, OSError):
            raise storage_error(error, target) from error
        raise


def sha256_of(path: str | Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal, read in pieces of 4 MiB."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def npy_sha256(array: npt.NDArray[Any]) -> str:
    """The sha256 that the `.npy` file of `array` has, without writing it."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    digest = hashlib.sha256(header.getvalue())
    flat = np.ascontiguousarray(array).reshape(-1)
    step = max(1, _CHUNK // max(1, array.itemsize))
    for start in range(0, flat.size, step):
        digest.update(flat[start : start + step].tobytes())
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write and flush to the disk, so that the later rename never outruns the content."""
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def followed(target: str | Path) -> Path:
    """Where `target` leads if it is a symbolic link, so that what is written takes the place of what is there
    and not that of the link; else `target` itself."""
    return Path(os.path.realpath(target)) if Path(target).is_symlink() else Path(target)


def json_text(document: Any, indent: int | None = None, *, ascii: bool = True) -> str:
    """`document` as JSON, which has no NaN and no infinity (RFC 8259): such numbers are null."""
    try:
        return json.dumps(document, indent=indent, ensure_ascii=ascii, allow_nan=False)
    except ValueError:
        return json.dumps(_without_nan(document), indent=indent, ensure_ascii=ascii, allow_nan=False)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def atomic_file(target: str | Path) -> Iterator[Path]:
    """Give a temporary sibling to write; it takes the name `target` when the block ends well."""
    target = followed(target)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o666 & ~umask())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Give an empty temporary sibling to fill; it takes the name `target` when the block ends well.

    A folder of that name is moved aside first and removed last. The caller decides if it may be replaced.
    """
    target = followed(target)
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
        try:
            yield temporary
            temporary.chmod(0o777 & ~umask())
            for file in filter(Path.is_file, temporary.iterdir()):
                file.chmod(0o666 & ~umask())  # safetensors writes files that nobody else may read
            _swap(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(temporary: Path, target: Path) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    target.rename(old / "content")
    try:
        temporary.rename(target)
    except OSError:
        (old / "content").rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def umask() -> int:
    """The mode bits that new files of this process must not have."""
    current = os.umask(0)
    os.umask(current)
    return current
