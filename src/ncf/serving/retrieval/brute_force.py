"""The best k of scored items: by the full model on every item, by cosine to an item, or by popularity.

In: queries of users, and the items that may (`allowed`) or may not (`hidden`) appear. Out: scores and item
rows, best first; equal scores are in the order of their item rows, and minus infinity marks items that may
not appear. The full model on every item is the reference that `Retriever` is measured against, and is fast
enough for small catalogues.

The one decision worth knowing: `best` packs score and row into one integer that is larger the better the item
is. Integers are unique, so one partition and one sort give the whole order, ties included, for all users at
once.

Legend: B users, C scored items of a user, I items of the catalogue, K items wanted, Q width of a query, S
width of a branch's side.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ncf.serving.numpy_model import Floats, NumpyModel, Rows

_SCORES_AT_ONCE = 2**21
_ITEMS_AT_ONCE = 2**13
_SIMILAR_ITEMS_AT_ONCE = 2**16
_SORTED_WHOLE = 512  # For one user a plain sort is faster up to this many items.
_LOW_32 = np.int64(0xFFFFFFFF)
_MAGNITUDE = np.int32(0x7FFFFFFF)


class Ranker(Protocol):
    """Ranks the items of a catalogue for users; `BruteForce` and `Retriever` do.

    `PopularityRanker` and `Similar` answer for one user or item that has no query, so they are not of this
    kind.
    """

    def top(
        self,
        queries_BQ: Floats,
        k: int,
        hidden: Sequence[Rows],
        allowed: Rows | None = None,
        users: Rows | None = None,
    ) -> tuple[Floats, Rows]:
        """Scores float32 and item rows int64, both [B, min(k, items)], best first; minus infinity fills up.

        Args:
            queries_BQ: the users' queries (`NumpyModel.queries`).
            k: how many items each user gets.
            hidden: for each user the item rows that must not appear.
            allowed: the only item rows that may appear for any user (unique, ascending); None for all.
            users: the rows of the users where all are known; it may save computing what is stored of them.
        """


class BruteForce:
    """A `Ranker` that scores every item that may appear."""

    def __init__(self, network: NumpyModel) -> None:
        self._network = network

    def top(
        self,
        queries_BQ: Floats,
        k: int,
        hidden: Sequence[Rows],
        allowed: Rows | None = None,
        users: Rows | None = None,
    ) -> tuple[Floats, Rows]:
        """See `Ranker.top`."""
        del users  # Nothing is stored of known users: scoring needs their queries only.
        items = self._network.items if allowed is None else len(allowed)
        rows = np.arange(items) if allowed is None else np.asarray(allowed, np.int64)
        scores_BK = np.empty((len(queries_BQ), min(k, items)), np.float32)
        rows_BK = np.empty(scores_BK.shape, np.int64)
        step = max(1, _SCORES_AT_ONCE // max(1, items))
        for start in range(0, len(queries_BQ), step):
            part = slice(start, start + step)
            scores_BC = self._scores(queries_BQ[part], allowed)
            for scores_C, hidden_rows in zip(scores_BC, hidden[part], strict=True):
                scores_C[hidden_rows if allowed is None else indices_of(hidden_rows, rows)] = -np.inf
            scores_BK[part], rows_BK[part] = best(scores_BC, rows, k)
        return scores_BK, rows_BK

    def _scores(self, queries_BQ: Floats, allowed: Rows | None) -> Floats:
        if allowed is None:
            return self._network.catalogue(queries_BQ)
        scores_BC = np.empty((len(queries_BQ), len(allowed)), np.float32)
        step = max(1, _ITEMS_AT_ONCE // max(1, len(queries_BQ)))
        for start in range(0, len(allowed), step):
            part = slice(start, start + step)
            scores_BC[:, part] = self._network.scores(queries_BQ, self._network.sides(allowed[part]))
        return scores_BC


def indices_of(rows: Rows, sorted_rows: Rows) -> Rows:
    """The indices in `sorted_rows` (ascending, unique) of those of `rows` that it contains."""
    if not len(sorted_rows):
        return np.empty(0, np.int64)
    indices = np.minimum(np.searchsorted(sorted_rows, rows), len(sorted_rows) - 1)
    return np.asarray(indices[sorted_rows[indices] == rows])


def best(scores_BC: Floats, rows: Rows, k: int) -> tuple[Floats, Rows]:
    """The best `k` of scored items: scores float32 and rows int64, both [B, min(k, C)], best first.

    `rows` are the item rows of the scores, [C] or [B, C], below 2**32.
    """
    count = scores_BC.shape[1]
    k = min(k, count)
    if len(scores_BC) == 1 and count <= _SORTED_WHOLE:
        rows_C = rows if rows.ndim == 1 else rows[0]
        order = np.lexsort((rows_C, -scores_BC[0]))[:k]
        return scores_BC[:, order], rows_C[order].astype(np.int64, copy=False)[None]
    keys = _keys(scores_BC, rows)
    if k < count:
        keys = np.partition(keys, count - k, axis=1)[:, count - k :]
    keys = np.sort(keys, axis=1)[:, ::-1]
    high = (keys >> 32).astype(np.int32)
    return _flipped(high).view(np.float32), _LOW_32 - (keys & _LOW_32)


def _keys(scores_BC: Floats, rows: Rows) -> npt.NDArray[np.int64]:
    """[B, C]: an integer that is larger the higher the score and, among equal scores, the smaller the row.

    The upper 32 bits are the score's own bits, made to sort as integers by `_flipped`. The lower 32 bits are
    the row counted down from 2**32 - 1, so that the largest key of equal scores has the smallest row.
    """
    # Adding zero turns -0.0 into 0.0. Both are equal as scores, but their bits are not.
    bits = (scores_BC + np.float32(0)).view(np.int32)
    return (_flipped(bits).astype(np.int64) << 32) | (_LOW_32 - rows)


def _flipped(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The bits of float32 numbers as integers in the same order; applied twice it gives the bits back.

    Bits of positive floats, read as integers, sort like the floats: the exponent is above the fraction.
    Negative floats have the sign bit set and are negative integers too, but a larger magnitude makes a larger
    integer where it should make a smaller one. So for them (`bits >> 31` is then all ones) the other 31 bits
    are inverted.
    """
    return bits ^ ((bits >> 31) & _MAGNITUDE)


