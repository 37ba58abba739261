"""Fold-in: the vector of a visitor who was not in training, from the items that a request brings.

In: the network and the training users' items. Out: a linear map from what a history's item vectors look like
to a user vector, fitted to the training users, whose vectors are known. Items and layers stay as they are.

    v = M' [ m n/(n + 2) ; m n/(n + 20) ; m n/(n + 200) ; log(1 + n) ; 1 / (1 + n) ; 1 ]
    m = mean of the n item vectors

M is the ridge regression of the trained user vectors on these features, over all training users with their
whole histories and, as short histories are what visitors have, with random parts of them. n/(n + t) is how
far a mean of n observations is to be trusted against a prior worth t of them; with three of them M chooses
the trust by length.

The one decision worth knowing: nothing is optimised in a request. The best linear guess of the trained vector
from a history is a row times a matrix: microseconds, the same arithmetic for GMF, MLP and NeuMF, and a few
hundred kilobytes (and a byte an item) however large the catalogue is. docs/fold_in.md has how it was judged.

Of a history-aware model only the own part is guessed: what its first half makes of a history is what it was
trained with (`models/history.py`, `models/attention.py`), a look-up, and M is fitted to what that leaves
over. Where the order of a history counts it is oldest first, and what a known user used before ages by what
is new.

Legend: B histories, U users, I items, N items of all histories, W width of a user vector, E width of all item
tables, F features.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ncf.data import Csr
from ncf.runtime import seed_of
from ncf.serving.consistency import is_finite
from ncf.serving.history_embedding import Ages, HistoryEmbedding, last_of_each
from ncf.serving.numpy_model import Floats, NumpyModel, Rows

_TRUSTS = (2.0, 20.0, 200.0)
_RIDGE = 1e-2
_LENGTH_EXPONENT = 0.5
_PARTS = 4
_USERS_AT_MOST = 20_000
_USERS_AT_ONCE = 512
_TINY = 1e-9
Indices = npt.NDArray[np.int64]


class FoldIn:
    """`map_FW` [F, W], and `informative_I` [I] bool: the items that any training user has."""

    DOCUMENT = "fold_in_map.npy"
    """The file without which there is none in an artifact."""

    def __init__(
        self,
        network: NumpyModel,
        map_FW: Floats,
        informative_I: npt.NDArray[np.bool_],
        embedding: HistoryEmbedding | None = None,
    ) -> None:
        self._tables = [branch.item_table for branch in network.branches]
        self._map_FW, self._informative_I, self.embedding = map_FW, informative_I, embedding

    @classmethod
    def build(
        cls,
        network: NumpyModel,
        seen: Csr,
        seed: int,
        embedding: HistoryEmbedding | None = None,
        known: Csr | None = None,
    ) -> "FoldIn":
        """Fit the map to the users of `network` and their items `seen`; at most 20,000 users, drawn with
        `seed`.

        With a look-up the map is fitted to what it leaves over, the own parts. One with ages needs the items
        `known` of each user that they belong to.
        """
        informative_I = np.zeros(network.items, np.bool_)
        informative_I[seen.columns] = True

        def own(users: Rows) -> Floats:
            return own_vectors(network, users, seen, embedding, known)

        tables = [branch.item_table for branch in network.branches]
        return cls(network, fit_map(tables, network.width, seen, seed, own), informative_I, embedding)

    def save(self, folder: Path) -> None:
        """Write `fold_in_map.npy` and `fold_in_informative.npy`; a look-up is kept for itself."""
        np.save(folder / self.DOCUMENT, self._map_FW, allow_pickle=False)
        np.save(folder / "fold_in_informative.npy", self._informative_I, allow_pickle=False)

    @classmethod
    def open(cls, folder: Path, network: NumpyModel) -> "FoldIn":
        """Map what `save` wrote. Raises `OSError` or `ValueError` where it cannot be read, or belongs to
        another network.
        """
        map_FW, informative_I = (
            np.load(folder / f"fold_in_{name}.npy", mmap_mode="r", allow_pickle=False).view(np.ndarray)
            for name in ("map", "informative")
        )
        opened = cls(network, map_FW, informative_I, HistoryEmbedding.open(folder))
        vectors_BW = opened._guessed([np.zeros(min(1, network.items), np.int64)])
        if vectors_BW.shape[1:] != network.user_vectors(np.zeros(0, np.int64)).shape[1:]:
            raise ValueError("fold_in_map.npy does not belong to this model")
        if len(informative_I) != network.items or not is_finite(map_FW):
            raise ValueError("fold_in_informative.npy does not belong to these items")
        return opened

    def vector(self, history: Rows) -> Floats:
        """[W] of a visitor with these items, oldest first; repeats do not matter, and order only in some
        models.
        """
        vectors_BW = self.vectors([history])
        return np.asarray(vectors_BW[0])

    def vectors(self, histories: Sequence[Rows]) -> Floats:
        """[B, W] of visitors."""
        kept = [self.informative(history) for history in histories]
        vectors_BW = self._guessed(kept)
        if self.embedding is not None:
            for vector_W, rows in zip(vectors_BW, kept, strict=True):
                found_D = self.embedding.vector(rows)
                vector_W[: len(found_D)] += found_D
        return vectors_BW

    def _guessed(self, kept: Sequence[Rows]) -> Floats:
        """[B, W]: what the map makes of histories of informative rows."""
        return guess(self._tables, self._map_FW, kept)

    def own(self, histories: Sequence[Rows]) -> Floats:
        """[B, W] of visitors, without what a look-up adds to their vectors."""
        return self._guessed([self.informative(history) for history in histories])

    def updated(self, vector: Floats, seen: Rows, history: Rows, ages: Ages | None = None) -> Floats:
        """[W] of a known user: the trained `vector`, moved by what the new items of `history` add to `seen`.

        `ages`: of `seen` in the trained history, where the order counts (`HistoryEmbedding.ages_of`).
        Then an item that was seen before counts anew as well.
        """
        known, new = self.informative(seen), self.informative(history)
        both = np.union1d(known, new)
        if not len(new) or (ages is None and len(both) == len(known)):
            return vector
        if not len(known):
            return self.vector(new)
        before, after = self._guessed([known, both])
        moved = np.asarray(vector + (after - before), np.float32)
        if self.embedding is not None:
            embedding = self.embedding
            if embedding.whole:
                assert ages is not None
                moved[: embedding.table_ID.shape[1]] = embedding.after(seen, ages, new)
                return moved
            change_D = (
                embedding.vector(both) - embedding.vector(known)
                if ages is None
                else embedding.change(seen, ages, new)
            )
            moved[: len(change_D)] += change_D
        return moved

    def informative(self, rows: Rows) -> Rows:
        """Those of the rows that any training user has, once each; others say nothing of a visitor.

        Ascending, or where the order of a history counts in the order of their last occurrence.
        """
        rows = np.asarray(rows)
        in_order = self.embedding is not None and self.embedding.in_order
        rows = last_of_each(rows) if in_order else np.unique(rows)
        return rows[self._informative_I[rows]]


def guess(tables: list[Floats], map_FW: Floats, histories: Sequence[Rows]) -> Floats:
    """[B, W]: what a map of `fit_map` makes of histories of rows of the `tables`."""
    counts_B = np.array([len(rows) for rows in histories], np.float32)
    return np.asarray(_features(_sums(tables, histories), counts_B) @ map_FW)


def _features(sums_BE: Floats, counts_B: npt.NDArray[Any]) -> Floats:
    """[B, F] of the sums and numbers of the item vectors of histories."""
    counts_B1 = counts_B.astype(np.float32)[:, None]
    blocks = [sums_BE / (counts_B1 + trust) for trust in _TRUSTS]
    lengths = [np.log1p(counts_B1), 1 / (1 + counts_B1), np.ones_like(counts_B1)]
    return np.concatenate([*blocks, *lengths], axis=1)


def _sums(tables: list[Floats], histories: Sequence[Rows]) -> Floats:
    """[B, E]: the sum of the item vectors of each history."""
    sums_BE = np.empty((len(histories), sum(table.shape[1] for table in tables)), np.float32)
    for sums_E, rows in zip(sums_BE, histories, strict=True):
        np.concatenate([np.add.reduce(table[rows], axis=0) for table in tables], out=sums_E)
    return sums_BE


def own_vectors(
    network: NumpyModel, users: Rows, seen: Csr, embedding: HistoryEmbedding | None, known: Csr | None
) -> Floats:
    """[B, W] of training users, without what a look-up adds; `known` is as in `FoldIn.build`."""
    vectors_BW = network.user_vectors(users)
    if embedding is not None:
        if embedding.whole:
            vectors_BW[:, : embedding.table_ID.shape[1]] = 0
            return vectors_BW
        for user, vector_W in zip(users.tolist(), vectors_BW, strict=True):
            found_D = _trained(embedding, user, seen, known)
            vector_W[: len(found_D)] -= found_D
    return vectors_BW


def _trained(embedding: HistoryEmbedding, user: int, seen: Csr, known: Csr | None) -> Floats:
    """[D]: the look-up's part of a training user's vector."""
    if embedding.ages_N is None:
        return embedding.trained(seen.row(user), None)
    assert known is not None
    span = slice(int(known.offsets[user]), int(known.offsets[user + 1]))
    return embedding.trained(known.row(user), embedding.ages_of(span))


def fit_map(tables: list[Floats], wanted: int, seen: Csr, seed: int, own: Callable[[Rows], Floats]) -> Floats:
    """[F, W] from histories `seen` of rows of the `tables` to what `own` says of users, [B, `wanted`].

    By the normal equations; a ridge of a hundredth of each feature's own square keeps them regular.
    """
    width = sum(table.shape[1] for table in tables) * len(_TRUSTS) + 3
    gram_FF, moments_FW = np.zeros((width, width)), np.zeros((width, wanted))
    random = np.random.default_rng(seed_of(seed, "fold-in"))
    users = np.flatnonzero(seen.counts)
    if len(users) > _USERS_AT_MOST:
        users = np.sort(random.choice(users, _USERS_AT_MOST, replace=False))
    for start in range(0, len(users), _USERS_AT_ONCE):
        part = users[start : start + _USERS_AT_ONCE]
        owners_B, counts_B, sums_BE = _beginnings(tables, [seen.row(user) for user in part], random)
        features_BF = _features(sums_BE, counts_B)
        weighted_FB = (features_BF * (1 + counts_B[:, None]) ** _LENGTH_EXPONENT).astype(np.float32).T
        gram_FF += weighted_FB @ features_BF
        moments_FW += weighted_FB @ own(part)[owners_B]
    diagonal = np.einsum("ff->f", gram_FF)
    diagonal += _RIDGE * diagonal + _TINY
    return np.linalg.solve(gram_FF, moments_FW).astype(np.float32)


def _beginnings(
    tables: list[Floats], histories: Sequence[Rows], random: np.random.Generator
) -> tuple[Indices, Indices, Floats]:
    """Beginnings of histories (none empty) in random order, some log-uniform, none and all of each.

    Places of the histories they are of [B], lengths [B] and sums [B, E].
    """
    counts_U = np.array([len(rows) for rows in histories])
    drawn, shuffled = zip(
        *((random.random(_PARTS), random.permutation(rows)) for rows in histories), strict=True
    )
    cuts_UP = np.exp(np.array(drawn) * np.log1p(counts_U)[:, None]).astype(np.int64)
    cuts_UP = np.sort(np.minimum(cuts_UP, counts_U[:, None]), axis=1)
    lengths_UL = np.column_stack([np.zeros_like(counts_U), cuts_UP, counts_U])
    # Each step goes from one length to the next; where they are equal there is nothing to add.
    steps_US = np.diff(lengths_UL, axis=1)
    starts = ((np.cumsum(counts_U) - counts_U)[:, None] + lengths_UL[:, :-1])[steps_US > 0]
    rows = np.concatenate(shuffled)
    sums_ULE = np.zeros((*lengths_UL.shape, sum(table.shape[1] for table in tables)), np.float32)
    added = [np.add.reduceat(table[rows], starts, axis=0) for table in tables]
    sums_ULE[:, 1:][steps_US > 0] = np.concatenate(added, axis=1)
    np.cumsum(sums_ULE, axis=1, out=sums_ULE)
    distinct_UL = np.column_stack([np.ones(len(histories), np.bool_), steps_US > 0])
    return np.nonzero(distinct_UL)[0], lengths_UL[distinct_UL], sums_ULE[distinct_UL]
