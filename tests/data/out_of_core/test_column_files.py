"""Columns on the disk: the file that numpy would have written, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncf.data.out_of_core.column_files import ColumnFile, Writer


@pytest.mark.parametrize(
    ("dtype", "width"), [(np.int32, None), (np.int64, None), (np.float32, None), (np.int32, 7)]
)
@pytest.mark.parametrize("pieces", [[], [0], [5], [3, 0, 1_000, 2]])
def test_the_file_is_that_of_numpy(tmp_path: Path, dtype: type, width: int | None, pieces: list[int]) -> None:
    draws = np.random.default_rng(0)
    parts = [draws.integers(0, 99, size if width is None else (size, width)).astype(dtype) for size in pieces]
    writer = Writer(tmp_path / "a.npy", dtype, width)
    for part in parts:
        writer.append(part)
    writer.close()
    whole = np.concatenate([np.zeros((0,) if width is None else (0, width), dtype), *parts])
    np.save(tmp_path / "b.npy", whole)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    column = ColumnFile(tmp_path / "a.npy")
    assert (column.values.shape, column.values.dtype, len(column)) == (whole.shape, dtype, len(whole))
    column.release()
    assert column.values.tolist() == whole.tolist()


def test_values_are_cast_and_cannot_be_written_to(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "a.npy", np.int32)
    writer.append(np.array([1, 2, 3], np.int64)[::2])
    writer.close()
    column = ColumnFile(tmp_path / "a.npy")
    assert column.values.tolist() == [1, 3]
    with pytest.raises(ValueError, match="read-only"):
        column.values[0] = 5
