"""Forward and backward of a training step, written out, in chunks that stay in the processor's cache.

In: a batch of groups (one user, one positive, K negatives). Out: the loss and the gradient of every parameter, equal
to autograd's on the same objective (tests/training/kernels/test_step.py compares them):

    mean over the loss's terms + l2 * mean over the groups of ( |p_u|² + mean over the candidates of |q_i|² )

The decisions worth knowing. The tower's activations of a chunk of groups are used for the backward pass while they
are still in cache, instead of all activations of the batch going to memory and back. The user's half of the first
layer is computed once a group, or once a user where a step has more groups than users; the item's half is one product over the rows that take part, and its gradient is
gathered per row before it goes back through that product once.

A step is cut into parts. Each is worked through by one thread into accumulators of its own, which are added in pairs,
then pairs of pairs, and so on; several processes do their pairs, and the last additions between them. So results depend
on the parts, never on who worked them out, nor on timing. Layers that follow from a sum are gone back through after it.

Legend: B groups, C = 1 + K candidates, D factors, E embedding width, H hidden width, R rows that take part;
b is a chunk of B, and n = b x C.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ncf.models import GMF, MLP, HistoryGMF, Model, halves
from ncf.runtime import Workers, generator, spans
from ncf.training.kernels.batch import Batch, Gradients
from ncf.training.kernels.branch import Objective, StepParts, add_in_pairs
from ncf.training.kernels.gmf import GmfStep, GmfWorker
from ncf.training.kernels.history import HistoryStep
from ncf.training.kernels.mlp import MlpStep, MlpWorker
from ncf.training.kernels.recency import RecentStep

Exchange = Callable[[list[Tensor]], list[Tensor]]


def loss_and_gradients(
    model: Model,
    batch: Batch,
    objective: Objective,
    workers: Workers,
    generators: list[torch.Generator] | None = None,
    parts: StepParts | None = None,
    exchange: Exchange | None = None,
) -> tuple[Tensor, Gradients]:
    """One step: the loss summed over its terms (a scalar tensor, L2 left out) and all gradients.

    `parts`: by default one a thread. `generators`, one for each of them, draw the dropout masks; without them there is no
    dropout. `exchange` adds up lists of tensors over the processes; it needs tables that take part whole.
    """
    parts = parts or StepParts(spans(batch.groups, workers.threads), workers.threads)
    steps = workers.map(lambda half: _step(half, batch, objective), halves(model))
    for step in steps:
        step.prepare(workers, parts.slices)

    def run(number: int) -> "tuple[Tensor, list[GmfWorker | MlpWorker]]":
        random = generators[number] if generators else None
        shares = [step.share(parts.own[number], random) for step in steps]
        return _run_span(shares, parts.own[number], batch, objective), shares

    done = workers.map(run, list(range(len(parts.own))))
    sums = [[loss for loss, _ in done]]
    for place, step in enumerate(steps):
        step.shares = [shares[place] for _, shares in done]
        sums += map(list, zip(*(share.sums() for share in step.shares), strict=True))
    _add_up(sums, workers, parts.slices)
    summed = [each[0] for each in sums] + [counts for step in steps for counts in step.draws()]
    if exchange is not None:
        summed = exchange(summed)
    loss, values, counts = summed[0], iter(summed[1 : len(sums)]), iter(summed[len(sums) :])
    tasks: list[Callable[[], None]] = []
    for step in steps:
        step.take(values, counts)
        tasks += step.user_tasks(parts.slices)
        tasks += [partial(step.reduce_items, part) for part in spans(batch.items.count, parts.slices)]
    workers.map(lambda task: task(), tasks)
    gradients: Gradients = {}
    for step in steps:
        gradients.update(step.gradients())
    return loss, gradients


def dropout_generators(
    model: Model, seed: int, epoch: int, step: int, parts: StepParts
) -> list[torch.Generator] | None:
    """A generator of dropout masks for each of this process's parts; None where the model has no dropout.

    A mask follows from (seed, epoch, step, part) alone, so a resumed run draws the same ones.
    """
    if not any(isinstance(half, MLP) and half.tower.dropout > 0.0 for half in halves(model)):
        return None
    device = next(model.parameters()).device
    numbers = range(parts.first, parts.first + len(parts.own))
    return [generator(seed, "dropout", epoch, step, number, device=device) for number in numbers]


def _step(half: GMF | MLP, batch: Batch, objective: Objective) -> GmfStep | MlpStep:
    if isinstance(half, MLP):
        return MlpStep(half, batch, objective)
    if isinstance(half, HistoryGMF):
        return (RecentStep if half.half_life else HistoryStep)(half, batch, objective)
    return GmfStep(half, batch, objective)


def _run_span(
    shares: "list[GmfWorker | MlpWorker]", cut: slice, batch: Batch, objective: Objective
) -> Tensor:
    """Forward, loss and backward of one part's groups, chunk by chunk."""
    counts = float(batch.counts)
    scale = counts / objective.loss.terms(batch.all_groups, batch.candidates)
    total = batch.users.index.new_zeros((), dtype=torch.float32)
    for start in range(cut.start, cut.stop, objective.chunk):
        chunk = slice(start, min(cut.stop, start + objective.chunk))
        logits_bC = shares[0].forward(chunk)
        for share in shares[1:]:
            logits_bC += share.forward(chunk)
        loss, gradient_bC = objective.loss.sum_and_gradient(logits_bC)
        total += loss
        gradient_bC *= scale
        for share in shares:
            share.backward(chunk, gradient_bC)
    for share in shares:
        share.finish()
    return total.mul_(counts)


def _add_up(sums: list[list[Tensor]], workers: Workers, count: int) -> None:
    """Each list into its first tensor; the rows of a table are shared out among the threads."""

    def add(tensors: list[Tensor], part: slice) -> None:
        add_in_pairs([tensor[part] for tensor in tensors] if tensors[0].ndim == 2 else tensors)

    tasks = [
        partial(add, tensors, part)
        for tensors in sums
        for part in spans(len(tensors[0]) if tensors[0].ndim == 2 else 1, count)
    ]
    workers.map(lambda task: task(), tasks)
