"""The two protocols: sampled (one positive among 99 negatives) and full (among every item the user has not
seen).

In: any scorer, and held-out rows. Out: an `EvaluationResult` with one value a row for each metric, their
means and intervals. docs/protocol.md gives the reason for each rule.

Legend: B batch, C candidates, I items, T held-out rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ncf.config import EvaluationConfig
from ncf.data import Dataset, HeldOut
from ncf.errors import DataError
from ncf.evaluation import metrics, significance
from ncf.evaluation.metrics import Floats, TiedRanks
from ncf.evaluation.on_device import tied_ranks_on
from ncf.models import mask_items
from ncf.runtime import Workers, span_of, spans

_SCORES_AT_ONCE = 2**16
_CATALOGUE_SCORES_AT_ONCE = 2**22


class Scorer(Protocol):
    """What evaluation needs of a model; `ncf.models.ModelScorer` makes one of GMF, MLP and NeuMF."""

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Scores [B, C] of C candidates for each user; higher is better."""

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Scores [B, I] of every item."""


class Exchange(Protocol):
    """What evaluation needs of several processes that share the work (see `ncf.training.parallel`)."""

    rank: int
    size: int

    def all_gather_rows(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in the order of their ranks."""


@dataclass(frozen=True)
class EvaluationResult:
    """One value a held-out row for each metric (`recall@k`: one a user), under one protocol and tie rule."""

    protocol: str
    """"sampled" or "full"."""
    ties: str
    values: dict[str, Floats]
    intervals: dict[str, tuple[float, float]]
    """95% intervals of the means; empty without a bootstrap."""
    user_rows: np.ndarray
    """[T] int: the user of each value."""
    catalogue: dict[str, float]
    """Full ranking only: coverage, popularity bias and novelty of the lists themselves."""
    nonnumbers: int = 0
    """Held-out rows with a score that is NaN; of users with several rows in one list, users."""
    cold_users: int = 0
    """Users without a training interaction."""
    without_cold_users: dict[str, float] = field(default_factory=dict)
    """Each metric's mean without the cold users, if there are both kinds."""
    cannot_miss: tuple[int, ...] = ()
    """Cutoffs that no list is longer than: there any model has a hit ratio and a recall of 1."""
    longest: int = 0
    """Items in the longest list."""

    @property
    def means(self) -> dict[str, float]:
        """Each metric's mean; empty where there are no rows."""
        return {name: float(values.mean()) for name, values in self.values.items() if len(values)}

    def to_json(self) -> dict[str, object]:
        """What `metrics.json` and `--json` hold."""
        cold = {"cold_users": self.cold_users, "without_cold_users": self.without_cold_users}
        too_long = {"cannot_miss": list(self.cannot_miss), "longest_list": self.longest}
        return {
            "protocol": self.protocol,
            "ties": self.ties,
            "rows": max((len(values) for values in self.values.values()), default=0),
            "metrics": {**self.means, **self.catalogue},
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
            **(cold if self.cold_users else {}),
            **(too_long if self.cannot_miss else {}),
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
    """Rank each positive within its candidate list (He et al. 2017, section 4.1: 99 negatives).

    Args:
        score: scores [B, C] of users [B] and candidates [B, C], both on `device`.
        held_out: users and candidate lists, the positive in column 0.
        config: cutoffs, tie rule and bootstrap resamples.
        workers: threads to use on the CPU.
        device: where `score` expects its arguments. Anything but the CPU computes the ranks there too.
        exchange: several processes that rank a part of the lists each. Every process gets the result of all
            lists, and exactly that of one process, because only whole numbers (ranks) are exchanged.
        in_step: all processes must call `score` equally often. Calls are made one at a time, and processes
            that run out of lists make theirs with no rows.

    Raises `DataError` for rows without lists, which any model would answer perfectly.
    """
    if len(held_out) and not held_out.has_lists:
        raise DataError(
            "These data have no candidate lists, so only the full ranking tells models apart: use "
            "'ncf evaluate RUN', or prepare data with lists (--input or --ncf)."
        )
    if torch.device(device).type != "cpu" and not in_step:
        ranks = _tied_ranks_on(torch.device(device), score, held_out, exchange)
        return _result("sampled", ranks, held_out, config, {}, held_out.candidates.shape[1])
    rows = max(1, _SCORES_AT_ONCE // max(1, held_out.candidates.shape[1]))
    parts = spans(len(held_out), -(-len(held_out) // rows)) if len(held_out) else []
    if exchange is not None:
        calls = -(-len(parts) // exchange.size)
        parts = parts[span_of(len(parts), exchange.rank, exchange.size)]
        parts += [slice(0, 0)] * (calls - len(parts) if in_step else 0)

    def ranks_of(part: slice) -> tuple[TiedRanks, int]:
        users_T = torch.from_numpy(held_out.user_rows[part].astype(np.int64)).to(device)
        items_TC = torch.from_numpy(held_out.candidates[part].astype(np.int64)).to(device)
        with torch.inference_mode():
            scores_TC = score(users_T, items_TC).float()
            return TiedRanks.of_scores(scores_TC, items_TC), _nonnumbers(scores_TC)

    ranks = [ranks_of(part) for part in parts] if in_step else workers.map(ranks_of, parts)
    if exchange is not None and exchange.size > 1:
        ranks = [_gathered(ranks, exchange)]
    return _result("sampled", ranks, held_out, config, {}, held_out.candidates.shape[1])


def _tied_ranks_on(
    device: torch.device,
    score: Callable[[Tensor, Tensor], Tensor],
    held_out: HeldOut,
    exchange: Exchange | None,
) -> list[tuple[TiedRanks, int]]:
    """The ranks of all rows; each process computes its own part of them."""
    if exchange is None or exchange.size == 1:
        return [tied_ranks_on(score, held_out, slice(0, len(held_out)), device)]
    rows = span_of(len(held_out), exchange.rank, exchange.size)
    return [_gathered([tied_ranks_on(score, held_out, rows, device)], exchange)]


def _gathered(parts: list[tuple[TiedRanks, int]], exchange: Exchange) -> tuple[TiedRanks, int]:
    """The ranks of all processes, in the order of the held-out rows."""
    ranks, nonnumbers = _joined(parts)
    own = torch.from_numpy(np.stack([ranks.above, ranks.tied], axis=1))
    gathered = exchange.all_gather_rows(own).numpy()
    total = int(exchange.all_gather_rows(torch.tensor([nonnumbers])).sum())
    return TiedRanks(gathered[:, 0], gathered[:, 1]), total


def _joined(parts: list[tuple[TiedRanks, int]]) -> tuple[TiedRanks, int]:
    """The ranks of all parts, and the sum of their counts of NaN."""
    above, tied = (
        np.concatenate([np.zeros(0, np.int64), *(getattr(ranks, name) for ranks, _ in parts)])
        for name in ("above", "tied")
    )
    return TiedRanks(above, tied), sum(nonnumbers for _, nonnumbers in parts)


def evaluate_full(
    scorer: Scorer,
    dataset: Dataset,
    held_out: HeldOut,
    config: EvaluationConfig,
    workers: Workers,
    depth: int = 10,
) -> EvaluationResult:
    """Rank each positive among all items except the user's other known ones.

    All other positives of training, validation and test are masked. Users are scored in chunks, so memory
    does not grow with their number.

    Args:
        scorer: the model, on the CPU.
        dataset: the catalogue and what each user is known to have used.
        held_out: the rows to rank; the values of the result are sorted by user.
        config: cutoffs, tie rule and bootstrap resamples.
        workers: threads to use.
        depth: length of the lists whose coverage, popularity bias and novelty are reported.
    """
    order = np.argsort(held_out.user_rows, kind="stable")
    rows = max(1, _CATALOGUE_SCORES_AT_ONCE // len(dataset.items))
    parts = spans(len(order), -(-len(order) // rows)) if len(order) else []
    shown = np.zeros(len(dataset.items), dtype=np.int64)

    def ranks_of(part: slice) -> tuple[TiedRanks, int, np.ndarray]:
        with torch.inference_mode():
            return _full_tied_ranks(scorer, dataset, held_out, order[part], depth)

    ranks: list[tuple[TiedRanks, int]] = []
    for ranks_of_part, nonnumbers, top in workers.map(ranks_of, parts):
        ranks.append((ranks_of_part, nonnumbers))
        shown += np.bincount(top, minlength=len(shown))
    sorted_rows = held_out.take(order)
    figures = catalogue_figures(shown, dataset.popularity, depth)
    known = int(dataset.known.counts[held_out.user_rows].min(initial=len(dataset.items)))
    return _result("full", ranks, sorted_rows, config, figures, len(dataset.items) - known + 1)


def _full_tied_ranks(
    scorer: Scorer, dataset: Dataset, held_out: HeldOut, rows: np.ndarray, depth: int
) -> tuple[TiedRanks, int, np.ndarray]:
    """The ranks of some `rows`, how many rows have NaN scores, and the items of their top `depth` lists."""
    users = held_out.user_rows[rows].astype(np.int64)
    positives = torch.from_numpy(held_out.positives[rows].astype(np.int64))
    scores = scorer.catalogue(torch.from_numpy(users)).float()
    nonnumbers = _nonnumbers(scores)
    scores = torch.nan_to_num(scores, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    of_positive = scores.gather(1, positives[:, None])
    mask_items(scores, dataset.known, users)
    # Masked items, the positive among them, are minus infinity: neither above it nor tied with it.
    ranks = TiedRanks(
        (scores > of_positive).sum(1).numpy(),
        ((scores == of_positive) & (scores > -torch.inf)).sum(1).numpy(),
    )
    scores.scatter_(1, positives[:, None], of_positive)  # The positive itself may be in the list.
    return ranks, nonnumbers, scores.topk(min(depth, scores.shape[1]), dim=1).indices.numpy().ravel()


def catalogue_figures(shown: np.ndarray, popularity: np.ndarray, depth: int) -> dict[str, float]:
    """Coverage, popularity bias and novelty of lists with `depth` items.

    `shown` [I] counts how many lists each item is in, `popularity` [I] its training interactions. Coverage is
    the share of items that appear in any list. Popularity bias is the mean popularity of a shown item over
    that of a training interaction's item (above 1 the model favours popular items). Novelty, in bits, is the
    mean of -log2(popularity / all interactions) over the shown items (Vargas & Castells, RecSys'11, mean
    self-information); an item without interactions counts as used once.
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
    """How many rows have a NaN; a sum that is not NaN answers for all of them at once."""
    return int(scores.isnan().any(1).sum()) if bool(scores.sum().isnan()) else 0


def _result(
    protocol: str,
    parts: list[tuple[TiedRanks, int]],
    held_out: HeldOut,
    config: EvaluationConfig,
    catalogue: dict[str, float],
    longest: int,
) -> EvaluationResult:
    """The result of all `parts`; `longest` is the length of the longest list."""
    ranks, nonnumbers = _joined(parts)
    user_rows = np.asarray(held_out.user_rows)
    values = compute_metrics(ranks.resolve_ties(config.ties), user_rows, config.cutoffs)
    return EvaluationResult(
        protocol,
        config.ties,
        values,
        intervals_of(values, config.bootstrap, user_rows),
        user_rows,
        catalogue,
        nonnumbers,
        cannot_miss=tuple(k for k in config.cutoffs if k >= longest and len(held_out)),
        longest=longest,
    )


def compute_metrics(ranks: TiedRanks, user_rows: np.ndarray, cutoffs: tuple[int, ...]) -> dict[str, Floats]:
    """Values by name: every metric at each of the `cutoffs`, and mrr; `user_rows` [T] are the users."""
    by_cutoff: dict[str, Callable[[TiedRanks, int], Floats]] = {
        "hr": metrics.hit_ratio,
        "ndcg": metrics.ndcg,
        "recall": partial(metrics.recall, user_rows=user_rows),
    }
    values = {f"{name}@{k}": metric(ranks, k) for name, metric in by_cutoff.items() for k in cutoffs}
    values["mrr"] = metrics.reciprocal_rank(ranks)
    return values


def intervals_of(
    values: dict[str, Floats], resamples: int, user_rows: np.ndarray
) -> dict[str, tuple[float, float]]:
    """95% intervals by metric, from so many `resamples`; none from 0.

    Metrics with one value a row, whose users are `user_rows`, share their resamples, as do those of users.
    """
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
