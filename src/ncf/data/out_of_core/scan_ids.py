"""The first pass over a table: check every value, and collect the distinct ids.

In: a `Reading`. Out: `IdScan`: rows, both vocabularies, and the rows of each user. The decision worth
knowing: the distinct ids of the batches are merged when they are as many as were merged before, so the pass
costs memory for ids and not for rows. When text turns up among integer ids, the pass starts again with text,
as the reader in memory does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from ncf.data.diagnosis import SCAN_ERRORS, read_error
from ncf.data.interactions import Int64
from ncf.data.readers import Reading, gaps, is_negative
from ncf.data.vocabulary import Vocabulary, canonical

ROWS = 1 << 20
"""Rows in memory at once."""
_LEAST_MERGED = 4 * ROWS


@dataclass(frozen=True)
class IdScan:
    """What the first pass learns. `rows_of_user`: [U]; `decimals`: which of user and item write 1 as 1.0."""

    rows: int
    users: Vocabulary
    items: Vocabulary
    rows_of_user: Int64
    decimals: frozenset[str]


def scan_ids(reading: Reading) -> IdScan:
    """Read everything once; a defect raises the same error as the reader in memory."""
    while True:
        scan = _scan(reading)
        if scan is not None:
            reading.origin.refuse_changed()
            return scan


def batches(reading: Reading) -> Iterator[pl.DataFrame]:
    """The cast columns in the order of the file, `ROWS` rows at a time; text ids as String."""
    selected = reading.frame.select(reading.expressions(pl.String))
    try:
        yield from selected.collect_batches(
            chunk_size=ROWS, maintain_order=True, engine="streaming", optimizations=reading.optimizations
        )
    except SCAN_ERRORS as error:
        raise read_error(error, reading.origin) from error


def _scan(reading: Reading) -> IdScan | None:
    """The scan, or None where the rows contradict what `reading` assumed of them."""
    defects = {purpose: _Defect() for purpose in reading.column_of}
    ids = {purpose: _Distinct() for purpose in ("user", "item")}
    rows = 0
    for batch in batches(reading):
        if reading.contradicted(batch):
            return None
        for purpose, defect in defects.items():
            defect.look(batch[purpose], purpose, rows)
        for purpose, distinct in ids.items():
            distinct.add(batch[purpose])
        rows += len(batch)
    if not rows:
        raise reading.no_rows()
    for purpose, defect in defects.items():
        if not defect.count:
            continue
        if reading.mended(purpose, defect.count):
            return None
        raise reading.gap(purpose, defect.row, defect.count, defect.negative)
    users, rows_of_user = ids["user"].vocabulary(reading.names["user"])
    items, _ = ids["item"].vocabulary(reading.names["item"])
    return IdScan(rows, users, items, rows_of_user, frozenset(n for n, d in ids.items() if d.decimals))


@dataclass
class _Defect:
    """The row of the first value of a column that does not fit, and how many there are."""

    count: int = 0
    row: int = 0
    negative: bool = False

    def look(self, values: pl.Series, purpose: str, before: int) -> None:
        """Check the next `values` of `purpose`, which follow `before` rows."""
        wrong = gaps(values, purpose)
        if wrong is None:
            return
        if not self.count:
            first = int(wrong.arg_true()[0])
            self.row, self.negative = before + first, is_negative(values, purpose, first)
        self.count += int(wrong.sum())


@dataclass
class _Distinct:
    """The distinct values of a column and how often each occurs."""

    pending: list[pl.DataFrame] = field(default_factory=list)
    waiting: int = 0
    merged: pl.DataFrame | None = None
    decimals: bool = False

    def add(self, values: pl.Series) -> None:
        """Count the next values."""
        counted = values.alias("id").to_frame().group_by("id").agg(pl.len().cast(pl.Int64).alias("rows"))
        self.pending.append(counted)
        self.waiting += len(counted)
        if self.waiting > max(_LEAST_MERGED, len(self.merged) if self.merged is not None else 0):
            self._merge()

    def vocabulary(self, column: str) -> tuple[Vocabulary, Int64]:
        """The ids, and how many rows each has: [len(ids)]."""
        self._merge()
        assert self.merged is not None
        ids, rows = self.merged["id"], self.merged["rows"].to_numpy()
        if ids.dtype == pl.String:
            known = canonical(ids, column)
            self.decimals = known.dtype != pl.String or not known.equals(ids)
            vocabulary = Vocabulary.build(known)
            counts = np.bincount(vocabulary.rows(known), rows, len(vocabulary))
            return vocabulary, counts.astype(np.int64)
        order = ids.arg_sort().to_numpy()
        return Vocabulary(ids.to_numpy()[order]), rows[order]

    def _merge(self) -> None:
        parts = [*self.pending, *([self.merged] if self.merged is not None else ())]
        self.pending, self.waiting = [], 0
        self.merged = pl.concat(parts).group_by("id").agg(pl.col("rows").sum())
