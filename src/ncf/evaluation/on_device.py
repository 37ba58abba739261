"""Ranks of held-out positives computed on a GPU: lists are uploaded once, and one small array comes back.

In: a scorer whose weights are on the device, and held-out rows. Out: the ranks that `TiedRanks.of_scores`
gives. The decision worth knowing: lists stay on the device as long as their `HeldOut` lives, since a run
evaluates the same ones after every epoch. Ids are 32 bits wide there, which halves the memory.

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
_uploaded: dict[tuple[int, torch.device], "DeviceLists"] = {}


@dataclass(frozen=True)
class DeviceLists:
    """`users` [T] and `items` [T, C], int32, on a device."""

    users: Tensor
    items: Tensor


def lists_on(held_out: HeldOut, device: torch.device) -> DeviceLists:
    """The rows of `held_out` on `device`, uploaded by the first call."""
    key = id(held_out), device
    if key not in _uploaded:
        users, items = (
            torch.tensor(rows, device=device) for rows in (held_out.user_rows, held_out.candidates)
        )
        _uploaded[key] = DeviceLists(users, items)
        # An id is used again after its object is gone, so the entry must go with the object.
        weakref.finalize(held_out, _uploaded.pop, key, None).atexit = False
    return _uploaded[key]


def tied_ranks_on(
    scorer: Callable[[Tensor, Tensor], Tensor], held_out: HeldOut, rows: slice, device: torch.device
) -> tuple[TiedRanks, int]:
    """The ranks of the positives of some rows, and how many of these rows have scores that are NaN.

    `scorer` gives scores [T, C] of users [T] and items [T, C] on `device`; `rows` chooses from `held_out`.
    """
    lists = lists_on(held_out, device)
    length, candidates = rows.stop - rows.start, held_out.candidates.shape[1]
    results = [torch.zeros(0, 3, dtype=torch.int64, device=device)]
    with torch.inference_mode():
        for part in spans(length, -(-length * candidates // _SCORES_AT_ONCE)) if length else []:
            chosen = slice(rows.start + part.start, rows.start + part.stop)
            items_TC = lists.items[chosen].long()
            results.append(rank_columns(scorer(lists.users[chosen].long(), items_TC), items_TC))
        columns = torch.cat(results).cpu().numpy()
    return TiedRanks(columns[:, 0], columns[:, 1]), int(columns[:, 2].sum())


def rank_columns(scores_TC: Tensor, items_TC: Tensor) -> Tensor:
    """[T, 3] int64: others above the positive, others tied with it, and 1 where some score is NaN.

    The rules are those of `TiedRanks.of_scores`, without a condition that would have to wait for the device.
    """
    scores_TC = scores_TC.float()
    has_nan_T = scores_TC.isnan().any(1)
    scores_TC = torch.nan_to_num(scores_TC, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return torch.stack([*above_and_tied(scores_TC, items_TC), has_nan_T.long()], dim=1)
