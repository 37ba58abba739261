"""The history's table of a model in training: the sums that steps use, and the moves of the table.

In: a model whose users' histories are attached, and the gradients of steps. Out: sums [U, D] that are exact
between two moves, and the table's gradient for a move. `models/history.py` says why the table moves only
every few steps.

The decision worth knowing: dropout leaves a share of all (user, item) pairs out of the sums. Which ones
follows by a counter from (seed, number of the move, pair), so it is known wherever it is needed: in the sums,
and for a positive.

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
"""That many interactions of a move cost three quarters of one candidate of a step (docs/performance.md)."""


def steps_between_moves(interactions: int, groups: int, candidates: int) -> int:
    """The steps between two moves, so that moves cost about three quarters of the steps at most; at least 1.

    `interactions` are those of the history; a step has `groups` of `candidates`.
    """
    return max(1, round(interactions / (_INTERACTIONS_A_CANDIDATE * groups * candidates)))


@dataclass
class Sums:
    """`values` [U, D] of whole histories, `scale_U1` [U, 1] of those without one item; which pairs count."""

    values: Tensor
    scale_U1: Tensor
    items: int
    dropout: float
    seed: int = 0

    @classmethod
    def of(cls, model: HistoryGMF) -> "Sums":
        """The sums that a `HistoryTable` keeps for the model."""
        sums = model.__dict__.get("training_sums")
        assert isinstance(sums, Sums), "a HistoryTable makes the sums that steps use"
        return sums

    def kept(self, users: Tensor, items: Tensor) -> Tensor | None:
        """[N, 1]: what each pair counts, zero or 1 / (1 - dropout); None where there is no dropout."""
        if not self.dropout:
            return None
        draws = fractions(self.seed, users * self.items + items)
        return (draws >= self.dropout).float().div_(1.0 - self.dropout)[:, None]


class HistoryTable:
    """Keeps the sums of a model, gathers the gradients of its history's table, and moves it when it is time.

    It moves `every` so many steps, with L2 of strength `l2`; `seed` draws the dropout.
    """

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
        # Without dropout all pairs count alike, and no weights are needed.
        self._users_N = torch.repeat_interleave(history.offsets.diff()) if model.dropout else None
        model.__dict__["training_sums"] = self._sums
        self.refresh()

    def refresh(self) -> None:
        """Compute the sums of the table as it is now."""
        history, table = self._history, self.model.history_table.detach()
        self._sums.seed = seed_of(self.seed, "history dropout", self.moves)
        weights_N = self._weights(self._users_N, history.items) if self._users_N is not None else None

        def add_up(part: slice) -> None:
            self._sums.values[part] = history.sums(table, part, weights_N)

        self.workers.map(add_up, _even_spans(history.offsets, self.workers.threads))

    def gather(self, gradients: Gradients) -> Gradients:
        """A step's gradients for the optimiser, with that of the history's table only when it is time to move
        it.

        `gradients` have those of the sums and of the positives left out of them, which are kept until then.
        """
        others = dict(gradients)
        # Steps between two moves see the same table, so their gradients are added up first: the product with
        # the transposed history takes longest.
        self.d_sums += others.pop(self._sums.values).values
        self.d_left_out += others.pop(self.model.history_table).values
        self.steps += 1
        if self.steps == self.every:
            others[self.model.history_table] = RowGradient(None, self._gradient())
        return others

    def _gradient(self) -> Tensor:
        """[I, D]: the mean gradient of the kept steps, with L2 once a positive."""
        history = self._history
        weights_N = None
        if self._users_N is not None:
            items_N = torch.repeat_interleave(history.item_offsets.diff())
            weights_N = self._weights(history.users, items_N)
        gradient = torch.empty_like(self.d_left_out)

        def back(part: slice) -> None:
            gradient[part] = history.back(self.d_sums, part, weights_N)

        self.workers.map(back, _even_spans(history.item_offsets, self.workers.threads))
        gradient.add_(self.d_left_out).div_(self.steps)
        return gradient.addcmul_(self.model.history_table.detach(), self._shares_I1, value=2.0 * self.l2)

    def after(self) -> None:
        """After the optimiser's step: if the table has moved, compute its sums and start to gather anew."""
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
        """What has been gathered, for a checkpoint in the middle of an epoch."""
        counts = torch.tensor([self.moves, self.steps])
        return {"d_sums": self.d_sums, "d_left_out": self.d_left_out, "counts": counts}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave; the sums are those of the table as it is now."""
        self.d_sums.copy_(state["d_sums"])
        self.d_left_out.copy_(state["d_left_out"])
        self.moves, self.steps = (int(count) for count in state["counts"])
        self.refresh()  # after `moves` is back, which decides the dropout


def _even_spans(offsets: Tensor, parts: int) -> list[slice]:
    """The rows, cut into at most `parts` spans with about equally many interactions."""
    rows, total = len(offsets) - 1, int(offsets[-1])
    if parts < 2 or not total:
        return spans(rows, 1)
    wanted = torch.tensor([total * part // parts for part in range(1, parts)], device=offsets.device)
    bounds = [0, *torch.searchsorted(offsets, wanted).tolist(), rows]
    return [slice(a, b) for a, b in pairwise(bounds) if b > a]