class Similar:
    """Items whose vectors point the same way as an item's.

    The similarity of two items is the mean over the model's branches of the cosine of their sides (the item's
    vector for GMF, its half of the first layer for MLP), so neither branch dominates. Norms are computed by
    the first call.
    """

    def __init__(self, network: NumpyModel) -> None:
        self._network = network
        self._inverse_norms: list[Floats] | None = None

    def top(self, row: int, k: int, hidden: Rows, allowed: Rows | None = None) -> tuple[Floats, Rows]:
        """Cosines and item rows, both [min(k, items)], of the items most similar to `row`, best first.

        Rows in `hidden` do not appear, and only those in `allowed` (None: all) do; minus infinity fills up.
        """
        cosine_I = self._cosines(row)
        if allowed is not None:
            masked = np.full_like(cosine_I, -np.inf)
            masked[allowed] = cosine_I[allowed]
            cosine_I = masked
        cosine_I[hidden] = -np.inf
        scores, rows = best(cosine_I[None], np.arange(len(cosine_I))[None], k)
        return scores[0], rows[0]

    def _cosines(self, row: int) -> Floats:
        norms = self._norms()
        cosine_I = np.empty(self._network.items, np.float32)
        own = [side[0] * norm[row] for side, norm in zip(self._sides(np.array([row])), norms, strict=True)]
        for part in self._parts():
            by_branch = [
                side @ vector * norm[part]
                for side, vector, norm in zip(self._sides(part), own, norms, strict=True)
            ]
            cosine_I[part] = np.mean(by_branch, axis=0)
        return cosine_I

    def _sides(self, items: Rows | slice) -> list[Floats]:
        """The items' sides without their biases, which say nothing about a direction."""
        branches = self._network.branches
        sides = self._network.sides(items)
        return [side[:, : branch.similar_width] for branch, side in zip(branches, sides, strict=True)]

    def _norms(self) -> list[Floats]:
        """1 / |side| for each branch, [I]; zero for an item whose side is zero."""
        if self._inverse_norms is None:
            parts = [
                [np.sqrt(np.einsum("cs,cs->c", side, side)) for side in self._sides(part)]
                for part in self._parts()
            ]
            norms = [np.concatenate(by_part) for by_part in zip(*parts, strict=True)]
            self._inverse_norms = [
                np.divide(1, norm, out=np.zeros_like(norm), where=norm > 0) for norm in norms
            ]
        return self._inverse_norms

    def _parts(self) -> list[slice]:
        starts = range(0, self._network.items, _SIMILAR_ITEMS_AT_ONCE)
        return [slice(start, start + _SIMILAR_ITEMS_AT_ONCE) for start in starts]


class PopularityRanker:
    """The answer for users of whom nothing is known: items by their training interactions, sorted once."""

    def __init__(self, popularity_I: npt.NDArray[Any], trending_I: npt.NDArray[Any] | None = None) -> None:
        """`popularity_I` [I] counts the training interactions of each item, `trending_I` the latest of them.

        What is trending comes first, if it is given; of equal items the more popular, then the lower row.
        """
        self._popularity_I = popularity_I
        self._scores_I = (popularity_I if trending_I is None else trending_I).astype(np.float32)
        self._order = self._ranked(slice(None)).astype(np.int32)

    def _ranked(self, rows: Rows | slice) -> Rows:
        """The order of `rows`, which are ascending."""
        return np.lexsort((-self._popularity_I[rows], -self._scores_I[rows]))

    def top(self, k: int, hidden: Rows, allowed: Rows | None = None) -> tuple[Floats, Rows]:
        """Counts and item rows of the `k` most popular items, or of fewer where fewer are left.

        Rows in `hidden` do not appear, and only those in `allowed` (None: all) do.
        """
        if allowed is not None:
            left = np.setdiff1d(allowed, hidden)
            rows = left[self._ranked(left)[:k]]
        else:
            # At most as many rows as are hidden can drop out of the first k + hidden.
            rows = self._order[: k + len(hidden)]
            rows = rows[np.isin(rows, hidden, invert=True)][:k]
        return self._scores_I[rows], rows
