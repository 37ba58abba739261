"""The full model on every item: the answer that retrieval is measured against, and itself enough for few items.

Legend: B users, C items, I items of the catalogue, Q width of a query.
"""

from collections.abc import Sequence

import numpy as np

from ncf.serving.network import Floats, Network, Rows
from ncf.serving.top import best

_SCORES_AT_ONCE = 2**21
_ITEMS_AT_ONCE = 2**13


class Exact:
    """`top` by scoring the catalogue, or the items that are allowed, whole."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def top(
        self,
        queries_BQ: Floats,
        k: int,
        hidden: Sequence[Rows],
        allowed: Rows | None = None,
        users: Rows | None = None,  # noqa: ARG002 - as `Retrieval` has it
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
