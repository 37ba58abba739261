"""Generalized matrix factorization (He et al., WWW'17, equations 8 and 9).

    y_ui = a( h^T (p_u * q_i) + b )

p_u and q_i are the D-wide vectors ("factors") of the user and the item, * is element by element, h is learnt.
The models return the logit, the argument of the sigmoid a: losses and rankings work on logits in float32.

Legend: B batch, C candidates of a user, U users, I items, D factors.
"""

import torch
from torch import Tensor, nn

from ncf.models.layers import zeros


class GMF(nn.Module):
    """Tables `user_table` [U, D] and `item_table` [I, D], output weight h [D], output bias b [1]."""

    def __init__(self, users: int, items: int, factors: int, init_std: float = 0.1) -> None:
        super().__init__()
        self.user_table = zeros(users, factors)
        self.item_table = zeros(items, factors)
        self.output = zeros(factors)
        self.bias = zeros(1)
        self.init_std = init_std

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values: tables from N(0, init_std²); h starts at one, which is matrix factorization."""
        nn.init.normal_(self.user_table, std=self.init_std, generator=generator)
        nn.init.normal_(self.item_table, std=self.init_std, generator=generator)
        nn.init.ones_(self.output)
        nn.init.zeros_(self.bias)

    def forward(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Logits [B, C] of C candidates for each of B users (rows of the tables)."""
        vectors_BD = self.user_table[users_B] * self.output
        return torch.einsum("bd,bcd->bc", vectors_BD, self.item_table[items_BC]) + self.bias

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Logits [B, I] of every item."""
        return (self.user_table[users_B] * self.output) @ self.item_table.T + self.bias

    def item_vectors(self) -> Tensor:
        """[I, D], comparable by cosine: two items are similar when they serve the same users."""
        return self.item_table
