"""An index over a large catalogue: inverted lists of faiss, of which a request looks at the nearest.

In: vectors of all items, a piece at a time. Out: candidates, as from a scan, at a small part of its cost.

Items are clustered, and each coordinate is kept as one byte. faiss is imported when an index is built or
opened and not before; most catalogues never need it.

The one decision worth knowing: vectors are turned and scaled so that queries vary alike in every direction,
and items get one more coordinate that gives all of them the same length (Bachrach et al., RecSys'14). The
nearest item is then the one with the largest inner product, so that clusters by distance are what a query
looks for: the same recall takes a quarter of the lists or less (docs/retrieval.md).

Legend: B users, C items of a piece, R width of a vector, N candidates wanted.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncf.errors import imported
from ncf.serving.consistency import is_finite
from ncf.serving.numpy_model import Floats, Rows
from ncf.serving.retrieval.index import Alive
from ncf.serving.retrieval.landmarks import ItemVectors

_INDEX, _TURN = "retrieval_index.faiss", "retrieval_turn.npy"
_ITEMS_AT_ONCE = 2**15
_TRAINED_VECTORS_PER_LIST, _MOST_LISTS, _ROUNDS = 40, 16384, 8
_LANES = 16
_SMALLEST_ENERGY = 1e-8


class IvfIndex:
    """Inverted lists of faiss: items clustered, a byte a coordinate, the nearest lists looked through."""

    def __init__(self, index: Any, turn_RR: Floats, probes: int, allowed: Rows | None = None) -> None:
        """`turn_RR` takes a user's vector into the coordinates of the index."""
        self._index, self._turn_RR, self.probes, self._allowed = index, turn_RR, probes, allowed
        self.widens = True

    @classmethod
    def build(
        cls, item_vectors: ItemVectors, items: int, vectors_BR: Floats, random: np.random.Generator
    ) -> "IvfIndex":
        """Clusters from a sample of items, then all items a piece at a time; `vectors_BR` are vectors of
        users.
        """
        faiss = faiss_module()
        for_items_RR, for_users_RR = _turns(vectors_BR)
        lists = min(_MOST_LISTS, max(1, 2 ** round(np.log2(4 * items**0.5))))
        sample = np.sort(random.permutation(items)[: _TRAINED_VECTORS_PER_LIST * lists])
        turned = np.concatenate([item_vectors(sample[part]).T @ for_items_RR for part in pieces(len(sample))])
        longest = float(np.einsum("cr,cr->c", turned, turned).max())
        width = -(-(item_vectors.width + 1) // _LANES) * _LANES
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatL2(width), width, lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2, False
        )
        index.cp.niter, index.cp.min_points_per_centroid = _ROUNDS, 1
        index.train(_of_one_length(turned, longest, width))
        for part in pieces(items):
            index.add(_of_one_length(item_vectors(part).T @ for_items_RR, longest, width))
        return cls(index, for_users_RR, probes=1)

    @property
    def lists(self) -> int:
        """How many lists there are."""
        return int(self._index.nlist)

    @classmethod
    def open(cls, folder: Path, probes: int, items: int) -> "IvfIndex":
        """The lists, mapped; raises `ValueError` where they are not of so many items."""
        faiss = faiss_module()
        turn_RR = np.load(folder / _TURN, allow_pickle=False)
        index = faiss.read_index(str(folder / _INDEX), faiss.IO_FLAG_MMAP)
        if index.ntotal != items or not is_finite(turn_RR):
            raise ValueError(f"{_INDEX} does not belong to these items")
        # By default each search starts 32 threads that read its lists ahead. It takes longer than the search.
        faiss.downcast_InvertedLists(index.invlists).prefetch_nthread = 0
        return cls(index, turn_RR, probes)

    def save(self, folder: Path) -> None:
        """In faiss's own format, and the users' turn."""
        faiss_module().write_index(self._index, str(folder / _INDEX))
        np.save(folder / _TURN, self._turn_RR, allow_pickle=False)

    def search(self, vectors_BR: Floats, n: int, hidden: Sequence[Rows]) -> tuple[Rows, Alive]:
        """The best in the nearest lists; hidden items are fetched on top and marked, and so are places left
        empty.
        """
        wanted = n + max((len(rows) for rows in hidden), default=0)
        probes = self.probes
        while True:
            rows_BN = self._fetch(vectors_BR, wanted, probes)
            alive_BN = rows_BN >= 0
            for rows, alive, out in zip(rows_BN, alive_BN, hidden, strict=True):
                if len(out):
                    alive &= ~np.isin(rows, out)
            if (
                not self.widens
                or probes >= self._index.nlist
                or int(alive_BN.sum(axis=1).min(initial=n)) >= min(n, self._items)
            ):
                return _first_alive(rows_BN, alive_BN, n)
            probes = min(8 * probes, self._index.nlist)

    def limited(self, allowed: Rows) -> "IvfIndex":
        """More lists are looked through, as fewer items in each count."""
        share = max(1, len(allowed)) / self._index.ntotal
        return IvfIndex(
            self._index, self._turn_RR, min(self._index.nlist, round(2 * self.probes / share)), allowed
        )

    @property
    def _items(self) -> int:
        return self._index.ntotal if self._allowed is None else len(self._allowed)

    def _fetch(self, vectors_BR: Floats, wanted: int, probes: int) -> Rows:
        faiss = faiss_module()
        selector = None if self._allowed is None else faiss.IDSelectorBatch(self._allowed.astype(np.int64))
        parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        turned_BR = np.zeros((len(vectors_BR), self._index.d), np.float32)
        turned_BR[:, : vectors_BR.shape[1]] = vectors_BR @ self._turn_RR
        _, rows_BN = self._index.search(turned_BR, min(wanted, self._index.ntotal), params=parameters)
        return np.asarray(rows_BN, np.int64)


