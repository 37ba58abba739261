from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ncf.data.folder import map_array, read_document, write_folder
from ncf.errors import DataError

ARRAYS = {"a.npy": np.arange(6, dtype=np.int32).reshape(2, 3), "empty.npy": np.zeros((0, 4), np.int64)}
TABLES = {"t.parquet": pl.DataFrame({"id": [1, 2]})}


def test_arrays_come_back_with_shape_and_dtype(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", ARRAYS, TABLES, {"name": "x"})
    for name, array in ARRAYS.items():
        mapped = map_array(tmp_path / "out" / name)
        assert (mapped.shape, mapped.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(mapped, array)


def test_the_document_lists_every_file(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", ARRAYS, TABLES, {"name": "x"})
    document = read_document(tmp_path / "out", verify="full")
    assert document["schema_version"] == 1
    assert document["name"] == "x"
    assert set(document["files"]) == {*ARRAYS, *TABLES}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*ARRAYS, *TABLES, "dataset.json"}


def test_writing_twice_gives_the_same_hashes(tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        write_folder(tmp_path / name, ARRAYS, {}, {})
        hashes.append(json.loads((tmp_path / name / "dataset.json").read_text())["files"])
    assert hashes[0] == hashes[1]


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_folder(tmp_path / "out", ARRAYS, {}, {})
    assert read_document(tmp_path / "out")["files"]


def test_a_list_without_sizes_is_damaged(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", ARRAYS, {}, {})
    path = tmp_path / "out" / "dataset.json"
    document = json.loads(path.read_text()) | {"files": {"a.npy": {}}}
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"dataset\.json does not list its files"):
        read_document(tmp_path / "out")
