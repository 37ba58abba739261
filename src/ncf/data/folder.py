"""A prepared folder on the disk: arrays, tables, and a document that says what must be in them.

In: named arrays (`.npy`) and tables (`.parquet`) with a document. Out: the same, arrays mapped. The decision
worth knowing: opening checks the size of every file, but the sha256 only of files below 64 MB, so that 100
million interactions open in a moment; `verify="full"` reads every byte.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data.files import atomic_folder, json_text, npy_sha256, sha256_of, write_text
from ncf.errors import DataError, StorageError

SCHEMA_VERSION = 1
DESCRIPTION_FILE = "dataset.json"
SMALL_FILE = 64 * 1024 * 1024

Array = npt.NDArray[Any]
Verify = bool | Literal["full"]


def write_folder(
    target: Path, arrays: Mapping[str, Array], tables: Mapping[str, pl.DataFrame], document: dict[str, Any]
) -> None:
    """Write the folder `target`, atomically. A prepared folder is replaced; one with other files is refused.

    `arrays`, `tables`: by file name. `document` gets `schema_version` and `files` (bytes and sha256 of each)
    added.
    """
    refuse_foreign(target)
    with atomic_folder(target) as temporary:
        hashes = {name: npy_sha256(array) for name, array in arrays.items()}
        for name, array in arrays.items():
            write_array(temporary / name, array)
        seal(temporary, hashes, tables, document)


def seal(
    folder: Path, hashes: dict[str, str], tables: Mapping[str, pl.DataFrame], document: dict[str, Any]
) -> None:
    """Write tables and document beside the arrays, whose sha256 are `hashes` by file name."""
    for name, table in tables.items():
        table.write_parquet(folder / name)
        hashes = {**hashes, name: sha256_of(folder / name)}
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256}
        for name, sha256 in sorted(hashes.items())
    }
    complete = {"schema_version": SCHEMA_VERSION, **document, "files": files}
    text = json_text(complete, 2, ascii=False)
    write_text(folder / DESCRIPTION_FILE, f"{text}\n")


def read_document(folder: Path, verify: Verify = True) -> dict[str, Any]:
    """The document of `folder`, after its files were checked as `verify` asks (see `Dataset.open`)."""
    document = _read_document(folder)
    for name, size, sha256 in _listed(folder, document):
        _check_file(folder, name, size, sha256 if _wanted(verify, size) else None)
    return document


def map_array(path: Path) -> Array:
    """The array in the file `path`, mapped. It may be written to without changing the file."""
    array: Array = np.load(path, mmap_mode="c", allow_pickle=False)
    return np.asarray(array)


def damaged(folder: Path, what: str) -> DataError:
    """The error for a prepared `folder` that cannot be used; `what` says why."""
    return DataError(f"The data folder {folder} is damaged: {what}; run 'ncf prepare' again.")


def write_array(path: Path, array: Array) -> None:
    """Write `array` to `path` as `.npy`, and to the disk."""
    with path.open("wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def refuse_foreign(target: Path) -> None:
    """Raise `StorageError` unless `target` is new, empty or a prepared folder without other files: ask before
    long work.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise StorageError(f"{target} is a file, not a folder: choose another output folder.")
    names = {path.name for path in target.iterdir()}
    try:
        ours = {DESCRIPTION_FILE, *json.loads((target / DESCRIPTION_FILE).read_text("utf-8"))["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    if names and not ours:
        raise StorageError(
            f"{target} holds other files and is not a prepared data folder: choose an empty or a new "
            "output folder."
        )
    if others := sorted(name for name in names - ours if not name.startswith(".")):
        raise StorageError(
            f"{target} is a prepared data folder that holds other files too, such as {others[0]}: move them, "
            "or choose another output folder."
        )


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / DESCRIPTION_FILE
    if not path.is_file():
        raise DataError(
            f"{folder} is not a prepared data folder (there is no {DESCRIPTION_FILE}): make one with "
            f"'ncf prepare --input FILE --output {folder}'."
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(folder, f"{DESCRIPTION_FILE} cannot be read") from error
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{folder} was prepared with schema version {version} and this version of ncf reads "
            f"{SCHEMA_VERSION}: run 'ncf prepare' again."
        )
    return dict(document)


def _listed(folder: Path, document: dict[str, Any]) -> list[tuple[str, int, str]]:
    """Name, bytes and sha256 of each file that must be there."""
    try:
        return [
            (str(name), int(entry["bytes"]), str(entry["sha256"]))
            for name, entry in document["files"].items()
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(folder, f"{DESCRIPTION_FILE} does not list its files") from error


def _wanted(verify: Verify, size: int) -> bool:
    return verify == "full" or (verify and size < SMALL_FILE)


def _check_file(folder: Path, name: str, size: int, sha256: str | None) -> None:
    path = folder / name
    if not path.is_file():
        raise damaged(folder, f"{name} is missing")
    if path.stat().st_size != size:
        raise damaged(folder, f"{name} has {path.stat().st_size:,} bytes instead of {size:,}")
    if sha256 is not None and sha256_of(path) != sha256:
        raise damaged(folder, f"the content of {name} has changed")
