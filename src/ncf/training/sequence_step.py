"""A training step of a model of sequences: every item of a window is predicted from those before it.

In: windows of users' items and the negatives that all share. Out: moved weights. The loss of a position whose
next item is i, with the negatives N of the step, none of which is i:

    softmax  -log( e^(y_i) / (e^(y_i) + sum over N of e^(y_j + log(I / |N|))) )
    bce      -b log s(y_i) - sum over N of log(1 - s(y_j)),   b = r (.75 (1/r - 1) + 1),   r = |N| / (I - 1)
    bpr      sum over N of -log s(y_i - y_j)

The first is the softmax over all items, with the sum over the others estimated. The second is gBCE with a
calibration of .75 (Petrov & Macdonald, RecSys'23): with few negatives a plain BCE is far too sure.

Two decisions worth knowing. Autograd differentiates here, since the time goes into products of whole windows
and not into the calls between them. And the MLP of a NeuMF scores the negatives once a window, as its part of
a score does not depend on the position.

Legend: B windows, L positions, K negatives, I items, D factors, T positions with a next item.
"""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import embedding, logsigmoid, softplus

from ncf.config import TrainConfig
from ncf.errors import ConfigError
from ncf.models import Model, NeuMF, branches
from ncf.models.layers import DropoutMasks
from ncf.models.sequences import SequenceModel
from ncf.runtime import Workers, seed_of
from ncf.training.checkpoint import add_prefix, part
from ncf.training.kernels.batch import Gradients, RowGradient
from ncf.training.kernels.branch import Objective
from ncf.training.optimizers import Optimizer
from ncf.training.parallel.communicator import Communicator
from ncf.training.sequence_sampling import SequenceSampler, SequenceStep

_CALIBRATION = 0.75
_POSITIONS_AT_ONCE = 4096
"""Of a part that goes forward and backward at once: its activations stay in cache."""


def position_losses(name: str, positive_T: Tensor, negatives_TK: Tensor, items: int) -> Tensor:
    """[T]: the loss `name` of each position, from the logits of its next item and of its negatives.

    A negative that is the next item has the logit minus infinity; `items` is I.
    """
    count = negatives_TK.shape[1]
    if name == "bpr":
        return softplus(negatives_TK - positive_T[:, None]).sum(1)
    if name == "bce":
        share = count / max(1, items - 1)
        power = min(1.0, share * (_CALIBRATION * (1 / share - 1) + 1))
        return softplus(negatives_TK).sum(1) - power * logsigmoid(positive_T)
    others_T = torch.logsumexp(negatives_TK, 1) + math.log(items / count)
    return softplus(others_T - positive_T)


