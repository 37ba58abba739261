"""The full ranking of users with several held-out items, as NGCF and LightGCN define it.

In: a scorer and a data set whose held-out items have no candidate lists. Out: an `EvaluationResult` with one
value a user. All items are ranked but those that the user has used before, and each held-out item competes
with the user's others. Recall@k is the number among the first k over the number held out. NDCG@k has gain 1
for each of them and divides by the best possible order of min(k, number held out) items. The decision worth
knowing: only the first items of each user are looked at, since no metric asks for a rank beyond its cutoff.

Legend: B users of a block, I items, K length of the lists, T held-out rows, V users with held-out rows.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ncf.config import EvaluationConfig
from ncf.data import Csr, Dataset, HeldOut
from ncf.data.tables import Stage
from ncf.evaluation import metrics
from ncf.evaluation.metrics import Counts, TiedRanks
from ncf.evaluation.ranking import EvaluationResult, Exchange, Scorer, catalogue_figures, intervals_of
from ncf.evaluation.slices import sample
from ncf.models import mask_items
from ncf.runtime import Workers, span_of, spans

_SCORES_AT_ONCE = 2**22
_LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class _HeldOutByUser:
    """Held-out items by user: `users` [V] ascending, `starts` [V + 1] of their `items` [T]."""

    users: Counts
    starts: Counts
    items: Counts

    @classmethod
    def of(cls, held_out: HeldOut) -> "_HeldOutByUser":
        order = np.lexsort((held_out.positives, held_out.user_rows))
        users, counts = np.unique(held_out.user_rows[order], return_counts=True)
        starts = np.concatenate([[0], np.cumsum(counts)])
        return cls(users.astype(np.int64), starts, held_out.positives[order].astype(np.int64))

    def at_most(self, most: int) -> "_HeldOutByUser":
        """`most` of the users, always the same ones; all if there are no more."""
        if len(self.users) <= most:
            return self
        kept = sample(len(self.users), most, purpose="users of a full ranking")
        counts = np.diff(self.starts)
        marked = np.repeat(np.isin(np.arange(len(self.users)), kept), counts)
        starts = np.concatenate([[0], np.cumsum(counts[kept])])
        return _HeldOutByUser(self.users[kept], starts, self.items[marked])

    @property
    def user_rows(self) -> Counts:
        """The user of each item: [T]."""
        return np.repeat(self.users, np.diff(self.starts))


@dataclass(frozen=True)
class _Block:
    """What a block of users gives: `ranks` [T, 2] of its held-out items, how many lists each item is `shown`
    in [I], and the users with a score that is NaN.
    """

    ranks: Tensor
    shown: Tensor
    nonnumbers: int


def evaluate_top_k(
    scorer: Scorer,
    dataset: Dataset,
    stage: Stage,
    config: EvaluationConfig,
    workers: Workers,
    device: torch.device | str = "cpu",
    exchange: Exchange | None = None,
    depth: int = 10,
    most_users: int | None = None,
) -> EvaluationResult:
    """Rank the held-out items of `stage` among all items that their users have not used before it.

    Args:
        scorer: the model; its `catalogue` takes users on `device`.
        dataset: the held-out rows, and the items used before (`Dataset.seen_before`).
        stage: "validation" or "test".
        config: cutoffs, tie rule and bootstrap resamples.
        workers: threads to use on the CPU.
        device: where the scorer is.
        exchange: several processes that rank a part of the users each; every one gets the whole result.
        depth: length of the lists whose coverage, popularity bias and novelty are reported.
        most_users: of more users a sample is ranked, the same in every call.

    The metrics are `recall@k` and `ndcg@k`, one value a user in ascending order. An item that the user has
    used before is never in the list. A score that is NaN is below every number.
    """
    rows = _HeldOutByUser.of(dataset.validation if stage == "validation" else dataset.test)
    if most_users is not None:
        rows = rows.at_most(most_users)
    seen, length = dataset.seen_before(stage), max(*config.cutoffs, depth)
    own = slice(0, len(rows.users))
    if exchange is not None:
        own = span_of(len(rows.users), exchange.rank, exchange.size)
    at_once = max(1, _SCORES_AT_ONCE // len(dataset.items))
    parts = spans(own.stop - own.start, -(-(own.stop - own.start) // at_once)) if own.stop > own.start else []

    def block_of(part: slice) -> _Block:
        with torch.inference_mode():
            return _block(
                scorer,
                rows,
                slice(own.start + part.start, own.start + part.stop),
                seen,
                length,
                depth,
                device,
            )

    blocks = workers.map(block_of, parts)
    ranks = torch.cat([torch.zeros(0, 2, dtype=torch.int64), *(block.ranks for block in blocks)])
    counts = torch.zeros(len(dataset.items) + 1, dtype=torch.int64)
    for block in blocks:
        counts += torch.cat([block.shown, torch.tensor([block.nonnumbers])])
    if exchange is not None and exchange.size > 1:
        ranks, counts = exchange.all_gather_rows(ranks), exchange.all_gather_rows(counts[None]).sum(0)
    tied = TiedRanks(*ranks.T.numpy()).resolve_ties_of_users(config.ties, rows.user_rows)
    values = {f"recall@{k}": metrics.recall(tied, k, rows.user_rows) for k in config.cutoffs}
    values |= {f"ndcg@{k}": metrics.ndcg_of_users(tied, k, rows.user_rows) for k in config.cutoffs}
    figures = catalogue_figures(counts[:-1].numpy(), dataset.popularity, depth)
    longest = len(dataset.items) - int(seen.counts[rows.users].min(initial=len(dataset.items)))
    return EvaluationResult(
        "full",
        config.ties,
        values,
        intervals_of(values, config.bootstrap, rows.users),
        rows.users,
        figures,
        int(counts[-1]),
        cannot_miss=tuple(k for k in config.cutoffs if k >= longest and len(rows.users)),
        longest=longest,
    )


def _block(
    scorer: Scorer,
    rows: _HeldOutByUser,
    part: slice,
    seen: Csr,
    length: int,
    depth: int,
    device: torch.device | str,
) -> _Block:
    """Rank the held-out items of the users of `part`; those beyond the first `length` get that rank."""
    users, starts = rows.users[part], rows.starts[part.start : part.stop + 1]
    scores_BI = scorer.catalogue(torch.from_numpy(users).to(device)).float()
    nonnumbers = int(scores_BI.isnan().any(1).sum()) if bool(scores_BI.sum().isnan()) else 0
    # Only masked items are minus infinity.
    scores_BI.nan_to_num_(nan=_LOWEST, posinf=torch.inf, neginf=_LOWEST)
    mask_items(scores_BI, seen, users)
    best = scores_BI.topk(min(length, scores_BI.shape[1]), dim=1)
    row_T = torch.from_numpy(np.repeat(np.arange(len(users)), np.diff(starts))).to(device)
    items_T = torch.from_numpy(rows.items[starts[0] : starts[-1]]).to(device)
    score_T = scores_BI[row_T, items_T]
    above_T = (best.values[row_T] > score_T[:, None]).sum(1)
    tied_T = (best.values[row_T] == score_T[:, None]).sum(1) - 1
    # Ties with the last of the list may go on behind it.
    at_edge_T = score_T == best.values[row_T, -1]
    if bool(at_edge_T.any()):
        row_E, user_T = torch.unique(row_T[at_edge_T], return_inverse=True)
        tied_T[at_edge_T] = (scores_BI[row_E] == best.values[row_E, -1:]).sum(1)[user_T] - 1
    missed_T = (score_T < best.values[row_T, -1]) | (score_T == -torch.inf)
    above_T[missed_T], tied_T[missed_T] = length, 0
    listed = best.indices[:, :depth][best.values[:, :depth] > -torch.inf]
    shown_I = torch.bincount(listed, minlength=scores_BI.shape[1])
    return _Block(torch.stack([above_T, tied_T], dim=1).cpu(), shown_I.cpu(), nonnumbers)