def faiss_module() -> Any:
    """faiss, imported where a large catalogue needs it and not before; raises `ConfigError`."""
    return imported("index", "faiss")


def faiss_is_there() -> bool:
    """Whether faiss is installed; without it large catalogues are scanned."""
    return importlib.util.find_spec("faiss") is not None


def pieces(items: int) -> Iterator[slice]:
    """Slices that cover the catalogue."""
    for start in range(0, items, _ITEMS_AT_ONCE):
        yield slice(start, min(items, start + _ITEMS_AT_ONCE))


def _turns(vectors_BR: Floats) -> tuple[Floats, Floats]:
    """For items and for users, [R, R] each: inner products stay, users' second moments become one."""
    energy, axes = np.linalg.eigh(vectors_BR.T.astype(np.float64) @ vectors_BR / max(1, len(vectors_BR)))
    scale = np.sqrt(np.maximum(energy, _SMALLEST_ENERGY * energy.max()))
    return (axes * scale).astype(np.float32), (axes / scale).astype(np.float32)


def _of_one_length(vectors_CR: Floats, longest: float, width: int) -> Floats:
    """[C, width]: a coordinate fills up to `longest`, a squared length (an item longer than all of the sample
    stays longer), then zeros.

    The width is a multiple of 16: for any other faiss compares coordinate by coordinate, six times slower.
    """
    rest_C = longest - np.einsum("cr,cr->c", vectors_CR, vectors_CR)
    filled = np.zeros((len(vectors_CR), width), np.float32)
    filled[:, : vectors_CR.shape[1]] = vectors_CR
    filled[:, vectors_CR.shape[1]] = np.sqrt(np.maximum(rest_C, 0))
    return filled


def _first_alive(rows_BN: Rows, alive_BN: Alive, n: int) -> tuple[Rows, Alive]:
    """The n nearest that count, and where there are fewer some that do not."""
    order = np.argsort(~alive_BN, axis=1, kind="stable")[:, :n]
    return np.maximum(np.take_along_axis(rows_BN, order, 1), 0), np.take_along_axis(alive_BN, order, 1)
