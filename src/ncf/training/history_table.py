"""The history's table of a model in training: the sums that steps use, and the moves of the table.

In: a model whose users' history is attached, and the gradients of steps. Out: sums [U, D] that are exact between two moves,
and the table's gradient for a move. `models/history.py` says why the table moves only now and then.

With dropout a share of all (user, item) pairs is left out of the sums, drawn anew at each move from (seed, number of the
move, pair) by a counter, so that a pair's fate is known wherever it is asked for: in the sums, and for a positive.

Legend: U users, I items, N interactions, b groups, D factors.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ncf.models import History, HistoryGMF
from ncf.models.recency import scale
from ncf.runtime import Workers, seed_of, spans
from ncf.training.counter_rng import fractions
from ncf.training.kernels.batch import Gradients, RowGradient

_INTERACTIONS_A_CANDIDATE = 30
"""As many interactions of a move cost three quarters of what one candidate of a step does (docs/performance.md)."""


def steps_between_moves(interactions: int, groups: int, candidates: int) -> int:
    """So many that moves cost about three quarters of the steps at most; 1 where steps are not much smaller than the history."""
    return max(1, round(interactions / (_INTERACTIONS_A_CANDIDATE * groups * candidates)))


@dataclass
class Sums:
    """`values` [U, D] and `scale_U1` [U, 1] of a history without one item, and which pairs count."""

    values: Tensor
    scale_U1: Tensor
    items: int
    dropout: float
    seed: int = 0

    @classmethod
    def of(cls, model: HistoryGMF) -> "Sums":
        """Those that a `HistoryTable` keeps for the model."""
        found = model.__dict__.get("training_sums")
        assert isinstance(found, Sums), "a HistoryTable makes the sums that steps use"
        return found

    def kept(self, users: Tensor, items: Tensor) -> Tensor | None:
        """[.., 1]: what each pair counts, zero or 1 / (1 - dropout); None where there is no dropout."""
        if not self.dropout:
            return None
        draws = fractions(self.seed, users * self.items + items)
        return (draws >= self.dropout).float().div_(1.0 - self.dropout)[:, None]


class HistoryTable:
    """Keeps the sums of a model, gathers the gradients of its history's table, and says when it moves."""

    def __init__(self, model: HistoryGMF, every: int, l2: float, seed: int, workers: Workers) -> None:
        self.model, self.every, self.l2, self.seed, self.workers = model, every, l2, seed, workers
        assert isinstance(model.attached, History)
        self._history = history = model.attached
        table = model.history_table
        self.moves, self.steps = 0, 0
        self.d_sums = torch.zeros_like(model.user_table, requires_grad=False)
        self.d_left_out = torch.zeros_like(table, requires_grad=False)
        self._shares_I1 = history.item_offsets.diff().float()[:, None] / max(1, len(history.items))
        self._sums = Sums(
            torch.empty_like(self.d_sums),
            scale(history.counts - 1, model.exponent)[:, None],
            len(table),
            model.dropout,
        )
        self._users_N = torch.repeat_interleave(history.offsets.diff()) if model.dropout else None
        model.__dict__["training_sums"] = self._sums
        self.refresh()

    def refresh(self) -> None:
        """The sums of the table as it is now."""
        history, table = self._history, self.model.history_table.detach()
        self._sums.seed = seed_of(self.seed, "history dropout", self.moves)
        weights_N = self._weights(self._users_N, history.items) if self._users_N is not None else None

        def add_up(part: slice) -> None:
            self._sums.values[part] = history.sums(table, part, weights_N)

        self.workers.map(add_up, _even(history.offsets, self.workers.threads))

    def gather(self, gradients: Gradients) -> Gradients:
        """Keep a step's gradients of the sums and the positives; the table's gradient is there once it is time to move."""
        others = dict(gradients)
        self.d_sums += others.pop(self._sums.values).values
        self.d_left_out += others.pop(self.model.history_table).values
        self.steps += 1
        if self.steps == self.every:
            others[self.model.history_table] = RowGradient(None, self._gradient())
        return others

    def _gradient(self) -> Tensor:
        """[I, D]: the mean over the steps, and L2 once a positive."""
        history = self._history
        weights_N = None
        if self._users_N is not None:
            items_N = torch.repeat_interleave(history.item_offsets.diff())
            weights_N = self._weights(history.users, items_N)
        gradient = torch.empty_like(self.d_left_out)

        def back(part: slice) -> None:
            gradient[part] = history.back(self.d_sums, part, weights_N)

        self.workers.map(back, _even(history.item_offsets, self.workers.threads))
        gradient.add_(self.d_left_out).div_(self.steps)
        return gradient.addcmul_(self.model.history_table.detach(), self._shares_I1, value=2.0 * self.l2)

    def after(self) -> None:
        """After the optimiser's step: where the table has moved, begin anew."""
        if self.steps < self.every:
            return
        self.moves, self.steps = self.moves + 1, 0
        self.d_sums.zero_()
        self.d_left_out.zero_()
        self.refresh()

    def _weights(self, users_N: Tensor, items_N: Tensor) -> Tensor:
        kept = self._sums.kept(users_N, items_N)
        assert kept is not None
        return kept[:, 0]

    def state(self) -> dict[str, Tensor]:
        """What is gathered, for a checkpoint in the middle of an epoch."""
        counts = torch.tensor([self.moves, self.steps])
        return {"d_sums": self.d_sums, "d_left_out": self.d_left_out, "counts": counts}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from there, with the table as it is now."""
        self.d_sums.copy_(state["d_sums"])
        self.d_left_out.copy_(state["d_left_out"])
        self.moves, self.steps = (int(count) for count in state["counts"])
        self.refresh()


def _even(offsets: Tensor, parts: int) -> list[slice]:
    """Rows cut into at most `parts` spans of about as many interactions each."""
    rows, total = len(offsets) - 1, int(offsets[-1])
    if parts < 2 or not total:
        return spans(rows, 1)
    wanted = torch.tensor([total * part // parts for part in range(1, parts)], device=offsets.device)
    bounds = [0, *torch.searchsorted(offsets, wanted).tolist(), rows]
    return [slice(a, b) for a, b in pairwise(bounds) if b > a]
