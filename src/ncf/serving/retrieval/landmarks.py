"""A tower's scores as inner products, known from a few landmark items.

In: the MLP half of a network and a sample of its users and items. Out: a vector for any query, and one for
any item, whose inner product is close to the half's score; and how far off it is for this query.

The score of a tower is no inner product, but the matrix of the scores of all users and items has few
directions that matter. A sample of it gives them. A query is then known by its scores of some landmark items,
an item by its scores for some landmark users; what is left over on the landmark items, the residual, says how
well the directions serve this query. docs/retrieval.md has the error analysis.

Legend: B users, C items, F sampled users, I sampled items, Q width of a query, S of a side, R rank, L
landmark items, M landmark users.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ncf.serving.numpy_model import Branch, Floats, GmfBranch, MlpBranch, NumpyModel, Rows

Doubles = npt.NDArray[np.float64]

_USERS_AT_ONCE = 8
_NOISE_FLOOR = 1e-6
_OVERSAMPLING = 1.5


@dataclass(frozen=True)
class Landmarks:
    """What a request needs: landmark items, and the map from their scores to a vector."""

    rows_L: Rows
    means_L: Floats
    vectors_RL: Floats
    solve_LR: Floats

    def vectors(self, branch: Branch, queries_BQ: Floats, sides_LS: Floats) -> tuple[Floats, Floats]:
        """Vectors [B, R] and residuals [B] (root mean square over the landmarks) of queries of the branch."""
        known_BL: Floats = branch.scores(queries_BQ, sides_LS) - self.means_L
        vectors_BR: Floats = known_BL @ self.solve_LR
        known_BL -= vectors_BR @ self.vectors_RL
        squares_B: Floats = np.einsum("bl,bl->b", known_BL, known_BL)
        return vectors_BR, np.sqrt(squares_B / np.float32(max(1, len(self.rows_L))))


class Basis:
    """The directions of a sample of scores, strongest first: users [F, K] and items [K, I] around the items'
    means.
    """

    def __init__(self, scores_FI: Floats, rows_I: Rows) -> None:
        self.rows_I = rows_I
        self.means_I: Doubles = scores_FI.mean(axis=0, dtype=np.float64)
        centred_FI = scores_FI - self.means_I
        energy, users_FK = np.linalg.eigh(centred_FI @ centred_FI.T)
        energy, users_FK = np.maximum(energy[::-1], 0.0), users_FK[:, ::-1]
        kept = int((energy > energy[0] * 1e-9).sum())
        self.energy = energy
        self.users_FK: Doubles = users_FK[:, :kept] * np.sqrt(energy[:kept])
        self.items_KI: Doubles = (users_FK[:, :kept].T @ centred_FI) / np.sqrt(energy[:kept])[:, None]

    @property
    def rank(self) -> int:
        """K: how many directions there are at all."""
        return len(self.items_KI)

    def landmarks(self, rank: int) -> Landmarks:
        """Landmark items for the first `rank` directions.

        A query's vector is the most probable one given its landmark scores, where the sample tells how large
        each coordinate is and how much the directions left out disturb a score. With as many landmarks as
        directions the plain pseudo-inverse is off by up to twice as much.
        """
        items_RI = self.items_KI[:rank]
        places = pivots(items_RI, round(_OVERSAMPLING * rank))
        vectors_RL = items_RI[:, places]
        prior = self.energy[:rank] / len(self.users_FK)
        noise = self.energy[rank:].sum() / (len(self.users_FK) * len(self.rows_I))
        noise += _NOISE_FLOOR * float((prior @ vectors_RL**2).mean()) if len(places) else 0.0
        weighted_RL = prior[:, None] * vectors_RL
        solve_LR = np.linalg.solve(vectors_RL.T @ weighted_RL + noise * np.eye(len(places)), weighted_RL.T)
        return Landmarks(
            self.rows_I[places],
            self.means_I[places].astype(np.float32),
            np.ascontiguousarray(vectors_RL, np.float32),
            np.ascontiguousarray(solve_LR, np.float32),
        )

    def extension(self, rank: int, users: int) -> tuple[Rows, Floats]:
        """Places of M landmark users in the sample and [R + 1, M]: times their scores of any item, its vector
        and mean.

        With all sampled users it gives the items' directions as they are; fewer cost less for a large
        catalogue.
        """
        users_FR = self.users_FK[:, :rank]
        everyone = users >= len(users_FR)
        places = np.arange(len(users_FR)) if everyone else pivots(self._directions(rank), users)
        design = np.concatenate([users_FR[places], np.ones((len(places), 1))], axis=1)
        return places, np.linalg.pinv(design).astype(np.float32)

    def _directions(self, rank: int) -> Doubles:
        """[R, F]: users in units of each direction, so that none drowns the others."""
        return np.ascontiguousarray((self.users_FK[:, :rank] / np.sqrt(self.energy[:rank])).T)


def pivots(vectors_RI: Doubles, count: int) -> Rows:
    """At most `count` indices of columns of `vectors_RI` that span the others well, by pivoted QR.

    QR of R rows has R pivots. For more, it starts again on the columns that are left, so that each round adds
    another spanning set.
    """
    chosen: list[int] = []
    free = np.ones(vectors_RI.shape[1], bool)
    count = min(count, vectors_RI.shape[1])
    while len(chosen) < count:
        rest = vectors_RI.copy()
        sizes = np.einsum("ri,ri->i", rest, rest)
        enough = 1e-12 * sizes.max()
        before = len(chosen)
        for _ in range(min(len(vectors_RI), count - before)):
            place = int(np.where(free, sizes, -1.0).argmax())
            if sizes[place] <= enough or not free[place]:
                break
            # The largest remainder is the column worst explained so far; take it out of all others.
            direction = rest[:, place] / np.sqrt(sizes[place])
            rest -= np.outer(direction, direction @ rest)
            sizes = np.einsum("ri,ri->i", rest, rest)
            free[place] = False
            chosen.append(place)
        if len(chosen) == before:
            break
    return np.array(chosen, np.int64)


def sample_scores(branch: Branch, queries_FQ: Floats, sides_IS: Floats) -> Floats:
    """The half's scores [F, I], a few users at a time so that activations stay in cache."""
    scores_FI = np.empty((len(queries_FQ), len(sides_IS)), np.float32)
    for start in range(0, len(queries_FQ), _USERS_AT_ONCE):
        for item in range(0, len(sides_IS), 256):
            part, items = slice(start, start + _USERS_AT_ONCE), slice(item, item + 256)
            scores_FI[part, items] = branch.scores(queries_FQ[part], sides_IS[items])
    return scores_FI


