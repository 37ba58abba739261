"""Standings of held-out positives, worked out on a GPU: lists go there once, and one small array comes back.

In: a scorer whose weights lie on the device, and held-out rows. Out: the standings that `metrics.Standing.of_scores` gives.
The decision worth knowing: lists stay on the device as long as their `HeldOut` lives, since a run judges the same ones
after every epoch; ids are kept in 32 bits there, which halves what they take.

Legend: T held-out rows, C candidates.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ncf.data import HeldOut
from ncf.evaluation.metrics import TiedRanks, above_and_tied
from ncf.runtime import spans

_SCORES_AT_ONCE = 2**24
_uploaded: dict[tuple[int, torch.device], "Lists"] = {}


@dataclass(frozen=True)
class Lists:
    """`users` [T] and `items` [T, C], int32, on a device."""

    users: Tensor
    items: Tensor


def lists_on(held_out: HeldOut, device: torch.device) -> Lists:
    """The rows on the device, sent there on the first call."""
    key = id(held_out), device
    if key not in _uploaded:
        users, items = (
            torch.tensor(rows, device=device) for rows in (held_out.user_rows, held_out.candidates)
        )
        _uploaded[key] = Lists(users, items)
        weakref.finalize(held_out, _uploaded.pop, key, None).atexit = False
    return _uploaded[key]


def tied_ranks_on(
    scorer: Callable[[Tensor, Tensor], Tensor], held_out: HeldOut, rows: slice, device: torch.device
) -> tuple[TiedRanks, int]:
    """Where the positives of these rows stand, and how many rows have scores that are not numbers."""
    lists = lists_on(held_out, device)
    length, candidates = rows.stop - rows.start, held_out.candidates.shape[1]
    places = [torch.zeros(0, 3, dtype=torch.int64, device=device)]
    with torch.inference_mode():
        for part in spans(length, -(-length * candidates // _SCORES_AT_ONCE)) if length else []:
            here = slice(rows.start + part.start, rows.start + part.stop)
            items_TC = lists.items[here].long()
            places.append(places_of(scorer(lists.users[here].long(), items_TC), items_TC))
        found = torch.cat(places).cpu().numpy()
    return TiedRanks(found[:, 0], found[:, 1]), int(found[:, 2].sum())


def places_of(scores_TC: Tensor, items_TC: Tensor) -> Tensor:
    """[T, 3] int64: others above the positive, others tied with it, and 1 where some score is not a number.

    The rules of `TiedRanks.of_scores`, without a question whose answer has to come back first.
    """
    scores_TC = scores_TC.float()
    nonnumber_T = scores_TC.isnan().any(1)
    scores_TC = torch.nan_to_num(scores_TC, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return torch.stack([*above_and_tied(scores_TC, items_TC), nonnumber_T.long()], dim=1)
