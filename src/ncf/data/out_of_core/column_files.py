"""Columns of numbers on the disk: written piece by piece as `.npy`, read back as arrays that cost no memory.

In: pieces of an array. Out: the file that `numpy.save` would have written, and the same file mapped. The
decision worth knowing: pages of a mapped file count as memory of the process until they are given back. So a
reader calls `release` after each part; pages that are needed again are read again.
"""

from __future__ import annotations

import io
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Writer:
    """A `.npy` file that grows. Rows are numbers, or arrays [width] of them."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, width: int | None = None) -> None:
        self.path, self.dtype, self.width, self.rows = path, np.dtype(dtype), width, 0
        self._file = path.open("wb")
        self._file.write(self._header())

    def append(self, values: Array) -> None:
        """Write [n] or [n, width] values, cast to the type of the column."""
        self._file.write(np.ascontiguousarray(values, self.dtype).data.cast("B") if values.size else b"")
        self.rows += len(values)

    def close(self) -> None:
        """Write the number of rows into the header, and everything to the disk."""
        self._file.seek(0)
        self._file.write(self._header())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _header(self) -> bytes:
        """numpy leaves room for the number of rows to grow, so every header has the same length."""
        shape = (self.rows,) if self.width is None else (self.rows, self.width)
        header = io.BytesIO()
        described = {"descr": self.dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, described)
        return header.getvalue()


class ColumnFile:
    """A `.npy` file as an array: `values` [N] or [N, width], read only."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.path = path
        self.values: Array = np.frombuffer(self._mapped, dtype, offset=offset).reshape(shape)

    def __len__(self) -> int:
        return len(self.values)

    def release(self) -> None:
        """Give the pages that were read back to the system."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)
