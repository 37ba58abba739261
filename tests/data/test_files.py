from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.data.files import (
    atomic_file,
    atomic_folder,
    json_text,
    npy_sha256,
    sha256_of,
    storage_errors,
    write_text,
)
from ncf.errors import StorageError


@given(st.sampled_from(["<i4", "<i8", "<f4"]), st.lists(st.integers(0, 5), min_size=1, max_size=2))
def test_npy_sha256_is_that_of_the_file(dtype: str, shape: list[int]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"ncf-test-{os.getpid()}.npy"
    try:
        with path.open("wb") as file:
            np.lib.format.write_array(file, array, version=(1, 0))
        assert npy_sha256(array) == sha256_of(path)
    finally:
        path.unlink(missing_ok=True)


def test_npy_sha256_of_many_pieces_and_of_a_view() -> None:
    array = np.arange(3_000_000, dtype=np.int64)
    assert npy_sha256(array[::2]) == npy_sha256(array[::2].copy())


def test_sha256_of(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5_000_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"x" * 5_000_000).hexdigest()


def test_atomic_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with atomic_file(target) as temporary:
        write_text(temporary, "new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_atomic_file_leaves_the_earlier_one_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def stop() -> None:
        with atomic_file(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_atomic_folder_replaces_the_earlier_one(tmp_path: Path) -> None:
    target = tmp_path / "data"
    for content in ("old", "new"):
        with atomic_folder(target) as temporary:
            write_text(temporary / content, content)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_atomic_folder_has_files_that_others_may_read_as_the_umask_says(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "data") as temporary:
        write_text(temporary / "secretive", "as safetensors writes it")
        (temporary / "secretive").chmod(0o600)
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "data" / "secretive").stat().st_mode & 0o777 == 0o666 & ~umask


def test_atomic_folder_leaves_the_earlier_one_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "data"
    with atomic_folder(target) as temporary:
        write_text(temporary / "old", "old")

    def run_full() -> None:
        with atomic_folder(target) as temporary:
            write_text(temporary / "new", "half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="no space left"):
        run_full()
    assert (target / "old").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "data") as temporary:
        write_text(temporary / "a", "a")
    with atomic_file(tmp_path / "b") as temporary:
        write_text(temporary, "b")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (
            errno.ENOSPC,
            "There is no space left to write out: free some space or choose another place; nothing",
        ),
        (errno.EACCES, "There is no permission to write out: choose another place"),
        (errno.EROFS, "out lies on a read-only file system: choose another place"),
        (errno.EIO, r"out could not be written \(Input/output error\): check the disk"),
    ],
)
def test_errors_of_the_disk_are_sentences(number: int, sentence: str) -> None:
    with pytest.raises(StorageError, match=sentence), storage_errors("out"):
        raise OSError(number, os.strerror(number))


def test_a_file_in_the_path_of_the_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match=r"a part of its path is a file|could not be written"),
        atomic_folder(tmp_path / "file" / "data"),
    ):
        pass


@pytest.mark.parametrize(
    "error",
    [
        OSError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
        OSError("988129 requested and 784352 written"),
        OSError(28, "No space left on device"),
    ],
    ids=["safetensors", "polars", "numpy", "python"],
)
def test_a_full_disk_is_one_sentence_however_a_library_says_it(error: Exception, tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_folder(tmp_path / "out"):
            raise error

    with pytest.raises(StorageError, match="There is no space left to write .*out: free some space"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_errors_that_are_not_of_the_disk_pass() -> None:
    with pytest.raises(KeyError), storage_errors("out"):
        raise KeyError("x")


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed_and_stays(tmp_path: Path, exists: bool) -> None:
    """To a folder or a file elsewhere, such as a larger disk; whatever is there is replaced, not the link."""
    folder, file = tmp_path / "disk" / "folder", tmp_path / "disk" / "file"
    if exists:
        folder.mkdir(parents=True)
        (folder / "old").touch()
        file.touch()
    (tmp_path / "to-folder").symlink_to(folder)
    (tmp_path / "to-file").symlink_to(file)
    with atomic_folder(tmp_path / "to-folder") as temporary:
        write_text(temporary / "new", "content")
    with atomic_file(tmp_path / "to-file") as temporary:
        write_text(temporary, "content")
    assert (tmp_path / "to-folder").is_symlink()
    assert (tmp_path / "to-file").is_symlink()
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert file.read_text() == "content"


def test_json_has_no_nan() -> None:
    document = {"a": [1.5, math.nan, {"b": -math.inf}], "ä": (True, None, "NaN")}
    assert json.loads(json_text(document), parse_constant=pytest.fail) == {
        "a": [1.5, None, {"b": None}], "ä": [True, None, "NaN"],
    }  # fmt: skip
    assert json_text({"ä": 1}, 2, ascii=False) == '{\n  "ä": 1\n}'
