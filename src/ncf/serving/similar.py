"""Similar items: those whose vectors point the same way, half by half of the model.

The similarity of two items is the mean over the model's halves of the cosine of their sides (the item's vector for
GMF, its half of the first layer for MLP), so neither half drowns the other.

Legend: I items, S width of a half's side.
"""

import numpy as np

from ncf.serving.network import Floats, Network, Rows
from ncf.serving.top import best

_ITEMS_AT_ONCE = 65_536


class Similar:
    """Cosines with one item; the norms of all items are computed at the first question."""

    def __init__(self, network: Network) -> None:
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
        return [slice(at, at + _ITEMS_AT_ONCE) for at in range(0, self._network.items, _ITEMS_AT_ONCE)]
