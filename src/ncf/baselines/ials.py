"""iALS: matrix factorisation that counts every absent interaction, by alternating least squares.

In: training interactions. Out: `Factors` that minimise

    sum over interactions c (w_u . h_i - 1)^2 + a sum over all pairs (w_u . h_i)^2
      + l2 (sum_u (n_u + a I) |w_u|^2 + sum_i (n_i + a U) |h_i|^2)

(Hu, Koren & Volinsky, ICDM'08, with the frequency-scaled regularisation of Rendle et al., RecSys'22,
equations 5 and 6; a is `unobserved_weight`). The confidence c is the interaction's weight over the mean, or
one, and n_u and n_i are sums of it. With one table fixed, each row of the other has a small linear
system. The library `implicit` regularises every row alike, and the published figures are of a model that does
not. This one does both (`exponent` 0 is the library's, and the tests compare them).

The decision worth knowing: a row takes a few steps of conjugate gradients from its last value, as in the
library (Takács, Pilászy & Tikk, RecSys'11), and no system is ever formed. Both tables are first rotated to
the axes in which the part that all rows share, a times the other table's Gram matrix, is diagonal. Scores and
norms stay the same. There the shared part costs nothing and is the preconditioner.

Settings: `factors` D, `unobserved_weight` a, `l2` the penalty, `iterations` the number of sweeps over both
tables, `cg_steps` the steps a row takes in a sweep (D of them solve its system).

Legend: R rows that are solved for, P those of one part, L the part's interactions, N rows of the other table,
D factors.
"""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from ncf.baselines.base import Baseline, LinAlgError, Settings, spans_by_cost, users_by_item
from ncf.baselines.products import Factors
from ncf.data import Csr
from ncf.runtime import Workers, generator

_PART_COST = 2**16
_ROW_COST = 64
"""A part has about `_PART_COST` interactions, or fewer and more rows: a row costs as much as 64 of them."""
_INIT_STD = 0.1
_EPS = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class _Part:
    """Consecutive rows with their interactions. Parts depend on the data alone, never on the threads."""

    rows: slice
    used: Tensor
    """Sparse [P, N], CSR: where the interactions are."""
    confidence_L: Tensor | None
    """None: one for each interaction."""
    counts_P1: Tensor
    """The sum of a row's confidence."""

    def dots(self, rows_PD: Tensor, other_ND: Tensor) -> Tensor:
        """[L]: the dot products of both rows of each interaction."""
        products: Tensor = torch.sparse.sampled_addmm(self.used, rows_PD, other_ND.T, beta=0.0)
        return products.values()

    def sums(self, weights_L: Tensor, other_ND: Tensor) -> Tensor:
        """[P, D]: for each row the sum of the other rows that it has used, by weight and confidence."""
        if self.confidence_L is not None:
            weights_L = weights_L * self.confidence_L
        return embedding_bag(
            self.used.col_indices(),
            other_ND,
            self.used.crow_indices(),
            mode="sum",
            per_sample_weights=weights_L,
            include_last_offset=True,
        )


def _parts(interactions: Csr, columns: int) -> list[_Part]:
    """`interactions` in parts of nearly equal cost; the other table has `columns` rows."""
    parts, values = [], None if interactions.weights is None else interactions.values
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        for rows in spans_by_cost(interactions.counts + _ROW_COST, _PART_COST):
            own = interactions.between(rows.start, rows.stop)
            used = torch.sparse_csr_tensor(
                torch.from_numpy(own.offsets.astype(np.int32)),
                torch.from_numpy(np.require(own.columns, requirements=("C", "W"))),
                torch.zeros(len(own.columns)),
                (own.users, columns),
                check_invariants=False,
            )
            counts, confidence = torch.from_numpy(own.counts), None
            if values is not None:
                inside = slice(int(interactions.offsets[rows.start]), int(interactions.offsets[rows.stop]))
                confidence = torch.from_numpy(values[inside])
                counts = torch.segment_reduce(confidence, "sum", lengths=counts, initial=0.0)
            parts.append(_Part(rows, used, confidence, counts[:, None]))
    return parts


