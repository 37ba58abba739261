"""How many directions, landmarks, candidates and lists a catalogue needs: found out by measuring.

In: a network, and what its users have used. Out: the parts of a `Retriever` and its recall@10.

Two samples of users are drawn: one to find the directions of the tower's scores, one to judge. The rank is
the one whose request is cheapest at a recall of .9999 over a sample of items; then item vectors are made for
the whole catalogue, a piece at a time, and the number of candidates is the smallest that gives that recall
against exact scoring of the whole catalogue. Every step costs a bounded number of pairs: a few million for a
catalogue of thousands, some seconds, and minutes for ten million items. One product a rank tells how deep the
candidates of each query lie, so no number of them is tried out.

Legend: F users of the first sample, M of the second, I items, S sampled items, R rank, Q width of a query.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from ncf.data import Csr
from ncf.runtime import seed_of
from ncf.serving.numpy_model import Floats, GmfBranch, NumpyModel, Rows
from ncf.serving.retrieval.brute_force import BruteForce
from ncf.serving.retrieval.index import Index, Scan, padded
from ncf.serving.retrieval.ivf import IvfIndex, faiss_is_there, pieces
from ncf.serving.retrieval.landmarks import (
    Basis,
    ItemVectors,
    Landmarks,
    QueryVectors,
    gmf_width,
    sample_scores,
    tower_of,
)

K = 10
_WANTED, _MARGIN, _USUAL, _LEAST = 0.9999, 1.5, 0.99, 0.999
_WANTED_OF_LISTS = (
    0.9995  # a byte a coordinate now and then misjudges one item by far; no number of candidates is worth it
)
_PROBED_SHARE = 4  # lists are worth it where at most a quarter of them is looked through
_SAMPLED_USERS, _JUDGES, _SAMPLED_ITEMS = 256, 200, 2048
_LANDMARK_PAIRS = 10**6
_JUDGED_PAIRS, _MOST_JUDGED_PAIRS = 3 * 10**6 // 2, 10**8
_ENOUGH_JUDGES, _FEWEST_JUDGES = 100, 32
_RANKS = (4, 8, 12, 16, 24, 32, 48, 64, 96)
_CANDIDATES = (25, 32, 40, 50, 65, 80, 100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400, 3200)
_PROBES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
_LANDMARK_SECONDS, _CANDIDATE_SECONDS, _FLOAT_SECONDS = 4e-7, 6e-7, 1.2e-10
_FEW_ITEMS, _SCANNED_ITEMS = 2048, 150_000
_USERS_AT_ONCE = 8


@dataclass(frozen=True)
class IndexCalibration:
    """The parts of a retrieval. `limit` is a residual that few judges exceed; beyond it a query is unlike
    them.
    """

    landmarks: Landmarks | None
    index: Index
    candidates: int
    limit: float
    recall: float


@dataclass(frozen=True)
class QuerySample:
    """Known users, and after every two of them a mixture of users that stands for a visitor; items that they
    hide.
    """

    vectors_BW: Floats
    hidden: list[Rows]

    @classmethod
    def of(
        cls, network: NumpyModel, user_rows: Rows, seen: Csr, random: np.random.Generator
    ) -> "QuerySample":
        """One and a half times as many as `user_rows`."""
        mixed = len(user_rows) // 2
        parts = network.user_vectors(random.choice(user_rows, 3 * mixed)).reshape(mixed, 3, network.width)
        weights = random.dirichlet([1.0] * 3, mixed).astype(np.float32)
        known = network.user_vectors(user_rows)
        order = np.argsort(np.concatenate([np.arange(len(known)), 2.0 * np.arange(mixed) + 1.5]))
        hidden: list[Rows] = [np.asarray(seen.row(int(row))) for row in user_rows]
        return cls(
            np.concatenate([known, np.einsum("bn,bnw->bw", weights, parts)])[order],
            [(hidden + hidden[:mixed])[place] for place in order],
        )

    def first(self, count: int) -> "QuerySample":
        """The first few."""
        return QuerySample(self.vectors_BW[:count], self.hidden[:count])


@dataclass(frozen=True)
class CalibrationQueries:
    """Users whose exact answer is known: queries, items they have used, and their best rows [M, K], -1 where
    none.
    """

    queries_MQ: Floats
    hidden: list[Rows]
    best_MK: Rows

    @classmethod
    def of(cls, network: NumpyModel, people: "QuerySample", items: Rows | None) -> "CalibrationQueries":
        """With exact answers over the catalogue, or over `items`."""
        queries_MQ = network.queries(people.vectors_BW)
        scores, rows = BruteForce(network).top(queries_MQ, K, people.hidden, items)
        return cls(queries_MQ, people.hidden, np.where(scores > -np.inf, rows, -1))

    def recall(self, index: Index, vectors_MR: Floats, n: int) -> float:
        """Share of the exact best K among the `n` candidates, which the full model then puts in order."""
        found = 0
        for part in self._parts():
            rows_BN, alive_BN = index.search(vectors_MR[part], n, self.hidden[part])
            found_BN = np.where(alive_BN, rows_BN, -2)
            found += int((self.best_MK[part][:, :, None] == found_BN[:, None]).any(axis=2).sum())
        return found / max(1, int((self.best_MK >= 0).sum()))

    def recall_of(self, index: Index, vectors_MR: Floats) -> Callable[[int], float]:
        """`recall` of any number of candidates; a scan is gone through once for all of them."""
        if not isinstance(index, Scan):
            return partial(self.recall, index, vectors_MR)
        depths = [
            index.depths(vectors_MR[part], self.best_MK[part], self.hidden[part]) for part in self._parts()
        ]
        sorted_depths = np.sort(
            np.concatenate([np.zeros((0, self.best_MK.shape[1]), np.int64), *depths])[self.best_MK >= 0]
        )
        return lambda n: int(np.searchsorted(sorted_depths, n, side="right")) / max(1, len(sorted_depths))

    def _parts(self) -> list[slice]:
        starts = range(0, len(self.queries_MQ), _USERS_AT_ONCE)
        return [slice(start, start + _USERS_AT_ONCE) for start in starts]


def fit(network: NumpyModel, seen: Csr, seed: int) -> IndexCalibration | None:
    """None where scoring everything is as cheap."""
    if _exact_is_cheap(network):
        return None
    random = np.random.default_rng(seed_of(seed, "retrieval"))
    users_F, users_M = _two_samples(random, network.users)
    people = QuerySample.of(network, users_M, seen, random)
    items_S = np.sort(random.permutation(network.items)[:_SAMPLED_ITEMS])
    queries_FQ = network.queries(QuerySample.of(network, users_F, seen, random).vectors_BW)
    basis = _basis(network, queries_FQ, items_S)
    rank = 0
    if basis is not None:
        rank = _cheapest_rank(network, basis, CalibrationQueries.of(network, people, items_S))
    vectors = QueryVectors(network, basis.landmarks(rank) if basis is not None else None)
    item_vectors = _item_vectors(network, basis, rank, queries_FQ)
    many = max(_ENOUGH_JUDGES, _JUDGED_PAIRS // network.items)
    few = people.first(min(many, max(_FEWEST_JUDGES, _MOST_JUDGED_PAIRS // network.items)))
    judges = CalibrationQueries.of(network, few, None)
    if network.items > _SCANNED_ITEMS and faiss_is_there():
        index = IvfIndex.build(item_vectors, network.items, vectors(queries_FQ)[0], random)
        fitted = _calibrated(vectors, index, judges, network.items)
        if fitted.recall >= _LEAST and index.probes * _PROBED_SHARE <= index.lists:
            return fitted
    return _calibrated(vectors, _scan(item_vectors), judges, network.items)


def _exact_is_cheap(network: NumpyModel) -> bool:
    if tower_of(network) is None:
        return network.items <= _SCANNED_ITEMS
    return network.items <= _FEW_ITEMS


def _two_samples(random: np.random.Generator, users: int) -> tuple[Rows, Rows]:
    """Disjoint while there are enough users; a few users serve as both."""
    order = random.permutation(users)
    if users < 2 * K:
        return order, order
    first = min(_SAMPLED_USERS, 2 * users // 3)
    return order[:first], order[first : first + _JUDGES]


def _basis(network: NumpyModel, queries_FQ: Floats, items_S: Rows) -> Basis | None:
    tower = tower_of(network)
    if tower is None:
        return None
    sides_S = tower.side(tower.item_table[items_S])
    return Basis(sample_scores(tower, queries_FQ[:, gmf_width(network) :], sides_S), items_S)


def _cheapest_rank(network: NumpyModel, basis: Basis, judges: CalibrationQueries) -> int:
    """Judged on the sampled items; n candidates of the catalogue are a share of n of them."""
    share = len(basis.rows_I) / network.items
    gmf_RS = [
        branch.item_table[basis.rows_I].T for branch in network.branches if isinstance(branch, GmfBranch)
    ]
    best, least = 0, np.inf
    for rank in sorted({min(rank, basis.rank) for rank in _RANKS}):
        landmarks = basis.landmarks(rank)
        width = gmf_width(network) + rank
        fixed = (
            len(landmarks.rows_L) * _LANDMARK_SECONDS
            + width * min(network.items, _SCANNED_ITEMS) * _FLOAT_SECONDS
        )
        if fixed >= least:
            break
        items_RS = np.concatenate([*gmf_RS, basis.items_KI[:rank], basis.means_I[None]])
        index = Scan(padded(items_RS), len(basis.rows_I), basis.rows_I)
        vectors_MR, _ = QueryVectors(network, landmarks)(judges.queries_MQ)
        n = _smallest(_CANDIDATES, judges.recall_of(index, vectors_MR), share)
        cost = fixed + _MARGIN * n * _CANDIDATE_SECONDS
        if cost < least:
            best, least = rank, cost
    return best


def _smallest(
    ladder: Sequence[int], recall_of: Callable[[int], float], share: float = 1.0, wanted: float = _WANTED
) -> int:
    """The smallest step with the wanted recall, which grows along the ladder; the last where none has it.

    With a `share`, each step is that share of itself and K at least.
    """

    def enough(step: int) -> bool:
        return recall_of(step if share == 1.0 else max(K, round(step * share))) >= wanted

    return ladder[min(bisect_left(ladder, True, key=enough), len(ladder) - 1)]


def _item_vectors(network: NumpyModel, basis: Basis | None, rank: int, queries_FQ: Floats) -> ItemVectors:
    if basis is None:
        return ItemVectors(network, queries_FQ[:0], np.zeros((0, 0), np.float32))
    users = max(3 * (rank + 1), _LANDMARK_PAIRS // network.items)
    places, solve = basis.extension(rank, users)
    return ItemVectors(network, queries_FQ[places], solve)


def _scan(item_vectors: ItemVectors) -> Scan:
    """Every item's vector; also where lists would not do, as the items lie in no clusters."""
    items = item_vectors.network.items
    items_RI = np.empty((item_vectors.width, items), np.float32)
    for part in pieces(items):
        items_RI[:, part] = item_vectors(part)
    return Scan(padded(items_RI), items)


