"""The caller's ids and the rows of a table, in both directions.

In: ids, any mixture of Python values, arrays or series. Out: rows (int32, -1 for an id that is not known) or,
the other way, ids. The decision worth knowing: a vocabulary is either all integers (sorted int64) or all
strings (sorted). An id may be asked for in the other type, `"42"` for 42 or 42 for `"42"`; only the canonical
decimal form counts, so `"042"` is not 42.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from ncf.data.values import as_integers
from ncf.errors import DataError

Rows = npt.NDArray[np.int32]

CANONICAL_INTEGER = r"^(?:0|-?[1-9][0-9]{0,18})$"
_MISSING = {"", "nan", "null", "none"}
_TABLE_LIMIT = 1 << 26
_FEW = 256


@dataclass(frozen=True)
class Vocabulary:
    """Ids by row. `ids` is [N], sorted and unique: int64, or an object array of str."""

    ids: npt.NDArray[Any]

    @classmethod
    def build(cls, values: Iterable[Any]) -> Vocabulary:
        """The vocabulary of all distinct values: integers if every one is an integer, otherwise strings."""
        series = _as_series(values)
        if series.dtype.is_integer():
            return cls.of_series(series.unique().sort().cast(pl.Int64))
        return cls(_objects(sorted(set(series.cast(pl.String).to_list()))))

    @classmethod
    def of_series(cls, series: pl.Series) -> Vocabulary:
        """The vocabulary whose `series()` this is: sorted and unique already."""
        return cls(
            series.to_numpy(writable=True) if series.dtype.is_integer() else _objects(series.to_list())
        )

    def series(self) -> pl.Series:
        """The ids in row order as a series named `id`: Int64 or String."""
        if self.kind == "integer":
            return pl.Series("id", self.ids, dtype=pl.Int64)
        return pl.Series("id", self.ids.tolist(), dtype=pl.String)

    @property
    def kind(self) -> Literal["integer", "string"]:
        return "string" if self.ids.dtype == object else "integer"

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, id: Any) -> int:
        """The row of one id, -1 if it is unknown."""
        return int(self.rows([id])[0])

    def rows(self, ids: Iterable[Any]) -> Rows:
        """The rows of many ids: [len(ids)] int32, -1 where an id is unknown."""
        if isinstance(ids, list) and len(ids) <= _FEW and self.kind == "integer" and len(self):
            return self._rows_of_few(ids)
        series = _as_series(ids)
        if len(series) == 0 or len(self) == 0:
            return np.full(len(series), -1, np.int32)
        if self.kind == "string":
            row_of = self._row_of_string
            rows = (row_of.get(text, -1) for text in series.cast(pl.String).to_list())
            return np.fromiter(rows, np.int32, len(series))
        return self._rows_of_integers(series)

    def ids_of(self, rows: npt.ArrayLike) -> npt.NDArray[Any]:
        """The ids at `rows`, in the shape of `rows`: int64 or object."""
        rows = np.asarray(rows)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows must lie in 0..{len(self) - 1}")
        return np.asarray(self.ids[rows.astype(np.int64)], dtype=self.ids.dtype)

    @cached_property
    def _row_of_string(self) -> dict[str, int]:
        return {text: row for row, text in enumerate(self.ids.tolist())}

    def _rows_of_few(self, ids: list[Any]) -> Rows:
        """As `rows`, but without a series, whose cost is more than that of the search."""
        if set(map(type, ids)) == {int}:
            with suppress(OverflowError):
                return _search(self.ids, np.array(ids, np.int64))
        numbers = [_integer(id) for id in ids]
        rows = _search(self.ids, np.array([number or 0 for number in numbers], np.int64))
        rows[[number is None for number in numbers]] = -1
        return rows

    def _rows_of_integers(self, series: pl.Series) -> Rows:
        if not series.dtype.is_integer():
            text = series.cast(pl.String)
            series = text.set(~text.str.contains(CANONICAL_INTEGER).fill_null(False), None)
        numbers = series.cast(pl.Int64, strict=False)
        rows = _search(self.ids, numbers.fill_null(0).to_numpy())
        if numbers.null_count():
            rows[numbers.is_null().to_numpy()] = -1
        return rows


def alike(first: pl.Series, second: pl.Series) -> list[pl.Series]:
    """Both series of ids in one type: text, unless both are integers."""
    if first.dtype.is_integer() and second.dtype.is_integer():
        return [first, second]
    return [first.cast(pl.String), second.cast(pl.String)]


def encode(series: pl.Series, column: str) -> tuple[Vocabulary, Rows]:
    """The vocabulary of a whole column and the row of each of its values.

    `series`: [N] of integers, or of categorical or plain text, which becomes an integer vocabulary if all of
    it is canonical integers. `column`: its name, for the error about missing ids.
    """
    if series.null_count():
        raise DataError(
            f"The column '{column}' has {series.null_count():,} rows without an id: remove those rows."
        )
    if series.dtype.is_integer():
        vocabulary = Vocabulary.build(series)
        return vocabulary, vocabulary.rows(series)
    return _encode_text(series.cast(pl.Categorical), column)


def _encode_text(series: pl.Series, column: str) -> tuple[Vocabulary, Rows]:
    distinct = series.unique()
    ids = canonical(distinct.cast(pl.String), column)
    vocabulary = Vocabulary.build(ids)
    codes = distinct.to_physical().to_numpy()
    row_of_code = np.full(int(codes.max(initial=0)) + 1, -1, np.int32)
    row_of_code[codes] = vocabulary.rows(ids)
    return vocabulary, row_of_code[series.to_physical().to_numpy()]


def canonical(texts: pl.Series, column: str) -> pl.Series:
    """The ids that the distinct `texts` [N] of a column stand for: Int64 if all are integers, else String.

    Texts such as `nan`, which stand for a missing id, are refused with the name of the `column`.
    """
    missing = texts.filter(texts.str.to_lowercase().is_in(list(_MISSING)))
    if len(missing):
        raise DataError(f"The column '{column}' has rows whose id is '{missing[0]}': remove those rows.")
    integers = as_integers(texts)
    return texts if integers is None else integers


def _search(ids: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]) -> Rows:
    """Rows of `wanted` in the sorted `ids`; by a table of the whole range where that is faster."""
    low, high = int(ids[0]), int(ids[-1])
    span = high - low + 1
    if len(wanted) > 1_000 and span <= min(_TABLE_LIMIT, 4 * len(wanted) + 4 * len(ids)):
        table = np.full(span, -1, np.int32)
        table[ids - low] = np.arange(len(ids), dtype=np.int32)
        inside = (wanted >= low) & (wanted <= high)
        if bool(inside.all()):
            return table[wanted - low]
        return np.where(inside, table[np.where(inside, wanted - low, 0)], np.int32(-1))
    position = np.minimum(ids.searchsorted(wanted), len(ids) - 1)
    rows = position.astype(np.int32)
    rows[ids[position] != wanted] = -1
    return rows


def _as_series(values: Iterable[Any]) -> pl.Series:
    """A series of integers if all values are integers, otherwise of strings; 42.0 counts as 42."""
    if isinstance(values, pl.Series):
        series = values
    elif isinstance(values, np.ndarray) and values.dtype != object:
        series = pl.Series(values.reshape(-1))
    else:
        listed = list(values)
        if all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in listed):
            series = _integers_or_text([int(value) for value in listed])
        else:
            series = pl.Series([_text(value) for value in listed], dtype=pl.String)
    if series.dtype == pl.UInt64:
        return series.cast(pl.String)
    if series.dtype.is_integer() or series.dtype == pl.String:
        return series
    if series.dtype.is_float():
        whole = series.is_finite().fill_null(False) & (series == series.floor())
        integral = series.set(~whole, None).cast(pl.Int64, strict=False)
        return integral if bool(whole.all()) else integral.cast(pl.String).fill_null(series.cast(pl.String))
    return series.cast(pl.String)


def _integer(value: Any) -> int | None:
    """The int64 that `value` stands for in its canonical form, or None."""
    if isinstance(value, bool | np.bool_):
        return None
    if (
        isinstance(value, int | np.integer)
        or (isinstance(value, float | np.floating) and float(value).is_integer())
        or (isinstance(value, str) and re.fullmatch(CANONICAL_INTEGER, value))
    ):
        number = int(value)
    else:
        return None
    return number if -(2**63) <= number < 2**63 else None


def _integers_or_text(numbers: list[int]) -> pl.Series:
    if all(-(2**63) <= number < 2**63 for number in numbers):
        return pl.Series(numbers, dtype=pl.Int64)
    return pl.Series([str(number) for number in numbers], dtype=pl.String)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _objects(texts: list[Any]) -> npt.NDArray[Any]:
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array
