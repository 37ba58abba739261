"""One step of an MLP: the first layer by user and by item, and the tower chunk by chunk, in cache.

Legend: b groups of a chunk, C candidates, n = b x C, R rows that take part, E embedding width, H hidden
width.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from ncf.models import MLP
from ncf.runtime import Workers, spans
from ncf.training.kernels.batch import Batch, Gradients, RowGradient
from ncf.training.kernels.branch import BranchStep, Objective, add_in_pairs

_INTEGERS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}


def drop_(hidden: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Dropout (Srivastava et al., JMLR'14) in place: zero each unit with probability `share`, scale the
    others.

    `hidden` is contiguous, bfloat16 or float32; it is returned. `share` holds to 1 / 65,536.
    """
    # One 64-bit draw of `random` decides about four units, and units are zeroed by masking their bits. On CPU
    # that takes a fifth of a Bernoulli draw's time, which would cost more than the layer's matrix product.
    integer = _INTEGERS[hidden.dtype]
    draws = torch.empty(-(-hidden.numel() // 4), dtype=torch.int64, device=hidden.device)
    fates = (
        draws.random_(-(2**63), None, generator=random).view(torch.int16)[: hidden.numel()].view(hidden.shape)
    )
    kept = (fates >= round(share * 65536) - 32768).to(integer).neg_()
    hidden.view(integer).bitwise_and_(kept)
    return hidden.mul_(1.0 / (1.0 - share))


_relu_backward = torch.ops.aten.threshold_backward


class MlpStep(BranchStep):
    """One step of an MLP, with the weights in the step's precision."""

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
        # Whichever computes the users' half fewer times; all processes must decide alike, hence all groups.
        self.users_by_row = batch.users.count < (batch.all_groups if self.by_part else batch.groups)
        self.d_user_weights: dict[int, Tensor] = {}

    def _cast(self, parameter: Tensor) -> Tensor:
        return parameter.detach().to(self.precision)

    def prepare(self, workers: Workers, count: int) -> None:
        """The items' half of the first layer; also the users', where a step has more groups than users."""

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

    def worker(self, span: slice, generator: torch.Generator | None) -> "MlpWorker":
        """What works through the groups in `span`; `generator` draws its dropout masks."""
        return MlpWorker(self, span, generator)

    def take(self, values: Iterator[Tensor], counts: Iterator[Tensor]) -> None:
        if self.users_by_row:
            self.d_user_half_RH, self.d_users = next(values), torch.empty_like(self.user_table)
        else:
            self.d_users = next(values) if self.by_part else self.sum_by_user()
            self.d_user_weights[0] = next(values)
        self.d_item_half_RH, self.d_first_bias, self.d_output, self.d_bias = (next(values) for _ in range(4))
        self.d_tower = [(next(values), next(values)) for _ in self.weights]
        self.take_counts(counts)

    def reduce_items(self, part: slice) -> None:
        """Go back through the items' half of the first layer, for the items' rows in `part`."""
        self.d_items[part], self.d_item_weights[part.start] = self._back(
            self.d_item_half_RH[part], self.item_weight, self.low_items[part]
        )
        self.add_item_l2(part)

    def _back(self, d_half: Tensor, weight: Tensor, low_rows: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of rows of a table, and of the weight that they went through."""
        d_half_RH = d_half.to(self.precision)
        return d_half_RH @ weight, (d_half_RH.T @ low_rows).float()

    def user_tasks(self, count: int) -> list[Callable[[], None]]:
        """Go back by row, as with the items, where the forward pass went by row."""
        if not self.users_by_row:
            return super().user_tasks(count)
        return [partial(self.reduce_user_rows, part) for part in spans(len(self.user_table), count)]

    def reduce_user_rows(self, part: slice) -> None:
        """Go back through the users' half of the first layer, for the users' rows in `part`."""
        self.d_users[part], self.d_user_weights[part.start] = self._back(
            self.d_user_half_RH[part], self.user_weight, self.low_users[part]
        )
        self.add_user_l2(part)

    def gradients(self) -> Gradients:
        """By parameter."""
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


class MlpWorker:
    """One part of an MLP step: forward and backward of its groups, into accumulators of its own."""

    def __init__(self, step: MlpStep, span: slice, generator: torch.Generator | None) -> None:
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
        """Logits [b, C] of the groups in `chunk`; keeps the activations for `backward`."""
        step, index_bC = self.step, self.step.batch.items.index[chunk]
        self.index_n = index_bC.reshape(-1)
        groups, candidates = index_bC.shape
        here = slice(chunk.start - self.span.start, chunk.stop - self.span.start)
        # The first layer of a pair is the item's half plus the user's half, broadcast over its candidates.
        hidden_nH = step.item_half_RH.index_select(0, self.index_n)
        hidden_nH.view(groups, candidates, -1).add_(self.user_half_BH[here, None])
        self.outputs = [self._activate(hidden_nH)]
        for weight, bias in zip(step.weights, step.biases, strict=True):
            self.outputs.append(self._activate(torch.addmm(bias, self.outputs[-1], weight.T)))
        return (self.outputs[-1] @ step.output).float().view(groups, candidates) + step.bias

    def backward(self, chunk: slice, gradient_bC: Tensor) -> None:
        """Add the gradients that follow from those of the logits of the chunk that went forward last."""
        step = self.step
        # Layer by layer from the top. Sums are in float32 whatever the precision of the products.
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
        """The gradient before ReLU and dropout: zero where they left nothing, and with dropout's scale."""
        # The output is zero where either of them zeroed it, so no mask need be kept.
        gradient_nH = _relu_backward(gradient_nH, output_nH, 0.0)
        return gradient_nH if self.scale == 1.0 else gradient_nH.mul_(self.scale)

    def finish(self) -> None:
        """Go back through the users' half of the first layer, for the whole span at once."""
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
        """What is summed over the parts, in the order that `MlpStep.take` expects."""
        tower = [tensor for pair in zip(self.d_weights, self.d_biases, strict=True) for tensor in pair]
        return [*self.d_users, self.d_item_half, self.d_first_bias, self.d_output, self.d_bias, *tower]


def _in_order(parts: dict[int, Tensor]) -> list[Tensor]:
    """The values by ascending start of their slice, whichever thread was first."""
    return [parts[start] for start in sorted(parts)]
