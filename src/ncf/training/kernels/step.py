"""Forward and backward of a training step, written out, in chunks that stay in the processor's cache.

In: a batch of groups (one user, one positive, K negatives). Out: the loss and the gradient of every
parameter, equal to autograd's on the same objective (tests/training/kernels/test_step.py compares them):

    mean over the loss's terms + l2 * mean over the groups of ( |p_u|² + mean over the candidates of |q_i|² )

The decisions worth knowing. The activations of a chunk of groups are used for the backward pass while they
are still in cache, so those of the whole batch never go to memory and back. The user's share of the first
layer is computed once a group, or once a user where a step has more groups than users. The item's share is
one product over the rows that take part; its gradient is added up by row before it goes back through that
product once.

A step is cut into parts. One thread works through each part with accumulators of its own. They are added in
pairs, then in pairs of pairs, and so on; the last of these additions are between processes. So results depend
on the parts, never on which thread or process computed them, nor on timing.

Legend: B groups, C = 1 + K candidates, D factors, E embedding width, H hidden width, R rows that take part; b
is a chunk of B, and n = b x C.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ncf.models import GMF, MLP, HistoryGMF, Model, branches
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
    """One step of `model` on `batch`: the loss summed over its terms (a scalar, without L2) and all
    gradients.

    `parts` are this process's spans of groups, by default one a thread. `generators`, one for each part, draw
    the dropout masks; without them there is no dropout. `exchange` adds lists of tensors over the processes;
    it needs tables that take part whole. With it the gradients are of all groups, else of this process's.
    """
    parts = parts or StepParts(spans(batch.groups, workers.threads), workers.threads)
    steps = workers.map(lambda branch: _step(branch, batch, objective), branches(model))
    for step in steps:
        step.prepare(workers, parts.slices)

    def run(number: int) -> "tuple[Tensor, list[GmfWorker | MlpWorker]]":
        random = generators[number] if generators else None
        branches = [step.worker(parts.own[number], random) for step in steps]
        return _run_span(branches, parts.own[number], batch, objective), branches

    done = workers.map(run, list(range(len(parts.own))))
    # One list for each tensor that is summed over the parts: the loss, then what each branch names in `sums`.
    sums = [[loss for loss, _ in done]]
    for number in range(len(steps)):
        sums += map(list, zip(*(branches[number].sums() for _, branches in done), strict=True))
    _add_up(sums, workers, parts.slices)
    summed = [tensors[0] for tensors in sums] + [counts for step in steps for counts in step.draws()]
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
    if not any(isinstance(branch, MLP) and branch.tower.dropout > 0.0 for branch in branches(model)):
        return None
    device = next(model.parameters()).device
    numbers = range(parts.first, parts.first + len(parts.own))
    return [generator(seed, "dropout", epoch, step, number, device=device) for number in numbers]


def _step(branch: GMF | MLP, batch: Batch, objective: Objective) -> GmfStep | MlpStep:
    if isinstance(branch, MLP):
        return MlpStep(branch, batch, objective)
    if isinstance(branch, HistoryGMF):
        return (RecentStep if branch.half_life else HistoryStep)(branch, batch, objective)
    return GmfStep(branch, batch, objective)


def _run_span(
    branches: "list[GmfWorker | MlpWorker]", span: slice, batch: Batch, objective: Objective
) -> Tensor:
    """Forward, loss and backward of one part's groups, chunk by chunk; the loss of the part."""
    # The derivative of the mean over the groups of all processes. A group that does not count has the factor
    # zero: it is computed like the others, with no effect on the sums.
    counts = float(batch.counts)
    scale = counts / objective.loss.terms(batch.all_groups, batch.candidates)
    total = batch.users.index.new_zeros((), dtype=torch.float32)
    for start in range(span.start, span.stop, objective.chunk):
        chunk = slice(start, min(span.stop, start + objective.chunk))
        # Workers keep the activations of the chunk between forward and backward, where they are in cache.
        logits_bC = branches[0].forward(chunk)
        for worker in branches[1:]:
            logits_bC += worker.forward(chunk)
        loss, gradient_bC = objective.loss.sum_and_gradient(logits_bC)
        total += loss
        gradient_bC *= scale
        for worker in branches:
            worker.backward(chunk, gradient_bC)
    # What is cheaper for all groups at once than chunk by chunk.
    for worker in branches:
        worker.finish()
    return total.mul_(counts)


def _add_up(sums: list[list[Tensor]], workers: Workers, count: int) -> None:
    """Add each list into its first tensor; the threads share the rows of tables."""

    def add(tensors: list[Tensor], part: slice) -> None:
        add_in_pairs([tensor[part] for tensor in tensors] if tensors[0].ndim == 2 else tensors)

    tasks = [
        partial(add, tensors, part)
        for tensors in sums
        for part in spans(len(tensors[0]) if tensors[0].ndim == 2 else 1, count)
    ]
    workers.map(lambda task: task(), tasks)
