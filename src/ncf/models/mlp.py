"""Multi-layer perceptron over user and item vectors (He et al., WWW'17, equation 10).

    z_1 = W_1 [p_u ; q_i] + b_1,   z_l = W_l relu(z_{l-1}) + b_l,   y_ui = a( h^T relu(z_L) + b )

Legend: B batch, C candidates of a user, U users, I items, E embedding width, H hidden width.
"""

import torch
from torch import Tensor, nn

from ncf.models.layers import FactoredLinear, Tower, zeros

_CATALOGUE_CHUNK_BYTES = 64 * 2**20


class MLP(nn.Module):
    """Tables [U, E] and [I, E], first layer in two halves, tower, output weight h [H_last], output bias b
    [1].
    """

    def __init__(
        self,
        users: int,
        items: int,
        embedding: int,
        widths: tuple[int, ...],
        dropout: float = 0.0,
        init_std: float = 0.01,
    ) -> None:
        super().__init__()
        self.user_table = zeros(users, embedding)
        self.item_table = zeros(items, embedding)
        self.first = FactoredLinear(embedding, widths[0])
        self.tower = Tower(widths, dropout)
        self.output = zeros(widths[-1])
        self.bias = zeros(1)
        self.init_std = init_std

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values: tables from N(0, init_std²), layers Glorot, h uniform with limit 1/√H."""
        nn.init.normal_(self.user_table, std=self.init_std, generator=generator)
        nn.init.normal_(self.item_table, std=self.init_std, generator=generator)
        self.first.reset(generator)
        self.tower.reset(generator)
        limit = self.output.numel() ** -0.5
        nn.init.uniform_(self.output, -limit, limit, generator=generator)
        nn.init.zeros_(self.bias)

    def forward(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Logits [B, C] of C candidates for each of B users (rows of the tables)."""
        user_half_BH = self.first.user_half(self.user_table[users_B])
        item_half_BCH = self._item_half(items_BC)
        hidden: Tensor = self.tower(user_half_BH[:, None] + item_half_BCH)
        return hidden @ self.output + self.bias

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Logits [B, I] of every item, a chunk of users at a time, so that memory stays bounded."""
        user_half_BH = self.first.user_half(self.user_table[users_B])
        item_half_IH = self.first.item_half(self.item_table)
        chunk = max(1, _CATALOGUE_CHUNK_BYTES // (4 * item_half_IH.numel()))
        parts = [
            self.tower(part[:, None] + item_half_IH) @ self.output + self.bias
            for part in torch.split(user_half_BH, chunk)
        ]
        return torch.cat(parts) if parts else user_half_BH.new_zeros(0, len(item_half_IH))

    def item_vectors(self) -> Tensor:
        """[I, H_1]: what the tower sees of an item, to be compared by cosine."""
        return self.first.item_half(self.item_table)

    def _item_half(self, items_BC: Tensor) -> Tensor:
        """[B, C, H]: rows gathered before or after the product, whichever multiplies fewer rows."""
        if items_BC.numel() < len(self.item_table):
            return self.first.item_half(self.item_table[items_BC])
        return self.first.item_half(self.item_table)[items_BC]
