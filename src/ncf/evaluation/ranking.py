"""How a model is judged: sampled (one positive among 99 negatives) or full (among every item the user has not seen).

In: anything that scores, and held-out rows. Out: a `EvaluationResult` with one value a row for each metric, their means and
intervals. docs/protocol.md says why each rule is as it is.

Legend: B batch, C candidates, I items, T held-out rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ncf.config import EvaluationConfig
from ncf.data import Dataset, HeldOut
from ncf.evaluation import metrics, significance
from ncf.evaluation.metrics import Floats, TiedRanks
from ncf.evaluation.on_device import tied_ranks_on
from ncf.models import mask_items
from ncf.runtime import Workers, span_of, spans

_SCORES_AT_ONCE = 2**16
_CATALOGUE_SCORES_AT_ONCE = 2**22


class Scorer(Protocol):
    """What the protocol asks of a model; `ncf.models.Scorer` makes one of GMF, MLP and NeuMF."""

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Scores [B, C] of C candidates for each user; higher is better."""

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I] of every item."""


class Exchange(Protocol):
    """What the protocol asks of several processes that judge together (`training.distributed` has them)."""

    rank: int
    size: int

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        """The rows of all processes, one after the other."""


@dataclass(frozen=True)
class EvaluationResult:
    """One value a held-out row for each metric (`recall@k`: one a user), under one protocol and tie rule."""

    protocol: str
    ties: str
    values: dict[str, Floats]
    intervals: dict[str, tuple[float, float]]
    user_rows: np.ndarray
    """[T] int: whose each value is."""
    catalogue: dict[str, float]
    """Full ranking only: coverage and popularity bias of the lists themselves."""
    nonnumbers: int = 0
    """Held-out rows whose scores contain something that is not a number."""

    @property
    def means(self) -> dict[str, float]:
        """Each metric's mean; an empty judgement has none."""
        return {name: float(values.mean()) for name, values in self.values.items() if len(values)}

    def to_json(self) -> dict[str, object]:
        """What `metrics.json` and `--json` hold."""
        return {
            "protocol": self.protocol,
            "ties": self.ties,
            "rows": max((len(values) for values in self.values.values()), default=0),
            "metrics": {**self.means, **self.catalogue},
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
        }


