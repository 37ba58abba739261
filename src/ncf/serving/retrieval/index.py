"""The items whose vectors have the largest inner products with a user's, found by going through all of them.

In: vectors of users, and items that must not appear. Out: n item rows a user, the best by inner product in no
particular order. A scan misses none; ncf.serving.retrieval.ivf looks at a share of a large catalogue only.

Legend: B users, R width of a vector, P places of a catalogue, padded, N candidates wanted.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ncf.serving.numpy_model import Floats, Rows
from ncf.serving.retrieval.brute_force import indices_of

Alive = npt.NDArray[np.bool_]
_Value = TypeVar("_Value", np.float32, np.int64)

_NOWHERE = np.empty(0, np.int64)
_PADDING = 64
_GATHERED_SHARE = 16
_MATRIX = "retrieval_items.npy"


class Index(Protocol):
    """Finds candidates; the two kinds differ in what they cost and in whether they may miss any."""

    def search(self, vectors_BR: Floats, n: int, hidden: Sequence[Rows]) -> tuple[Rows, Alive]:
        """Rows [B, N] of at most `n` items a user, and which of them count; others are hidden or fill up."""

    def limited(self, allowed: Rows) -> "Index":
        """The same over these items only (unique, sorted)."""

    def save(self, folder: Path) -> None:
        """Write it into the artifact's folder."""


class Scan:
    """Every item's inner product. Vectors lie as [R, P], so that a request reads memory in one sweep."""

    def __init__(
        self, items_RP: Floats, items: int, rows: Rows | None = None, mask_P: Floats | None = None
    ) -> None:
        """`items_RP` as `padded` gives it; `rows` names the items of the places where they are not all, and
        `mask_P` is minus infinity where an item may not appear.
        """
        self._items_RP, self._items, self._rows, self._mask_P = items_RP, items, rows, mask_P

    @classmethod
    def open(cls, folder: Path, items: int) -> "Scan":
        """The matrix, mapped; raises `ValueError` where it is not of so many items."""
        items_RP = np.load(folder / _MATRIX, mmap_mode="r", allow_pickle=False)
        if items_RP.shape[1] != padded(np.zeros((1, items), np.float32)).shape[1] or np.isnan(items_RP).any():
            raise ValueError(f"{_MATRIX} does not belong to these items")
        return cls(items_RP, items)

    def save(self, folder: Path) -> None:
        """The matrix as it is."""
        np.save(folder / _MATRIX, self._items_RP, allow_pickle=False)

    def search(self, vectors_BR: Floats, n: int, hidden: Sequence[Rows]) -> tuple[Rows, Alive]:
        """Exact; all items where n asks for more than there are."""
        scores_BP = self._scores(vectors_BR, hidden)
        n = min(n, self._items)
        scores_BN, places_BN = (
            _largest_of_one(scores_BP, n) if len(scores_BP) == 1 else _largest(scores_BP, n)
        )
        np.minimum(places_BN, self._items - 1, out=places_BN)
        return places_BN if self._rows is None else self._rows[places_BN], scores_BN > -np.inf

    def depths(self, vectors_BR: Floats, rows_BK: Rows, hidden: Sequence[Rows]) -> npt.NDArray[np.int64]:
        """[B, K]: how many candidates `search` needs to find each row; zero for negative ones, which are no
        items. Ties count as if the row came last.
        """
        scores_BP = self._scores(vectors_BR, hidden)
        places_BK = rows_BK if self._rows is None else np.searchsorted(self._rows, rows_BK)
        depths_BK = np.zeros(rows_BK.shape, np.int64)
        for places_B, depths_B in zip(places_BK.T, depths_BK.T, strict=True):
            own_B1 = np.take_along_axis(scores_BP, places_B[:, None], axis=1)
            depths_B[:] = np.count_nonzero(scores_BP >= own_B1, axis=1)
        return np.where(rows_BK < 0, 0, depths_BK)

    def _scores(self, vectors_BR: Floats, hidden: Sequence[Rows]) -> Floats:
        """[B, P]: inner products, minus infinity where an item may not appear."""
        scores_BP: Floats = vectors_BR @ self._items_RP
        if self._mask_P is not None:
            scores_BP += self._mask_P
        if len(scores_BP) == 1:
            scores_BP[0, self._places(hidden[0])] = -np.inf
        else:
            starts = np.arange(0, scores_BP.size, scores_BP.shape[1])
            of_all = [self._places(rows) + start for rows, start in zip(hidden, starts, strict=True)]
            scores_BP.reshape(-1)[np.concatenate([_NOWHERE, *of_all])] = -np.inf
        return scores_BP

    def limited(self, allowed: Rows) -> "Scan":
        """A scan over all with a mask or, for a small share of the items, over the gathered columns."""
        if _GATHERED_SHARE * len(allowed) < self._items:
            return Scan(padded(self._items_RP[:, allowed]), len(allowed), allowed.astype(np.int64))
        mask_P = np.full(self._items_RP.shape[1], -np.inf, np.float32)
        mask_P[allowed] = 0
        return Scan(self._items_RP, self._items, mask_P=mask_P)

    def _places(self, rows: Rows) -> Rows:
        return rows if self._rows is None else indices_of(rows, self._rows)


