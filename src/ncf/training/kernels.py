"""Forward and backward of a training step, written out, in chunks that stay in the processor's cache.

In: a batch of groups (one user, one positive, K negatives). Out: the loss and the gradient of every parameter, equal
to autograd's on the same objective (tests/training/test_kernels.py compares them):

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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ncf.models import GMF, MLP, Model, halves
from ncf.runtime import Workers, spans
from ncf.training.dropout import drop_
from ncf.training.losses import Loss
from ncf.training.rows import RowGradient, Rows

Gradients = dict[Tensor, RowGradient]
_relu_backward = torch.ops.aten.threshold_backward


@dataclass(frozen=True)
class Batch:
    """B groups: the rows of the user table and of the item table [B, C] (positive first) that they mean."""

    users: Rows
    items: Rows
    total: int = 0
    """Groups of the step over all processes, where these are only a part of it."""
    counts: bool = True
    """False where there is no group: then there is one that does not count, so that shapes are as elsewhere."""

    @property
    def groups(self) -> int:
        """B."""
        return len(self.users.index)

    @property
    def all_groups(self) -> int:
        """B over all processes."""
        return self.total or self.groups

    @property
    def candidates(self) -> int:
        """C."""
        return self.items.index.shape[1]


@dataclass(frozen=True)
class Objective:
    """What a step minimises and how it computes: see the module's formula."""

    loss: Loss
    l2_gmf: float = 0.0
    l2_mlp: float = 0.0
    precision: torch.dtype = torch.float32
    chunk: int = 2048
    """Groups a chunk."""


@dataclass(frozen=True)
class Parts:
    """The spans of groups of this process, the first being the `first` of all; rows of tables are cut into `slices`."""

    own: list[slice]
    slices: int
    first: int = 0


Exchange = Callable[[list[Tensor]], list[Tensor]]


def loss_and_gradients(
    model: Model,
    batch: Batch,
    objective: Objective,
    workers: Workers,
    generators: list[torch.Generator] | None = None,
    parts: Parts | None = None,
    exchange: Exchange | None = None,
) -> tuple[Tensor, Gradients]:
    """One step: the loss summed over its terms (a scalar tensor, L2 left out) and all gradients.

    `parts`: by default one a thread. `generators`, one for each of them, draw the dropout masks; without them there is no
    dropout. `exchange` adds up lists of tensors over the processes; it needs tables that take part whole.
    """
    parts = parts or Parts(spans(batch.groups, workers.threads), workers.threads)
    steps = workers.map(lambda half: _step(half, batch, objective), halves(model))
    for step in steps:
        step.prepare(workers, parts.slices)

    def run(number: int) -> "tuple[Tensor, list[_GmfShare | _MlpShare]]":
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


def _step(half: GMF | MLP, batch: Batch, objective: Objective) -> "_GmfStep | _MlpStep":
    return _GmfStep(half, batch, objective) if isinstance(half, GMF) else _MlpStep(half, batch, objective)


