"""An index over a large catalogue: inverted lists of faiss, of which a request looks at the nearest.

In: vectors of all items, a piece at a time. Out: candidates, as from a scan, at a small part of its cost.

Items are clustered by their vectors, and each coordinate is kept as one byte. faiss is imported when an index is
built or opened and not before; most catalogues never need it.

Legend: B users, C items of a piece, R width of a vector, N candidates wanted.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncf.errors import ArtifactError
from ncf.serving.index import Alive
from ncf.serving.network import Floats, Rows
from ncf.serving.vectors import ItemVectors

_INDEX = "retrieval_index.faiss"
_ITEMS_AT_ONCE = 2**15
_TRAINED_VECTORS_PER_LIST, _MOST_LISTS = 40, 16384


class Ivf:
    """Inverted lists of faiss: items clustered by direction, a byte a coordinate, the nearest lists looked through."""

    def __init__(self, index: Any, probes: int, allowed: Rows | None = None) -> None:
        self._index, self.probes, self._allowed = index, probes, allowed

    @classmethod
    def build(cls, item_vectors: ItemVectors, items: int, random: np.random.Generator) -> "Ivf":
        """Clusters from a sample of items, then all items a piece at a time."""
        faiss = faiss_module()
        lists = min(_MOST_LISTS, max(1, 2 ** round(np.log2(4 * items**0.5))))
        index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(item_vectors.width), item_vectors.width, lists,
            faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT, False,
        )  # fmt: skip
        sample = np.sort(random.permutation(items)[: _TRAINED_VECTORS_PER_LIST * lists])
        index.train(_by_item(item_vectors, sample))
        for part in pieces(items):
            index.add(np.ascontiguousarray(item_vectors(part).T))
        return cls(index, probes=1)

    @property
    def lists(self) -> int:
        """How many lists there are."""
        return int(self._index.nlist)

    @classmethod
    def open(cls, folder: Path, probes: int) -> "Ivf":
        """The lists, mapped."""
        faiss = faiss_module()
        return cls(faiss.read_index(str(folder / _INDEX), faiss.IO_FLAG_MMAP), probes)

    def save(self, folder: Path) -> None:
        """In faiss's own format."""
        faiss_module().write_index(self._index, str(folder / _INDEX))

    def search(self, vectors_BR: Floats, n: int, hidden: Sequence[Rows]) -> tuple[Rows, Alive]:
        """The best in the nearest lists; hidden items are fetched on top and marked, and so are places left empty."""
        wanted = n + max((len(rows) for rows in hidden), default=0)
        probes = self.probes
        while True:
            rows_BN = self._fetch(vectors_BR, wanted, probes)
            alive_BN = rows_BN >= 0
            for rows, alive, out in zip(rows_BN, alive_BN, hidden, strict=True):
                if len(out):
                    alive &= ~np.isin(rows, out)
            if probes >= self._index.nlist or int(alive_BN.sum(axis=1).min(initial=n)) >= min(n, self._items):
                return np.maximum(rows_BN, 0), alive_BN
            probes = min(8 * probes, self._index.nlist)

    def limited(self, allowed: Rows) -> "Ivf":
        """More lists are looked through, as fewer items in each count."""
        share = max(1, len(allowed)) / self._index.ntotal
        return Ivf(self._index, min(self._index.nlist, round(2 * self.probes / share)), allowed)

    @property
    def _items(self) -> int:
        return self._index.ntotal if self._allowed is None else len(self._allowed)

    def _fetch(self, vectors_BR: Floats, wanted: int, probes: int) -> Rows:
        faiss = faiss_module()
        selector = None if self._allowed is None else faiss.IDSelectorBatch(self._allowed.astype(np.int64))
        parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
        _, rows_BN = self._index.search(
            np.ascontiguousarray(vectors_BR, np.float32), min(wanted, self._index.ntotal), params=parameters
        )
        return np.asarray(rows_BN, np.int64)


def faiss_module() -> Any:
    """faiss, imported where a large catalogue needs it and not before; raises `ArtifactError`."""
    try:
        import faiss
    except ImportError:
        raise ArtifactError(
            "This catalogue has an index that needs faiss: install it with 'pip install faiss-cpu'."
        ) from None
    return faiss


def faiss_is_there() -> bool:
    """Whether faiss is installed; without it large catalogues are scanned."""
    return importlib.util.find_spec("faiss") is not None


def pieces(items: int) -> Iterator[slice]:
    """Slices that cover the catalogue."""
    for start in range(0, items, _ITEMS_AT_ONCE):
        yield slice(start, min(items, start + _ITEMS_AT_ONCE))


def _by_item(item_vectors: ItemVectors, rows: Rows) -> Floats:
    """[C, R] of many rows, made a piece at a time."""
    vectors_CR = np.empty((len(rows), item_vectors.width), np.float32)
    for part in pieces(len(rows)):
        vectors_CR[part] = item_vectors(rows[part]).T
    return vectors_CR
