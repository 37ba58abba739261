"""The factored first layer and the tower above it.

The decision worth knowing: the paper's first layer acts on the concatenation [p_u ; q_i]. A matrix times a
concatenation is the sum of two products, W [p_u ; q_i] = W_user p_u + W_item q_i. So the user's half is
computed once a user and the item's half once an item, never once a pair.

Legend: E embedding width, H hidden width.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from ncf.runtime import random_bits


def zeros(*shape: int) -> nn.Parameter:
    """A learnable tensor of zeros; `reset` methods draw its first values from an explicit generator."""
    return nn.Parameter(torch.zeros(*shape))


class FactoredLinear(nn.Module):
    """The first layer on [p_u ; q_i], kept as its two halves: weights [H, E] each, bias [H]."""

    def __init__(self, embedding: int, width: int) -> None:
        super().__init__()
        self.user_weight = zeros(width, embedding)
        self.item_weight = zeros(width, embedding)
        self.bias = zeros(width)

    def reset(self, generator: torch.Generator) -> None:
        """Glorot-uniform over the whole [H, 2E] matrix, zero bias."""
        width, embedding = self.user_weight.shape
        limit = math.sqrt(6.0 / (width + 2 * embedding))
        for weight in (self.user_weight, self.item_weight):
            nn.init.uniform_(weight, -limit, limit, generator=generator)
        nn.init.zeros_(self.bias)

    def user_half(self, users: Tensor) -> Tensor:
        """[..., E] -> [..., H], the bias included."""
        return nn.functional.linear(users, self.user_weight, self.bias)

    def item_half(self, items: Tensor) -> Tensor:
        """[..., E] -> [..., H], without the bias."""
        return nn.functional.linear(items, self.item_weight)


class Tower(nn.Module):
    """The layers above the first one, H_1 -> H_2 -> ... with ReLU and dropout (paper, equation 10).

    The input is the first layer before its activation, so the tower begins with a ReLU.
    """

    def __init__(self, widths: tuple[int, ...], dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.dropout = dropout

    def reset(self, generator: torch.Generator) -> None:
        """Glorot-uniform weights, zero biases."""
        for layer in self.linears():
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)

    def linears(self) -> list[nn.Linear]:
        """The layers in order, typed."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., H_1] -> [..., H_last]."""
        hidden = self._activate(hidden)
        for layer in self.linears():
            hidden = self._activate(layer(hidden))
        return hidden

    def _activate(self, hidden: Tensor) -> Tensor:
        return nn.functional.dropout(torch.relu(hidden), self.dropout, self.training)


class DropoutMasks:
    """Dropout whose masks follow from `seed` and the order of the calls; `rate` is kept to 1 / 256."""

    def __init__(self, rate: float, seed: int) -> None:
        self._level, self._seed, self._drawn = round(rate * 256), seed, 0

    def __call__(self, values: Tensor) -> Tensor:
        """`values` with some set to zero and the others scaled, so that the mean stays."""
        if not self._level:
            return values
        words = -(-values.numel() // 8)  # a byte for each value: eight from one 64-bit number
        counters = torch.arange(self._drawn, self._drawn + words, device=values.device)
        self._drawn += words
        bytes_N = random_bits(self._seed, counters).view(torch.uint8)[: values.numel()]
        kept = bytes_N.view(values.shape) >= self._level
        return values * kept * (256 / (256 - self._level))
