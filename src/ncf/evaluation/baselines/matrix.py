"""Interactions as other code wants them: dense blocks, SciPy's sparse rows, and users by item.

In: `Csr`. Out: a matrix of zeros and ones, U x I, or its transpose.

Legend: U users, I items.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ncf.data import Csr
from ncf.evaluation.baselines.baseline import optional


def dense_rows(train: Csr, items: int, part: slice) -> Tensor:
    """[users of the part, I] float32 of zeros and ones."""
    offsets = train.offsets[part.start : part.stop + 1]
    columns = train.columns[offsets[0] : offsets[-1]].astype(np.int64)
    rows = np.repeat(np.arange(part.stop - part.start), np.diff(offsets))
    dense = torch.zeros(part.stop - part.start, items)
    dense[torch.from_numpy(rows), torch.from_numpy(columns)] = 1.0
    return dense


def sparse_rows(train: Csr, items: int) -> Any:
    """A `scipy.sparse.csr_matrix` [U, I], float32 ones."""
    ones = np.ones(len(train.columns), np.float32)
    return optional("scipy.sparse").csr_matrix(
        (ones, train.columns, train.offsets), shape=(train.users, items)
    )


def users_by_item(train: Csr, items: int) -> Csr:
    """The transpose: `offsets` [I + 1], and in `columns` the users of each item, ascending."""
    offsets = np.zeros(items + 1, np.int64)
    np.cumsum(np.bincount(train.columns, minlength=items), out=offsets[1:])
    users = np.repeat(np.arange(train.users, dtype=np.int32), train.counts)
    return Csr(offsets, users[np.argsort(train.columns, kind="stable")])