class QueryVectors:
    """Vectors of queries, at the price of one pass of the landmark items through the tower."""

    def __init__(self, network: NumpyModel, landmarks: Landmarks | None) -> None:
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

    network: NumpyModel
    queries_MQ: Floats
    solve: Floats

    @property
    def width(self) -> int:
        """R."""
        return gmf_width(self.network) + max(1, len(self.solve))

    def __call__(self, items: Rows | slice) -> Floats:
        """[R, C] float32."""
        tower, cut = tower_of(self.network), gmf_width(self.network)
        parts = [
            branch.item_table[items].T for branch in self.network.branches if isinstance(branch, GmfBranch)
        ]
        if tower is None:
            return np.concatenate([*parts, np.zeros((1, parts[0].shape[1]), np.float32)])
        scores_MC = sample_scores(tower, self.queries_MQ[:, cut:], tower.side(tower.item_table[items]))
        return np.concatenate([*parts, self.solve @ scores_MC])


def gmf_width(network: NumpyModel) -> int:
    """How many coordinates of a query belong to the GMF half, which comes first."""
    return sum(branch.query_width for branch in network.branches if isinstance(branch, GmfBranch))


def tower_of(network: NumpyModel) -> MlpBranch | None:
    """The branch whose score is not an inner product, if there is one."""
    return next((branch for branch in network.branches if isinstance(branch, MlpBranch)), None)