def alternate(
    train: Csr,
    users_UD: Tensor,
    items_ID: Tensor,
    settings: Settings,
    workers: Workers,
    exponent: float = 1.0,
) -> None:
    """Minimise over both tables in turn, users first, for `settings["iterations"]` sweeps.

    `train` holds the interactions. `users_UD` and `items_ID` hold the first values and are overwritten.
    `settings` has the module's settings, `workers` the threads; a row's penalty grows with its frequency to
    the power of `exponent`. Raises `LinAlgError` where l2 is 0 and the systems have no single solution.
    """
    of_users = _parts(train, len(items_ID))
    of_items = _parts(users_by_item(train, len(items_ID)), len(users_UD))
    for _ in range(settings["iterations"]):
        for table, other, parts in ((users_UD, items_ID, of_users), (items_ID, users_UD, of_items)):
            _improve(table, other, parts, settings, exponent, workers)


def _improve(
    table_RD: Tensor,
    other_ND: Tensor,
    parts: list[_Part],
    settings: Settings,
    exponent: float,
    workers: Workers,
) -> None:
    """Rotate both tables, then move each row of `table_RD` towards its best value for `other_ND`."""
    unobserved, l2 = settings["unobserved_weight"], settings["l2"]
    shared_D, axes_DD = torch.linalg.eigh(unobserved * (other_ND.T @ other_ND))
    least = _EPS * float(shared_D[-1])
    if not l2 and float(shared_D[0]) <= least:
        raise LinAlgError("the Gram matrix is singular")
    shared_D.clamp_(min=least)
    for rotated in (table_RD, other_ND):
        rotated.copy_(rotated @ axes_DD)

    def improve(part: _Part) -> None:
        # Each system is diagonal_PD, plus the outer products of the rows used; the right side is their sum.
        diagonal_PD = shared_D + l2 * (part.counts_P1 + unobserved * len(other_ND)) ** exponent
        solution = table_RD[part.rows]
        residual = part.sums(1.0 - part.dots(solution, other_ND), other_ND) - diagonal_PD * solution
        direction = residual / diagonal_PD
        size = _inner(residual, direction)
        for step in range(settings["cg_steps"]):
            if step:
                scaled = residual / diagonal_PD
                before, size = size, _inner(residual, scaled)
                direction = scaled.addcmul_(_ratio(size, before), direction)
            image = part.sums(part.dots(direction, other_ND), other_ND).addcmul_(diagonal_PD, direction)
            length = _ratio(size, _inner(direction, image))
            solution.addcmul_(length, direction)
            residual.addcmul_(length, image, value=-1.0)
        # Without a single interaction the solution is zero; its system may be zero too.
        solution.masked_fill_(part.counts_P1 == 0, 0.0)

    workers.map(improve, parts)


def _inner(a_PD: Tensor, b_PD: Tensor) -> Tensor:
    return (a_PD * b_PD).sum(1, keepdim=True)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Zero where `below` is zero: that row is solved."""
    return (above / below).nan_to_num_(0.0, 0.0, 0.0)


def _fit(train: Csr, items: int, settings: Settings, seed: int, workers: Workers) -> Factors:
    width = settings["factors"]
    users_UD, items_ID = (
        torch.randn(rows, width, generator=generator(seed, "ials", table)) * (_INIT_STD / width**0.5)
        for table, rows in enumerate((train.users, items))
    )
    alternate(train, users_UD, items_ID, settings, workers)
    return Factors(users_UD, items_ID)


IALS = Baseline(
    "ials",
    "iALS",
    "Hu, Koren & Volinsky, ICDM'08; Rendle et al., RecSys'22",
    fitting=_fit,
    defaults={"factors": 192, "unobserved_weight": 0.3, "l2": 0.007, "iterations": 12, "cg_steps": 3},
    space={
        "factors": {"values": [64, 128, 192]},
        "unobserved_weight": {"low": 0.005, "high": 1.0, "log": True},
        "l2": {"low": 0.001, "high": 0.05, "log": True},
        "iterations": {"low": 4, "high": 16, "step": 4},
    },
    seeded=True,
)
