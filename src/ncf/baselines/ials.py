"""iALS: matrix factorisation that counts every absent interaction, by alternating least squares.

In: training interactions. Out: `Factors` that minimise

    sum over interactions (w_u . h_i - 1)^2 + a sum over all pairs (w_u . h_i)^2
      + l2 (sum_u (n_u + a I) |w_u|^2 + sum_i (n_i + a U) |h_i|^2)

(Hu, Koren & Volinsky, ICDM'08, with the frequency-scaled regularisation of Rendle et al., RecSys'22,
equations 5 and 6; a is `unobserved_weight`). With one table fixed, each row of the other solves a small
linear system. The decision worth knowing: the library `implicit` regularises every row alike, and the
published figures are of a model that does not. This one does both (`exponent` 0 is the library's, and the
tests compare them).

Settings: `factors` D, `unobserved_weight` a, `l2` the penalty, `iterations` the number of sweeps over both
tables.

Legend: R rows that are solved for, N rows of the other table, D factors.
"""

import torch
from torch import Tensor

from ncf.baselines.base import Baseline, Settings, users_by_item
from ncf.baselines.products import Factors
from ncf.data import Csr
from ncf.runtime import Workers, generator, spans

_ROWS_AT_ONCE = 64
_INIT_STD = 0.1


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
    the power of `exponent`.
    """
    by_item = users_by_item(train, len(items_ID))
    for _ in range(settings["iterations"]):
        for table, other, interactions in ((users_UD, items_ID, train), (items_ID, users_UD, by_item)):
            _solve(
                table, other, interactions, settings["unobserved_weight"], settings["l2"], exponent, workers
            )


def _solve(
    table_RD: Tensor,
    other_ND: Tensor,
    interactions: Csr,
    unobserved: float,
    l2: float,
    exponent: float,
    workers: Workers,
) -> None:
    """Overwrite `table_RD` with its best values for `other_ND`; `interactions` are those of its rows."""
    everything_DD = unobserved * (other_ND.T @ other_ND)
    width = len(everything_DD)

    def solve(part: slice) -> None:
        size = part.stop - part.start
        # Every pair counts with a (the part shared by all rows), and each used pair with 1 on top of it.
        systems = everything_DD.repeat(size, 1, 1)
        sums = torch.empty(size, width, 1)
        for index, row in enumerate(range(part.start, part.stop)):
            used = other_ND.index_select(0, torch.from_numpy(interactions.row(row)))
            systems[index].addmm_(used.T, used)
            torch.sum(used, 0, out=sums[index, :, 0])
        frequency = torch.from_numpy(interactions.counts[part]).float() + unobserved * len(other_ND)
        systems.diagonal(dim1=1, dim2=2).add_(l2 * frequency[:, None] ** exponent)
        table_RD[part] = torch.cholesky_solve(sums, torch.linalg.cholesky(systems))[:, :, 0]

    workers.map(solve, spans(len(table_RD), -(-len(table_RD) // _ROWS_AT_ONCE)))


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
    defaults={"factors": 192, "unobserved_weight": 0.3, "l2": 0.007, "iterations": 12},
    space={
        "factors": {"values": [64, 128, 192]},
        "unobserved_weight": {"low": 0.005, "high": 1.0, "log": True},
        "l2": {"low": 0.001, "high": 0.05, "log": True},
        "iterations": {"low": 4, "high": 16, "step": 4},
    },
    seeded=True,
)