def _run_span(
    shares: "list[_GmfShare | _MlpShare]", cut: slice, batch: Batch, objective: Objective
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


def _l2(values: Tensor, table: Tensor, times_drawn: Tensor, strength: float, draws: int) -> None:
    """Add the gradient of strength / draws * sum over the draws of |row|², in place."""
    values.addcmul_(table, times_drawn[:, None], value=2.0 * strength / draws)


class _Step:
    """One step of either half: the rows that take part, and where their gradients are gathered."""

    shares: "list[Any]"
    d_users: Tensor
    d_items: Tensor

    def __init__(self, model: GMF | MLP, batch: Batch, l2: float) -> None:
        self.batch, self.l2 = batch, l2
        self.user_table = batch.users.take(model.user_table.detach())
        self.item_table = batch.items.take(model.item_table.detach())
        self.output = model.output.detach()
        self.bias = model.bias.detach()
        self.d_user_BD = self.user_table.new_empty(batch.groups, self.user_table.shape[1])
        self.by_part = batch.users.rows is None
        """Whether each part adds up its users' gradients; where only some rows take part, all parts do so together."""

    def prepare(self, workers: Workers, count: int) -> None:
        """What all shares need and is worth dividing among the threads."""

    def draws(self) -> list[Tensor]:
        """How often each row of both tables is drawn; only L2 asks."""
        if not self.l2:
            return []
        drawn = [self.batch.users.times_drawn, self.batch.items.times_drawn]
        return drawn if self.batch.counts else [torch.zeros_like(counts) for counts in drawn]

    def take(self, values: Iterator[Tensor], counts: Iterator[Tensor]) -> None:
        """The sums of what the shares have: `values` in the order of their `sums`, and `counts` in that of `draws`."""
        raise NotImplementedError

    def take_counts(self, counts: Iterator[Tensor]) -> None:
        """As `draws` gives them, over all processes."""
        if self.l2:
            self.user_draws, self.item_draws = next(counts), next(counts)

    def user_gradient(self, span: slice) -> Tensor:
        """[U, D] of a part's groups."""
        d_users = torch.zeros_like(self.user_table)
        return d_users.index_add_(0, self.batch.users.index[span], self.d_user_BD[span])

    def sum_by_user(self) -> Tensor:
        """The same of all groups."""
        return self.user_gradient(slice(0, self.batch.groups))

    def user_tasks(self, _: int) -> list[Callable[[], None]]:
        """What is left to do for the users' gradients, to be shared out among the threads."""
        return [partial(self.add_user_l2, slice(None))]

    def add_user_l2(self, part: slice) -> None:
        """L2 of some of the users, once their gradient is there."""
        if self.l2:
            groups = self.batch.all_groups
            _l2(self.d_users[part], self.user_table[part], self.user_draws[part], self.l2, groups)

    def add_item_l2(self, part: slice) -> None:
        """L2 of some of the items, once their gradient is there."""
        if self.l2:
            draws = self.batch.all_groups * self.batch.candidates
            _l2(self.d_items[part], self.item_table[part], self.item_draws[part], self.l2, draws)

    def table_gradients(self, model: GMF | MLP) -> Gradients:
        """Both tables' gradients."""
        return {
            model.user_table: RowGradient(self.batch.users.rows, self.d_users),
            model.item_table: RowGradient(self.batch.items.rows, self.d_items),
        }


class _GmfStep(_Step):
    """One step of a GMF."""

    def __init__(self, model: GMF, batch: Batch, objective: Objective) -> None:
        super().__init__(model, batch, objective.l2_gmf)
        self.model = model

    def share(self, span: slice, _: torch.Generator | None) -> "_GmfShare":
        """A thread's part."""
        return _GmfShare(self, span)

    def take(self, values: Iterator[Tensor], counts: Iterator[Tensor]) -> None:
        """As `_GmfShare.sums` gives them."""
        self.d_users = next(values) if self.by_part else self.sum_by_user()
        self.d_items, self.d_output, self.d_bias = (next(values) for _ in range(3))
        self.take_counts(counts)

    def reduce_items(self, part: slice) -> None:
        """Only L2 is left."""
        self.add_item_l2(part)

    def gradients(self) -> Gradients:
        """Of every parameter."""
        return self.table_gradients(self.model) | {
            self.model.output: RowGradient(None, self.d_output),
            self.model.bias: RowGradient(None, self.d_bias),
        }


class _GmfShare:
    """One thread's part of a GMF step: logit = (h * p_u) . q_i + b."""

    def __init__(self, step: _GmfStep, span: slice) -> None:
        self.step, self.span = step, span
        self.d_items = torch.zeros_like(step.item_table)
        self.d_output = torch.zeros_like(step.output)
        self.d_bias = torch.zeros_like(step.bias)

    def forward(self, chunk: slice) -> Tensor:
        step, index_bC = self.step, self.step.batch.items.index[chunk]
        self.index_n = index_bC.reshape(-1)
        self.user_bD = step.user_table.index_select(0, step.batch.users.index[chunk])
        self.weighted_bD = self.user_bD * step.output
        self.items_bCD = step.item_table.index_select(0, self.index_n).view(*index_bC.shape, -1)
        return (self.items_bCD * self.weighted_bD[:, None]).sum(2).add_(step.bias)

    def backward(self, chunk: slice, gradient_bC: Tensor) -> None:
        step = self.step
        d_weighted_bD = self.items_bCD.mul_(gradient_bC[:, :, None]).sum(1)
        torch.mul(d_weighted_bD, step.output, out=step.d_user_BD[chunk])
        self.d_output += d_weighted_bD.mul_(self.user_bD).sum(0)
        self.d_bias += gradient_bC.sum()
        d_items_nD = (gradient_bC[:, :, None] * self.weighted_bD[:, None]).view(len(self.index_n), -1)
        self.d_items.index_add_(0, self.index_n, d_items_nD)

    def finish(self) -> None:
        """The users' gradients, where each part adds up its own."""
        self.d_users = [self.step.user_gradient(self.span)] if self.step.by_part else []

    def sums(self) -> list[Tensor]:
        """What is added up over the parts, in the order of `take`."""
        return [*self.d_users, self.d_items, self.d_output, self.d_bias]


class _MlpStep(_Step):
    """One step of an MLP: both halves of the first layer, and the tower's weights in the step's precision."""

    def __init__(self, model: MLP, batch: Batch, objective: Objective) -> None:
        super().__init__(model, batch, objective.l2_mlp)
        self.model, self.precision = model, objective.precision
        self.dropout = model.tower.dropout
        self.user_weight = self._cast(model.first.user_weight)
        self.item_weight = self._cast(model.first.item_weight)
        self.first_bias = self._cast(model.first.bias)
        self.weights = [self._cast(layer.weight) for layer in model.tower.linears()]
        self.biases = [self._cast(layer.bias) for layer in model.tower.linears()]
        self.output = self._cast(model.output)
        self.low_items = torch.empty_like(self.item_table, dtype=self.precision)
        self.item_half_RH = self.low_items.new_empty(len(self.item_table), len(self.item_weight))
        self.d_items = torch.empty_like(self.item_table)
        self.d_item_weights: dict[int, Tensor] = {}
        self.users_by_row = batch.users.count < (batch.all_groups if self.by_part else batch.groups)
        self.d_user_weights: dict[int, Tensor] = {}

    def _cast(self, parameter: Tensor) -> Tensor:
        return parameter.detach().to(self.precision)

    def prepare(self, workers: Workers, count: int) -> None:
        """The items' half of the first layer; the users' too, where a step has more groups than users."""

        def items(part: slice) -> None:
            self.low_items[part] = self.item_table[part]
            torch.mm(self.low_items[part], self.item_weight.T, out=self.item_half_RH[part])

        def users(part: slice) -> None:
            self.low_users[part] = self.user_table[part]
            product = torch.addmm(self.first_bias, self.low_users[part], self.user_weight.T)
            self.user_half_RH[part] = product

        workers.map(items, spans(len(self.item_table), count))
        if self.users_by_row:
            self.low_users = torch.empty_like(self.user_table, dtype=self.precision)
            self.user_half_RH = self.low_users.new_empty(len(self.user_table), len(self.user_weight))
            workers.map(users, spans(len(self.user_table), count))

    def share(self, span: slice, generator: torch.Generator | None) -> "_MlpShare":
        """A thread's part."""
        return _MlpShare(self, span, generator)

    def take(self, values: Iterator[Tensor], counts: Iterator[Tensor]) -> None:
        """As `_MlpShare.sums` gives them."""
        if self.users_by_row:
            self.d_user_half_RH, self.d_users = next(values), torch.empty_like(self.user_table)
        else:
            self.d_users = next(values) if self.by_part else self.sum_by_user()
            self.d_user_weights[0] = next(values)
        self.d_item_half_RH, self.d_first_bias, self.d_output, self.d_bias = (next(values) for _ in range(4))
        self.d_tower = [(next(values), next(values)) for _ in self.weights]
        self.take_counts(counts)

    def reduce_items(self, part: slice) -> None:
        """Back through the items' half of the first layer, for some of the items."""
        self.d_items[part], self.d_item_weights[part.start] = self._back(
            self.d_item_half_RH[part], self.item_weight, self.low_items[part]
        )
        self.add_item_l2(part)

    def _back(self, d_half: Tensor, weight: Tensor, low_rows: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of some rows of a table and of the weight they went through."""
        d_half_RH = d_half.to(self.precision)
        return d_half_RH @ weight, (d_half_RH.T @ low_rows).float()

    def user_tasks(self, count: int) -> list[Callable[[], None]]:
        """By row like the items where the forward pass was."""
        if not self.users_by_row:
            return super().user_tasks(count)
        return [partial(self.reduce_user_rows, part) for part in spans(len(self.user_table), count)]

    def reduce_user_rows(self, part: slice) -> None:
        """Back through the users' half of the first layer, for some of the users."""
        self.d_users[part], self.d_user_weights[part.start] = self._back(
            self.d_user_half_RH[part], self.user_weight, self.low_users[part]
        )
        self.add_user_l2(part)

    def gradients(self) -> Gradients:
        """Of every parameter."""
        model = self.model
        small: dict[Tensor, Tensor] = {
            model.first.user_weight: add_in_pairs(_in_order(self.d_user_weights)),
            model.first.item_weight: add_in_pairs(_in_order(self.d_item_weights)),
            model.first.bias: self.d_first_bias,
            model.output: self.d_output,
            model.bias: self.d_bias,
        }
        for layer, (d_weight, d_bias) in zip(model.tower.linears(), self.d_tower, strict=True):
            small |= {layer.weight: d_weight, layer.bias: d_bias}
        return self.table_gradients(model) | {
            parameter: RowGradient(None, gradient) for parameter, gradient in small.items()
        }


class _MlpShare:
    """One thread's part of an MLP step."""

    def __init__(self, step: _MlpStep, span: slice, generator: torch.Generator | None) -> None:
        self.step, self.span, self.generator = step, span, generator
        self.scale = 1.0 if generator is None else 1.0 / (1.0 - step.dropout)
        rows = step.batch.users.index[span]
        if step.users_by_row:
            self.user_half_BH = step.user_half_RH.index_select(0, rows)
        else:
            self.users_BE = step.user_table.index_select(0, rows).to(step.precision)
            self.user_half_BH = torch.addmm(step.first_bias, self.users_BE, step.user_weight.T)
        self.d_user_half_BH = torch.empty_like(self.user_half_BH, dtype=torch.float32)
        self.d_item_half = step.item_table.new_zeros(step.item_half_RH.shape)
        self.d_weights = [torch.zeros_like(weight, dtype=torch.float32) for weight in step.weights]
        self.d_biases = [torch.zeros_like(bias, dtype=torch.float32) for bias in step.biases]
        self.d_output = torch.zeros_like(step.output, dtype=torch.float32)
        self.d_bias = torch.zeros_like(step.bias)

    def _activate(self, hidden_nH: Tensor) -> Tensor:
        """ReLU and dropout, in place."""
        hidden_nH = hidden_nH.relu_()
        if self.generator is None or self.step.dropout == 0.0:
            return hidden_nH
        return drop_(hidden_nH, self.step.dropout, self.generator)

    def forward(self, chunk: slice) -> Tensor:
        step, index_bC = self.step, self.step.batch.items.index[chunk]
        self.index_n = index_bC.reshape(-1)
        groups, candidates = index_bC.shape
        here = slice(chunk.start - self.span.start, chunk.stop - self.span.start)
        hidden_nH = step.item_half_RH.index_select(0, self.index_n)
        hidden_nH.view(groups, candidates, -1).add_(self.user_half_BH[here, None])
        self.outputs = [self._activate(hidden_nH)]
        for weight, bias in zip(step.weights, step.biases, strict=True):
            self.outputs.append(self._activate(torch.addmm(bias, self.outputs[-1], weight.T)))
        return (self.outputs[-1] @ step.output).float().view(groups, candidates) + step.bias

    def backward(self, chunk: slice, gradient_bC: Tensor) -> None:
        step = self.step
        gradient_n = gradient_bC.reshape(-1).to(step.precision)
        self.d_bias += gradient_bC.sum()
        self.d_output += (gradient_n @ self.outputs[-1]).float()
        d_hidden = self._through_activation(gradient_n[:, None] * step.output, self.outputs[-1])
        for number in reversed(range(len(step.weights))):
            self.d_weights[number] += d_hidden.T @ self.outputs[number]
            self.d_biases[number] += d_hidden.sum(0, dtype=torch.float32)
            d_hidden = self._through_activation(d_hidden @ step.weights[number], self.outputs[number])
        here = slice(chunk.start - self.span.start, chunk.stop - self.span.start)
        d_first_nH = d_hidden.float()
        torch.sum(d_first_nH.view(*gradient_bC.shape, -1), 1, out=self.d_user_half_BH[here])
        self.d_item_half.index_add_(0, self.index_n, d_first_nH)

    def _through_activation(self, gradient_nH: Tensor, output_nH: Tensor) -> Tensor:
        """Zero where the ReLU or the dropout left nothing, scaled by what dropout scaled."""
        gradient_nH = _relu_backward(gradient_nH, output_nH, 0.0)
        return gradient_nH if self.scale == 1.0 else gradient_nH.mul_(self.scale)

    def finish(self) -> None:
        """The user's half of the first layer, backward, for the whole span at once."""
        step = self.step
        self.d_first_bias = self.d_user_half_BH.sum(0)
        if step.users_by_row:
            d_user_half_RH = self.d_user_half_BH.new_zeros(step.user_half_RH.shape)
            d_user_half_RH.index_add_(0, step.batch.users.index[self.span], self.d_user_half_BH)
            self.d_users = [d_user_half_RH]
            return
        d_user_half_BH = self.d_user_half_BH.to(step.precision)
        step.d_user_BD[self.span] = (d_user_half_BH @ step.user_weight).float()
        self.d_users = [step.user_gradient(self.span)] if step.by_part else []
        self.d_users.append((d_user_half_BH.T @ self.users_BE).float())

    def sums(self) -> list[Tensor]:
        """What is added up over the parts, in the order of `take`."""
        tower = [each for pair in zip(self.d_weights, self.d_biases, strict=True) for each in pair]
        return [*self.d_users, self.d_item_half, self.d_first_bias, self.d_output, self.d_bias, *tower]


def _in_order(parts: dict[int, Tensor]) -> list[Tensor]:
    """By where they start, whichever thread was first."""
    return [parts[start] for start in sorted(parts)]


def add_in_pairs(parts: list[Tensor]) -> Tensor:
    """Added in pairs, then pairs of pairs, …, into the first."""
    while len(parts) > 1:
        for first, second in zip(parts[::2], parts[1::2], strict=False):
            first += second
        parts = parts[::2]
    return parts[0]