def padded(items_RI: Floats) -> Floats:
    """[R, P]: columns of zeros up to a multiple of 64, with minus infinity in the last row, which users weigh
    by 1.
    """
    rank, items = items_RI.shape
    items_RP = np.zeros((rank, max(1, -(-items // _PADDING)) * _PADDING), np.float32)
    items_RP[:, :items] = items_RI
    items_RP[-1, items:] = -np.inf
    return items_RP


def _largest(scores_BP: Floats, n: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """The n largest of each row and their places, both [B, n], in no order.

    The n largest lie in the n groups with the largest maxima, so that only maxima and these groups are
    partitioned. Groups go across the row (every P/size-th place), where taking maxima is a sweep.
    """
    users, places = scores_BP.shape
    size = _group_size(places, n)
    if size == 1:
        chosen_Bn = _partitioned(scores_BP, n)
        return _taken(scores_BP, chosen_Bn), chosen_Bn
    groups = places // size
    chosen_Bn = _partitioned(scores_BP.reshape(users, size, groups).max(axis=1), n)
    members = (np.arange(0, places, groups)[:, None] + chosen_Bn[:, None, :]).reshape(users, size * n)
    scores = _taken(scores_BP, members)
    inner_Bn = _partitioned(scores, n)
    return _taken(scores, inner_Bn), _taken(members, inner_Bn)


def _largest_of_one(scores_1P: Floats, n: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    """`_largest` for one row, or up to twice as many as are wanted: all that reach the n-th largest group
    maximum.
    """
    places = scores_1P.shape[1]
    size = _group_size(places, n)
    if size == 1:
        return _largest(scores_1P, n)
    scores_P, groups = scores_1P[0], places // size
    maxima = scores_P.reshape(size, groups).max(axis=0)
    maxima.partition(groups - n)
    reaching = np.flatnonzero(scores_P >= maxima[groups - n])
    if len(reaching) > 2 * n:
        return _largest(scores_1P, n)
    return scores_P[None, reaching], reaching[None]


def _partitioned(scores_BP: Floats, n: int) -> npt.NDArray[np.int64]:
    """Places [B, n] of the n largest of each row."""
    return np.argpartition(scores_BP, scores_BP.shape[1] - n, axis=1)[:, scores_BP.shape[1] - n :]


def _taken(values_BP: npt.NDArray[_Value], places_Bn: npt.NDArray[np.int64]) -> npt.NDArray[_Value]:
    """[B, n]: what `take_along_axis` gives, at a third of its cost for few places."""
    starts_B1 = np.arange(0, values_BP.size, values_BP.shape[1])[:, None]
    return values_BP.reshape(-1).take(places_Bn + starts_B1)


def _group_size(places: int, n: int) -> int:
    """A power of two near √(P/n), at which both partitions are as long; 1 where groups do not pay."""
    size = 1
    while size < _PADDING and 2 * size * size * n <= places:
        size *= 2
    return size if size >= 4 else 1