def _calibrated(
    vectors: QueryVectors, index: Index, judges: CalibrationQueries, items: int
) -> IndexCalibration:
    vectors_MR, residuals_M = vectors(judges.queries_MQ)
    if isinstance(index, IvfIndex):
        _choose_probes(index, judges, vectors_MR)
    ladder = [n for n in _CANDIDATES if n < items]
    recall_of = judges.recall_of(index, vectors_MR)
    lists = isinstance(index, IvfIndex)
    wanted, margin = (_WANTED_OF_LISTS, 2 * _MARGIN) if lists else (_WANTED, _MARGIN)
    n = min(items, round(margin * _smallest(ladder, recall_of, wanted=wanted)))
    limit = float(np.quantile(residuals_M, _USUAL)) if len(residuals_M) else 0.0
    return IndexCalibration(vectors.landmarks, index, n, limit, recall_of(n))


def _choose_probes(index: IvfIndex, judges: CalibrationQueries, vectors_MR: Floats) -> None:
    """The fewest lists in which the best are, however many candidates that takes; where a search of too few
    lists would go on to more of them, that does not count.
    """
    ladder = [probes for probes in _PROBES if probes <= index.lists] or [index.lists]

    def recall_of(probes: int) -> float:
        index.probes = probes
        return judges.recall(index, vectors_MR, _CANDIDATES[-1])

    index.widens = False
    probes = _smallest(ladder, recall_of, wanted=_WANTED_OF_LISTS)
    index.probes, index.widens = min(index.lists, round(_MARGIN * probes)), True