def evaluate_sampled(
    score: Callable[[Tensor, Tensor], Tensor],
    held_out: HeldOut,
    config: EvaluationConfig,
    workers: Workers,
    device: torch.device | str = "cpu",
    exchange: Exchange | None = None,
    in_step: bool = False,
) -> EvaluationResult:
    """Rank each positive among its candidate list (He et al. 2017, section 4.1: 99 negatives).

    With an `exchange` each process ranks a part of the lists, and all get the figures of all lists: exactly those of one
    process, since the lists are cut alike and what is exchanged are whole numbers, where each positive stands. A scorer that
    all processes must call equally often is called `in_step`: one call at a time, those that are left over with no rows.
    On another device than the CPU the standings are worked out there, in large parts.
    """
    if torch.device(device).type != "cpu" and not in_step:
        standings = _tied_ranks_on(torch.device(device), score, held_out, exchange)
        return _judge("sampled", standings, held_out, config, {})
    rows = max(1, _SCORES_AT_ONCE // max(1, held_out.candidates.shape[1]))
    parts = spans(len(held_out), -(-len(held_out) // rows)) if len(held_out) else []
    if exchange is not None:
        calls = -(-len(parts) // exchange.size)
        parts = parts[span_of(len(parts), exchange.rank, exchange.size)]
        parts += [slice(0, 0)] * (calls - len(parts) if in_step else 0)

    def standing(part: slice) -> tuple[TiedRanks, int]:
        users_T = torch.from_numpy(held_out.user_rows[part].astype(np.int64)).to(device)
        items_TC = torch.from_numpy(held_out.candidates[part].astype(np.int64)).to(device)
        with torch.inference_mode():
            scores_TC = score(users_T, items_TC).float()
            return TiedRanks.of_scores(scores_TC, items_TC), _nonnumbers(scores_TC)

    standings = [standing(part) for part in parts] if in_step else workers.map(standing, parts)
    if exchange is not None and exchange.size > 1:
        standings = [_of_all(standings, exchange)]
    return _judge("sampled", standings, held_out, config, {})


def _tied_ranks_on(
    device: torch.device,
    score: Callable[[Tensor, Tensor], Tensor],
    held_out: HeldOut,
    exchange: Exchange | None,
) -> list[tuple[TiedRanks, int]]:
    """Of all rows; each process works out those of its own."""
    if exchange is None or exchange.size == 1:
        return [tied_ranks_on(score, held_out, slice(0, len(held_out)), device)]
    rows = span_of(len(held_out), exchange.rank, exchange.size)
    return [_of_all([tied_ranks_on(score, held_out, rows, device)], exchange)]


def _of_all(standings: list[tuple[TiedRanks, int]], exchange: Exchange) -> tuple[TiedRanks, int]:
    """The standings of all processes, in the order of the held-out rows."""
    above, tied = (
        np.concatenate([np.zeros(0, np.int64), *(getattr(one, name) for one, _ in standings)])
        for name in ("above", "tied")
    )
    nonnumbers = torch.tensor([sum(number for _, number in standings)])
    everyone = exchange.all_gather_rows(torch.from_numpy(np.stack([above, tied], axis=1))).numpy()
    return TiedRanks(everyone[:, 0], everyone[:, 1]), int(exchange.all_gather_rows(nonnumbers).sum())


def evaluate_full(
    scorer: Scorer,
    dataset: Dataset,
    held_out: HeldOut,
    config: EvaluationConfig,
    workers: Workers,
    depth: int = 10,
) -> EvaluationResult:
    """Rank each positive among all items but those the user is known to have used otherwise.

    Positives of training, validation and test other than the one that is ranked are masked. Users are scored in
    chunks, so memory does not grow with their number. Coverage and popularity are of the first `depth` items.
    """
    order = np.argsort(held_out.user_rows, kind="stable")
    rows = max(1, _CATALOGUE_SCORES_AT_ONCE // len(dataset.items))
    parts = spans(len(order), -(-len(order) // rows)) if len(order) else []
    shown = np.zeros(len(dataset.items), dtype=np.int64)

    def standing(part: slice) -> tuple[TiedRanks, int, np.ndarray]:
        with torch.inference_mode():
            return _full_tied_ranks(scorer, dataset, held_out, order[part], depth)

    standings: list[tuple[TiedRanks, int]] = []
    for one, nonnumbers, top in workers.map(standing, parts):
        standings.append((one, nonnumbers))
        shown += np.bincount(top, minlength=len(shown))
    sorted_rows = HeldOut(held_out.user_rows[order], held_out.candidates[order])
    return _judge("full", standings, sorted_rows, config, catalogue_figures(shown, dataset.popularity, depth))


def _full_tied_ranks(
    scorer: Scorer, dataset: Dataset, held_out: HeldOut, rows: np.ndarray, depth: int
) -> tuple[TiedRanks, int, np.ndarray]:
    users = held_out.user_rows[rows].astype(np.int64)
    positives = torch.from_numpy(held_out.positives[rows].astype(np.int64))
    scores = scorer.catalogue(torch.from_numpy(users)).float()
    nonnumbers = _nonnumbers(scores)
    scores = torch.nan_to_num(scores, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    of_positive = scores.gather(1, positives[:, None])
    mask_items(scores, dataset.known, users)
    standing = TiedRanks(
        (scores > of_positive).sum(1).numpy(),
        ((scores == of_positive) & (scores > -torch.inf)).sum(1).numpy(),
    )
    scores.scatter_(1, positives[:, None], of_positive)
    return standing, nonnumbers, scores.topk(min(depth, scores.shape[1]), dim=1).indices.numpy().ravel()


def catalogue_figures(shown: np.ndarray, popularity: np.ndarray, depth: int) -> dict[str, float]:
    """What the lists themselves are like; `shown` [I] counts how often each item is in one, `popularity` [I] in training.

    Coverage: the share of items that anybody is shown. Popularity bias: how often a shown item is used in training, over how
    often a training interaction's item is (above 1 the model favours the popular). Novelty, in bits: the mean of
    -log2(popularity / all interactions) of what is shown (Vargas & Castells, RecSys'11, mean self-information), an item that
    nobody has used counting as used once.
    """
    total = max(1, int(shown.sum()))
    mean_shown = float((shown * popularity).sum()) / total
    mean_used = float((popularity.astype(np.float64) ** 2).sum()) / max(1.0, float(popularity.sum()))
    share = np.maximum(popularity, 1) / max(1.0, float(popularity.sum()))
    return {
        f"coverage@{depth}": float((shown > 0).mean()),
        f"popularity_bias@{depth}": mean_shown / max(mean_used, 1e-12),
        f"novelty@{depth}": float((shown * -np.log2(share)).sum()) / total,
    }


def _nonnumbers(scores: Tensor) -> int:
    """Rows with a score that is not a number; one sum tells that there is none."""
    return int(scores.isnan().any(1).sum()) if bool(scores.sum().isnan()) else 0


def _judge(
    protocol: str,
    standings: list[tuple[TiedRanks, int]],
    held_out: HeldOut,
    config: EvaluationConfig,
    catalogue: dict[str, float],
) -> EvaluationResult:
    above = np.concatenate([s.above for s, _ in standings]) if standings else np.zeros(0, np.int64)
    tied = np.concatenate([s.tied for s, _ in standings]) if standings else np.zeros(0, np.int64)
    user_rows = np.asarray(held_out.user_rows)
    values = compute_metrics(TiedRanks(above, tied).resolve_ties(config.ties), user_rows, config.cutoffs)
    return EvaluationResult(
        protocol,
        config.ties,
        values,
        _intervals(values, config.bootstrap, user_rows),
        user_rows,
        catalogue,
        sum(nonnumbers for _, nonnumbers in standings),
    )


def compute_metrics(
    standing: TiedRanks, user_rows: np.ndarray, cutoffs: tuple[int, ...]
) -> dict[str, Floats]:
    """Every metric at every cutoff."""
    by_cutoff: dict[str, Callable[[TiedRanks, int], Floats]] = {
        "hr": metrics.hit_ratio,
        "ndcg": metrics.ndcg,
        "recall": partial(metrics.recall, user_rows=user_rows),
    }
    values = {f"{name}@{k}": metric(standing, k) for name, metric in by_cutoff.items() for k in cutoffs}
    values["mrr"] = metrics.reciprocal_rank(standing)
    return values


def _intervals(
    values: dict[str, Floats], resamples: int, user_rows: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Metrics of the same length are resampled together: those of rows, and those of users."""
    if not resamples:
        return {}
    result: dict[str, tuple[float, float]] = {}
    for length in {len(v) for v in values.values() if len(v)}:
        names = [name for name, v in values.items() if len(v) == length]
        users = user_rows if length == len(user_rows) else None
        pairs = significance.intervals(np.stack([values[name] for name in names]), resamples, users=users)
        result.update(
            {name: (float(low), float(high)) for name, (low, high) in zip(names, pairs, strict=True)}
        )
    return result
