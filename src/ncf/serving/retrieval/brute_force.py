"""Similar items: those whose vectors point the same way, half by half of the model.

The similarity of two items is the mean over the model's halves of the cosine of their sides (the item's vector for
GMF, its half of the first layer for MLP), so neither half drowns the other.

Legend: I items, S width of a half's side.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ncf.serving.numpy_model import Floats, NumpyModel, Rows

_SCORES_AT_ONCE = 2**21
_ITEMS_AT_ONCE = 2**13


class BruteForce:
    """`top` by scoring the catalogue, or the items that are allowed, whole."""

    def __init__(self, network: NumpyModel) -> None:
        self._network = network

    def top(
        self,
        queries_BQ: Floats,
        k: int,
        hidden: Sequence[Rows],
        allowed: Rows | None = None,
        users: Rows | None = None,  # noqa: ARG002 - as `Retriever` has it
    ) -> tuple[Floats, Rows]:
        """Scores float32 and item rows int64, both [B, min(k, items)], best first; minus infinity fills up."""
        items = self._network.items if allowed is None else len(allowed)
        rows = np.arange(items) if allowed is None else np.asarray(allowed, np.int64)
        scores_BK = np.empty((len(queries_BQ), min(k, items)), np.float32)
        rows_BK = np.empty(scores_BK.shape, np.int64)
        step = max(1, _SCORES_AT_ONCE // max(1, items))
        for start in range(0, len(queries_BQ), step):
            part = slice(start, start + step)
            scores_BC = self._scores(queries_BQ[part], allowed)
            for scores_C, out in zip(scores_BC, hidden[part], strict=True):
                scores_C[out if allowed is None else places_of(out, rows)] = -np.inf
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


def places_of(rows: Rows, sorted_rows: Rows) -> Rows:
    """Where those of `rows` that are among `sorted_rows` stand there."""
    if not len(sorted_rows):
        return np.empty(0, np.int64)
    places = np.minimum(np.searchsorted(sorted_rows, rows), len(sorted_rows) - 1)
    return np.asarray(places[sorted_rows[places] == rows])


_LOW = np.int64(0xFFFFFFFF)
_FEW = 512  # for one user a plain sort is faster up to here
_MAGNITUDE = np.int32(0x7FFFFFFF)


def best(scores_BC: Floats, rows: Rows, k: int) -> tuple[Floats, Rows]:
    """Scores float32 and rows int64, both [B, min(k, C)], of `rows` [C] or [B, C] below 2**32, best first."""
    count = scores_BC.shape[1]
    k = min(k, count)
    if len(scores_BC) == 1 and count <= _FEW:
        rows_C = rows if rows.ndim == 1 else rows[0]
        order = np.lexsort((rows_C, -scores_BC[0]))[:k]
        return scores_BC[:, order], rows_C[order].astype(np.int64, copy=False)[None]
    keys = _keys(scores_BC, rows)
    if k < count:
        keys = np.partition(keys, count - k, axis=1)[:, count - k :]
    keys = np.sort(keys, axis=1)[:, ::-1]
    high = (keys >> 32).astype(np.int32)
    return _flipped(high).view(np.float32), _LOW - (keys & _LOW)


def _keys(scores_BC: Floats, rows: Rows) -> npt.NDArray[np.int64]:
    """[B, C]: the score's bits in an order of integers above, the row counted from the end below."""
    bits = (scores_BC + np.float32(0)).view(np.int32)
    return (_flipped(bits).astype(np.int64) << 32) | (_LOW - rows)


def _flipped(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Float bits to integers of the same order, and back: negative numbers have their magnitude turned around."""
    return bits ^ ((bits >> 31) & _MAGNITUDE)


_SIMILAR_ITEMS_AT_ONCE = 65_536


class Similar:
    """Cosines with one item; the norms of all items are computed at the first question."""

    def __init__(self, network: NumpyModel) -> None:
        self._network = network
        self._inverse_norms: list[Floats] | None = None

    def top(self, row: int, k: int, hidden: Rows, allowed: Rows | None = None) -> tuple[Floats, Rows]:
        """Scores and rows of the best `k` of `allowed` (None: all) without `hidden`; minus infinity fills up."""
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
            sides = self._sides(part)
            of_halves = [side @ one * norm[part] for side, one, norm in zip(sides, own, norms, strict=True)]
            cosine_I[part] = np.mean(of_halves, axis=0)
        return cosine_I

    def _sides(self, items: Rows | slice) -> list[Floats]:
        """What tells items apart: the sides without the items' biases."""
        halves = self._network.halves
        sides = self._network.sides(items)
        return [side[:, : half.similar_width] for half, side in zip(halves, sides, strict=True)]

    def _norms(self) -> list[Floats]:
        """1 / |side| of each half, [I]; zero for an item without direction."""
        if self._inverse_norms is None:
            parts = [
                [np.sqrt(np.einsum("cs,cs->c", side, side)) for side in self._sides(part)]
                for part in self._parts()
            ]
            norms = [np.concatenate(of_half) for of_half in zip(*parts, strict=True)]
            self._inverse_norms = [
                np.divide(1, norm, out=np.zeros_like(norm), where=norm > 0) for norm in norms
            ]
        return self._inverse_norms

    def _parts(self) -> list[slice]:
        return [
            slice(at, at + _SIMILAR_ITEMS_AT_ONCE)
            for at in range(0, self._network.items, _SIMILAR_ITEMS_AT_ONCE)
        ]


class PopularityRanker:
    """The items by popularity, sorted once."""

    def __init__(self, popularity_I: npt.NDArray[np.integer]) -> None:
        self._scores_I = popularity_I.astype(np.float32)
        self._order = np.argsort(-self._scores_I, kind="stable").astype(np.int32)

    def top(self, k: int, hidden: Rows, allowed: Rows | None = None) -> tuple[Floats, Rows]:
        """Scores and rows of the best `k` of `allowed` (None: all) without `hidden`, or of as many as are left."""
        if allowed is not None:
            left = np.setdiff1d(allowed, hidden)
            rows = left[np.argsort(-self._scores_I[left], kind="stable")[:k]]
        else:
            rows = self._order[: k + len(hidden)]
            rows = rows[np.isin(rows, hidden, invert=True)][:k]
        return self._scores_I[rows], rows
