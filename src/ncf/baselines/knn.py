"""Nearest neighbours by cosine: items similar to the user's (ItemKNN), or items of similar users (UserKNN).

In: training interactions. Out: a scorer that is a product of two sparse matrices: histories times
similarities of items, or similarities of users times histories. The similarity of two rows is |common| /
(sqrt(n_a n_b) + shrink).

An item's score sums over its own neighbours that the user has (Sarwar et al.), not over the items that count
it as a neighbour (Deshpande & Karypis). The second way favours items that are everybody's neighbour, and was
worse on validation. The sums within the similarities are of whole numbers, so the number of threads does not
matter.

Settings: each row keeps its `neighbours` most similar rows, never itself; `shrink` lowers similarities that
rest on few interactions (Bell & Koren, ICDM'07).

Legend: N rows that are compared (items or users), M columns, K neighbours.
"""

from typing import Any

import numpy as np

from ncf.baselines.base import Baseline, Settings, optional, sparse_rows
from ncf.baselines.products import SparseRows
from ncf.data import Csr
from ncf.runtime import Workers, spans

_SIMILARITIES_AT_ONCE = 2**22


def similarities(rows: Any, neighbours: int, shrink: float, workers: Workers) -> Any:
    """A `csr_matrix` [N, N] with the similarities of each row to its K most similar others, zeros left out.

    `rows` is the `csr_matrix` [N, M] of ones to compare, `neighbours` is K, `shrink` the shrinkage, `workers`
    the threads.
    """
    size = rows.shape[0]
    columns = rows.T.tocsr()
    lengths_N = np.sqrt(np.diff(rows.indptr).astype(np.float32))
    sparse = optional("scipy.sparse")

    def nearest(part: slice) -> Any:
        similar = (rows[part] @ columns).toarray()
        similar /= np.maximum(lengths_N[part, None] * lengths_N + np.float32(shrink), np.float32(1e-12))
        own = np.arange(part.stop - part.start)
        similar[own, own + part.start] = 0.0
        if neighbours < size:
            behind = np.argpartition(-similar, neighbours - 1, axis=1)[:, neighbours:]
            np.put_along_axis(similar, behind, 0.0, 1)
        return sparse.csr_matrix(similar)

    parts = spans(size, -(-size * size // _SIMILARITIES_AT_ONCE))
    return sparse.vstack(workers.map(nearest, parts), format="csr")


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
