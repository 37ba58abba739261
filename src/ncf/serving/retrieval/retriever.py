"""Retrieval: the best items of a user out of a catalogue of any size, by the full model, at the cost of a few
of them.

In: queries of a network, items that must not appear, items that may. Out: scores and rows, best first, as
`BruteForce` gives them but for the share of misses that was measured when the artifact was written
(`recall`).

Candidates are found by an inner product that is close to the model's score and are then scored by the model
itself. The tower's part of that product is known from the user's scores of a few landmark items, so it serves
known users and folded-in visitors alike; a query that the landmarks fit badly gets more candidates.
docs/retrieval.md tells the method.

Legend: B users, K wanted, N candidates, Q width of a query.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ncf.data import Csr
from ncf.data.files import json_text, write_text
from ncf.serving.consistency import is_finite
from ncf.serving.numpy_model import Floats, NumpyModel, Rows
from ncf.serving.retrieval.brute_force import BruteForce, best
from ncf.serving.retrieval.calibration import IndexCalibration, K, fit
from ncf.serving.retrieval.index import Index, Scan
from ncf.serving.retrieval.ivf import IvfIndex
from ncf.serving.retrieval.landmarks import Landmarks, QueryVectors

_DOCUMENT = "retrieval.json"
_LANDMARKS = ("rows_L", "means_L", "vectors_RL", "solve_LR")
_KNOWN = "retrieval_known.npy"
_KNOWN_BYTES = 256 * 2**20
_USERS_AT_ONCE = 32
_WIDER, _FAR = 4, 2
_EXACT_SHARE = 4
_EXACT_ITEMS = 20_000


class Retriever:
    """`top` through candidates; where it would need a large part of the items as candidates, exact."""

    DOCUMENT = _DOCUMENT
    """The file without which there is none in an artifact."""

    def __init__(
        self, network: NumpyModel, fitted: IndexCalibration | None, known: Floats | None = None
    ) -> None:
        """`known` [U, R + 1] are the vectors of the known users and their residuals, where they are kept."""
        self._network, self._exact, self._fitted, self._known = network, BruteForce(network), fitted, known
        self.recall = fitted.recall if fitted else 1.0
        self._vectors = QueryVectors(network, fitted.landmarks) if fitted else None

    @classmethod
    def build(cls, network: NumpyModel, seen: Csr, seed: int) -> "Retriever":
        """Find what this catalogue needs, by measuring; `seen` are the items of each user, which do not
        count.
        """
        fitted = fit(network, seen, seed)
        return cls(network, fitted, None if fitted is None else _known_users(network, fitted))

    def top(
        self,
        queries_BQ: Floats,
        k: int,
        hidden: Sequence[Rows],
        allowed: Rows | None = None,
        users: Rows | None = None,
    ) -> tuple[Floats, Rows]:
        """See `Ranker.top`. The rows of known users save the look at the landmarks."""
        items = self._network.items if allowed is None else len(allowed)
        n = self.candidates(k)
        if self._fitted is None or self._vectors is None or _EXACT_SHARE * n >= items:
            return self._exact.top(queries_BQ, k, hidden, allowed)
        index = self._fitted.index if allowed is None else self._fitted.index.limited(allowed)
        if len(queries_BQ) <= _USERS_AT_ONCE:
            return self._part(index, queries_BQ, n, k, hidden, items, users)
        parts = []
        for start in range(0, len(queries_BQ), _USERS_AT_ONCE):
            part = slice(start, start + _USERS_AT_ONCE)
            known = None if users is None else users[part]
            parts.append(self._part(index, queries_BQ[part], n, k, hidden[part], items, known))
        scores, rows = zip(*parts, strict=True)
        return np.concatenate(scores), np.concatenate(rows)

    def _part(
        self,
        index: Index,
        queries_BQ: Floats,
        n: int,
        k: int,
        hidden: Sequence[Rows],
        items: int,
        users: Rows | None,
    ) -> tuple[Floats, Rows]:
        """A few users, so that activations stay in cache; those who are unlike the measured ones once more,
        wider.
        """
        assert self._fitted is not None
        vectors_BR, residuals_B = self._described(queries_BQ, users)
        scores_BK, rows_BK = self._rank(index, queries_BQ, vectors_BR, n, k, hidden)
        if residuals_B.max(initial=0) <= self._fitted.limit:
            return scores_BK, rows_BK
        for user in np.flatnonzero(residuals_B > self._fitted.limit).tolist():
            one = slice(user, user + 1)
            far = residuals_B[user] > _FAR * self._fitted.limit
            wide = items if far and items <= _EXACT_ITEMS else min(_WIDER * n, items)
            scores_BK[one], rows_BK[one] = self._rank(
                index, queries_BQ[one], vectors_BR[one], wide, k, hidden[one]
            )
        return scores_BK, rows_BK

    def _described(self, queries_BQ: Floats, users: Rows | None) -> tuple[Floats, Floats]:
        """Vectors [B, R] and residuals [B]: as they are kept for known users, else through the landmarks."""
        assert self._vectors is not None
        if users is None or self._known is None:
            return self._vectors(queries_BQ)
        kept = self._known.take(users, axis=0)
        return kept[:, :-1], kept[:, -1]

    def candidates(self, k: int) -> int:
        """N for k: in proportion to it above the ten that were measured."""
        return 0 if self._fitted is None else -(-self._fitted.candidates * max(k, K) // K)

    def _rank(
        self, index: Index, queries_BQ: Floats, vectors_BR: Floats, n: int, k: int, hidden: Sequence[Rows]
    ) -> tuple[Floats, Rows]:
        rows_BN, alive_BN = index.search(vectors_BR, n, hidden)
        scores_BN = self._network.scores(queries_BQ, self._network.sides(rows_BN))
        scores_BN[~alive_BN] = -np.inf
        return best(scores_BN, rows_BN, k)

    def save(self, folder: Path) -> None:
        """Files named `retrieval*` into the artifact's folder."""
        fitted = self._fitted
        document: dict[str, object] = {"kind": "exact", "recall": self.recall}
        if fitted is not None:
            fitted.index.save(folder)
            document |= {
                "kind": "scan" if isinstance(fitted.index, Scan) else "lists",
                "candidates": fitted.candidates,
                "limit": fitted.limit,
                "landmarks": fitted.landmarks is not None,
                "probes": fitted.index.probes if isinstance(fitted.index, IvfIndex) else None,
            }
            for name in _LANDMARKS if fitted.landmarks is not None else ():
                np.save(_array(folder, name), getattr(fitted.landmarks, name), allow_pickle=False)
        if self._known is not None:
            np.save(folder / _KNOWN, self._known, allow_pickle=False)
        write_text(folder / _DOCUMENT, json_text(document, 2))

    @classmethod
    def open(cls, folder: Path, network: NumpyModel) -> "Retriever":
        """From the artifact's folder, arrays mapped, so that processes share them.

        Raises `OSError`, `KeyError` or `ValueError` where it cannot be read or belongs to another network.
        """
        document = json.loads((folder / _DOCUMENT).read_text("utf-8"))
        if document["kind"] == "exact":
            return cls(network, None)
        landmarks = None
        if document["landmarks"]:
            landmarks = Landmarks(*(np.load(_array(folder, name), allow_pickle=False) for name in _LANDMARKS))
        index: Index = (
            Scan.open(folder, network.items)
            if document["kind"] == "scan"
            else IvfIndex.open(folder, document["probes"], network.items)
        )
        fitted = IndexCalibration(
            landmarks, index, document["candidates"], document["limit"], document["recall"]
        )
        path, known = folder / _KNOWN, None
        if path.is_file():
            known = np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)
        opened = cls(network, fitted, known)
        if known is not None and (len(known) != network.users or not is_finite(known)):
            raise ValueError(f"{_KNOWN} does not belong to these users")
        if network.users and network.items:
            opened.top(network.user_queries(np.zeros(1, np.int64)), 1, [np.empty(0, np.int64)])
        return opened


def _known_users(network: NumpyModel, fitted: IndexCalibration) -> Floats | None:
    """[U, R + 1]: vectors of all known users and their residuals; None where they are too many to keep."""
    vectors = QueryVectors(network, fitted.landmarks)
    if fitted.landmarks is None or 4 * network.users * (vectors.width + 1) > _KNOWN_BYTES:
        return None
    kept = np.empty((network.users, vectors.width + 1), np.float32)
    for start in range(0, network.users, _USERS_AT_ONCE):
        rows = np.arange(start, min(start + _USERS_AT_ONCE, network.users))
        kept[rows, :-1], kept[rows, -1] = vectors(network.user_queries(rows))
    return kept


def _array(folder: Path, name: str) -> Path:
    return folder / f"retrieval_{name.lower()}.npy"