class SequenceRunner:
    """A step of windows through autograd, on any device; several processes add their gradients up."""

    def __init__(
        self,
        model: Model,
        branch: SequenceModel,
        config: TrainConfig,
        objective: Objective,
        workers: Workers,
        communicator: Communicator,
    ) -> None:
        """`branch` is the part of `model` that reads sequences; they are attached to it."""
        if config.optimizer == "lazy":
            raise ConfigError(
                "A model of sequences moves its tables whole: set train.optimizer = 'auto' or 'dense'."
            )
        self.model, self.branch, self.config, self.objective = model, branch, config, objective
        self.workers, self.communicator = workers, communicator
        self.lazy: set[str] = set()
        if isinstance(model, NeuMF):
            model.mlp.eval()  # the tower would draw its dropout from torch's global generator
        # What all candidates share makes no difference among them; its gradient is rounding alone.
        shared = set() if objective.loss.name == "bce" else {half.bias for half in branches(model)}
        self.parameters = [value for value in model.parameters() if value not in shared]
        self.sampler = partial(SequenceSampler, sequences=branch.attached, length=branch.length)
        self.optimizer = Optimizer(model, config, self.lazy)

    def run(self, step: SequenceStep, rate: float, stop: bool) -> tuple[Tensor, bool]:
        results = self.workers.map(partial(self._part, step), _pieces(step, self.workers.threads))
        loss, gradients = results[0] if results else (torch.zeros(()), (None,) * len(self.parameters))
        totals = [
            torch.zeros_like(parameter) if gradient is None else gradient
            for parameter, gradient in zip(self.parameters, gradients, strict=True)
        ]
        for more, others in results[1:]:  # in the order of the pieces, whichever was done first
            loss = loss + more
            for total, gradient in zip(totals, others, strict=True):
                if gradient is not None:
                    total += gradient
        *totals, loss, flag = self.communicator.sum([*totals, loss, loss.new_tensor(float(stop))])
        moved: Gradients = {
            parameter: RowGradient(None, total)
            for parameter, total in zip(self.parameters, totals, strict=True)
        }
        self.optimizer.step(moved, rate, self.workers)
        return loss, bool(flag > 0)

    def state(self) -> dict[str, Tensor]:
        return add_prefix("optimizer", self.optimizer.state())

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.optimizer.load_state(part(tensors, "optimizer"))

    def _part(
        self, step: SequenceStep, numbered: tuple[int, slice]
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """The loss summed over the positions of some windows, and the gradients of the step's mean."""
        number, span = numbered
        counters = step.epoch, step.number, self.communicator.rank, number
        drop = DropoutMasks(self.branch.dropout, seed_of(self.config.seed, "dropout", *counters))
        loss = self._loss(step, span, drop)
        terms = self.objective.loss.terms(step.groups, step.candidates)
        return loss.detach(), torch.autograd.grad(loss / terms, self.parameters, allow_unused=True)

    def _loss(self, step: SequenceStep, span: slice, drop: DropoutMasks) -> Tensor:
        """Summed over the positions of the windows at `span`."""
        branch, objective = self.branch, self.objective
        assert branch.item_bias is not None
        items = len(branch.item_table)
        users_B, items_BL, negatives_K = step.users[span], step.items[span], step.negatives
        longest = int((items_BL < items).sum(1).max())
        inputs_BL, next_BL = items_BL[:, : longest - 1], items_BL[:, 1:longest]
        there_BL = next_BL < items
        owners_T, next_T = there_BL.nonzero()[:, 0], next_BL[there_BL]
        # One look-up for both, as the gradient of each is as large as the table.
        rows = torch.cat([negatives_K, next_T])
        vectors, biases = (
            embedding(rows, branch.item_table) * branch.output,
            branch.item_bias[rows] + branch.bias,
        )
        count, device = len(negatives_K), branch.item_table.device.type
        with torch.autocast(device, objective.precision, enabled=objective.precision != torch.float32):
            vectors_TD = branch.encode(inputs_BL, users_B, drop)[there_BL]
            negatives_TK = vectors_TD @ vectors[:count].T
        negatives_TK = negatives_TK.float() + biases[:count]
        positive_T = (vectors_TD.float() * vectors[count:]).sum(1) + biases[count:]
        if isinstance(self.model, NeuMF):
            mlp = self.model.mlp
            negatives_TK = negatives_TK + mlp(users_B, negatives_K.expand(len(users_B), -1))[owners_T]
            positive_T = positive_T + mlp(users_B[owners_T], next_T[:, None])[:, 0]
        places_T = torch.searchsorted(negatives_K, next_T).clamp(max=len(negatives_K) - 1)
        hits_T = negatives_K[places_T] == next_T
        negatives_TK[hits_T.nonzero()[:, 0], places_T[hits_T]] = -torch.inf
        losses_T = position_losses(objective.loss.name, positive_T, negatives_TK, items)
        if step.weights is not None:
            losses_T = losses_T * step.weights[span][:, 1:longest][there_BL]
        return losses_T.sum()


def _pieces(step: SequenceStep, threads: int) -> list[tuple[int, slice]]:
    """Numbered spans of this process's windows, of a bounded size and for all threads."""
    fitting = max(1, _POSITIONS_AT_ONCE // max(1, step.items.shape[1] - 1))
    at_once = max(1, min(fitting, -(-len(step.users) // threads)))
    starts = range(0, len(step.users), at_once)
    return [(number, slice(start, start + at_once)) for number, start in enumerate(starts)]
