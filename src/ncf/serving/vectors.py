"""Vectors of queries and items whose inner product is close to the model's score.

In: queries of a network, rows of items. Out: vectors [B, R] of queries and [R, C] of items. What is an inner product
already, the GMF half, is taken over as it is and stays exact; the tower's score comes through landmarks. The last
coordinate is 1 for a query and the tower's mean score for an item.

Legend: B users, C items, Q width of a query, R width of a vector, M landmark users.
"""

from dataclasses import dataclass

import numpy as np

from ncf.serving.landmarks import Landmarks, sample_scores
from ncf.serving.network import Floats, GmfHalf, MlpHalf, Network, Rows


class QueryVectors:
    """Vectors of queries, at the price of one pass of the landmark items through the tower."""

    def __init__(self, network: Network, landmarks: Landmarks | None) -> None:
        self.landmarks = landmarks
        self._cut = gmf_width(network)
        self._tower = tower_of(network)
        if self._tower is not None and landmarks is not None:
            self._sides_LS = self._tower.side(self._tower.item_table[landmarks.rows_L])

    @property
    def width(self) -> int:
        """R."""
        return self._cut + 1 + (0 if self.landmarks is None else len(self.landmarks.vectors_RL))

    def __call__(self, queries_BQ: Floats) -> tuple[Floats, Floats]:
        """Vectors [B, R] and residuals [B], zero where there is no tower."""
        parts = [queries_BQ[:, : self._cut], np.ones((len(queries_BQ), 1), np.float32)]
        residuals_B = np.zeros(len(queries_BQ), np.float32)
        if self._tower is not None and self.landmarks is not None:
            vectors, residuals_B = self.landmarks.vectors(
                self._tower, queries_BQ[:, self._cut :], self._sides_LS
            )
            parts.insert(1, vectors)
        return np.concatenate(parts, axis=1), residuals_B


@dataclass(frozen=True)
class ItemVectors:
    """Vectors of any items from the scores that landmark users give them; used while an index is built."""

    network: Network
    queries_MQ: Floats
    solve: Floats

    @property
    def width(self) -> int:
        """R."""
        return gmf_width(self.network) + max(1, len(self.solve))

    def __call__(self, items: Rows | slice) -> Floats:
        """[R, C] float32."""
        tower, cut = tower_of(self.network), gmf_width(self.network)
        parts = [half.item_table[items].T for half in self.network.halves if isinstance(half, GmfHalf)]
        if tower is None:
            return np.concatenate([*parts, np.zeros((1, parts[0].shape[1]), np.float32)])
        scores_MC = sample_scores(tower, self.queries_MQ[:, cut:], tower.side(tower.item_table[items]))
        return np.concatenate([*parts, self.solve @ scores_MC])


def gmf_width(network: Network) -> int:
    """How many coordinates of a query belong to the GMF half, which comes first."""
    return sum(half.query_width for half in network.halves if isinstance(half, GmfHalf))


def tower_of(network: Network) -> MlpHalf | None:
    """The half that is no inner product."""
    return next((half for half in network.halves if isinstance(half, MlpHalf)), None)
