"""Nearest neighbours by cosine: items similar to the user's (ItemKNN), or items of similar users (UserKNN).

In: training interactions. Out: a scorer that is a product of two sparse matrices: histories times
similarities of items, or similarities of users times histories. The similarity of two rows is |common| /
(sqrt(n_a n_b) + shrink). With weights, rows hold those: similar are the products of two rows over (the
product of their lengths + shrink).

An item's score sums over its own neighbours that the user has (Sarwar et al.), not over the items that count
it as a neighbour (Deshpande & Karypis). The second way favours items that are everybody's neighbour, and was
worse on validation. Similarities come in parts that depend on the data alone, so the number of threads does
not matter.

The decision worth knowing: the similarities of a row come from sparse products, so pairs without a common
interaction cost nothing, whatever the number of rows.

Settings: each row keeps its `neighbours` most similar rows, never itself, of equal ones those with the
lowest numbers; `shrink` lowers similarities that rest on few interactions (Bell & Koren, ICDM'07).

Legend: N rows that are compared (items or users), M columns, K neighbours, L pairs of a part's rows and
others that have something in common.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import vstack

from ncf.baselines.base import Baseline, Settings, spans_by_cost, sparse_rows, squared
from ncf.baselines.products import SparseRows
from ncf.data import Csr
from ncf.runtime import Workers

_SIMILARITIES_AT_ONCE = 2**21


def similarities(rows: Any, neighbours: int, shrink: float, workers: Workers) -> Any:
    """A `csr_matrix` [N, N] with the similarities of each row to its K most similar others, zeros left out.

    `rows` is the `csr_matrix` [N, M] to compare, of ones or weights, `neighbours` is K, `shrink` the
    shrinkage, `workers` the threads.
    """
    columns = rows.T.tocsr()
    lengths_N = np.sqrt(squared(rows) @ np.ones(rows.shape[1], np.float32))

    def nearest(part: slice) -> Any:
        similar = rows[part] @ columns
        own_L = np.repeat(np.arange(part.start, part.stop), np.diff(similar.indptr))
        scale_L = lengths_N[own_L] * lengths_N[similar.indices] + np.float32(shrink)
        similar.data /= np.maximum(scale_L, np.float32(1e-12))
        similar.data[similar.indices == own_L] = 0.0
        # The bits of floats from zero on are in their order, so one whole number ranks a pair, ties included.
        rank_L = (similar.data.view(np.int32).astype(np.int64) << 32) - similar.indices
        for start, stop in pairwise(similar.indptr.tolist()):
            if stop - start > neighbours:
                behind = np.argpartition(rank_L[start:stop], -neighbours)[:-neighbours]
                similar.data[start + behind] = 0.0
        similar.eliminate_zeros()
        similar.sort_indices()
        return similar

    # A row has at most N pairs, and at most as many as its columns have interactions.
    pairs_N = np.minimum(rows @ np.diff(columns.indptr).astype(np.float64), rows.shape[0])
    return vstack(workers.map(nearest, spans_by_cost(pairs_N + 1, _SIMILARITIES_AT_ONCE)), format="csr")


def _fit_items(train: Csr, items: int, settings: Settings, _seed: int, workers: Workers) -> SparseRows:
    histories = sparse_rows(train, items)
    similar = similarities(histories.T.tocsr(), settings["neighbours"], settings["shrink"], workers)
    return SparseRows(histories, similar.T.tocsr())


def _fit_users(train: Csr, items: int, settings: Settings, _seed: int, workers: Workers) -> SparseRows:
    histories = sparse_rows(train, items)
    return SparseRows(similarities(histories, settings["neighbours"], settings["shrink"], workers), histories)


_DEFAULTS = {"neighbours": 30, "shrink": 1.0}
_SPACE: dict[str, dict[str, Any]] = {
    "neighbours": {"low": 5, "high": 500, "log": True},
    "shrink": {"low": 0.1, "high": 100.0, "log": True},
}
ITEM_KNN = Baseline(
    "item-knn",
    "ItemKNN",
    "Sarwar et al., WWW'01",
    fitting=_fit_items,
    defaults=_DEFAULTS,
    space=_SPACE,
)
USER_KNN = Baseline(
    "user-knn",
    "UserKNN",
    "Herlocker et al., SIGIR'99",
    fitting=_fit_users,
    defaults=_DEFAULTS,
    space=_SPACE,
)
