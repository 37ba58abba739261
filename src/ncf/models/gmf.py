"""Generalized matrix factorization (He et al., WWW'17, equations 8 and 9), and the plain dot product.

    y_ui = a( h^T (p_u * q_i) + b )          GMF
    y_ui = a( p_u . q_i + b_i + b )          MF: h is one, each item has a bias (Rendle et al., RecSys'20)

p_u and q_i are the D-wide vectors ("factors") of the user and the item, * is element by element, h is learnt.
The models return the logit, the argument of the sigmoid a: losses and rankings work on logits in float32.

Legend: B batch, C candidates of a user, U users, I items, D factors.
"""

import torch
from torch import Tensor, nn

from ncf.models.layers import zeros


class GMF(nn.Module):
    """Tables [U, D] and [I, D], output weight h [D], output bias b [1]; in subclasses an `item_bias` [I]."""

    item_bias: Tensor | None
    output: Tensor

    def __init__(self, users: int, items: int, factors: int, init_std: float = 0.1) -> None:
        super().__init__()
        self.user_table = zeros(users, factors)
        self.item_table = zeros(items, factors)
        self.output = zeros(factors)
        self.bias = zeros(1)
        self.item_bias = None
        self.init_std = init_std

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values: tables from N(0, init_std²). With h at one it starts as matrix
        factorization.
        """
        nn.init.normal_(self.user_table, std=self.init_std, generator=generator)
        nn.init.normal_(self.item_table, std=self.init_std, generator=generator)
        nn.init.ones_(self.output)
        nn.init.zeros_(self.bias)

    def users(self) -> Tensor:
        """[U, D]: the vectors that users are scored with."""
        return self.user_table

    def forward(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Logits [B, C] of C candidates for each of B users (rows of the tables)."""
        return self.logits(self.users()[users_B], items_BC)

    def logits(self, vectors_BD: Tensor, items_BC: Tensor) -> Tensor:
        """Logits [B, C] of C candidates for users with these vectors."""
        weighted_BD = vectors_BD * self.output
        logits_BC = torch.einsum("bd,bcd->bc", weighted_BD, self.item_table[items_BC]) + self.bias
        return logits_BC if self.item_bias is None else logits_BC + self.item_bias[items_BC]

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Logits [B, I] of every item."""
        logits_BI = (self.users()[users_B] * self.output) @ self.item_table.T + self.bias
        return logits_BI if self.item_bias is None else logits_BI + self.item_bias

    def item_vectors(self) -> Tensor:
        """[I, D], to be compared by cosine: two items are similar when they suit the same users."""
        return self.item_table


class MF(GMF):
    """A GMF whose output weight stays at one, with a bias for each item."""

    def __init__(self, users: int, items: int, factors: int, init_std: float = 0.1) -> None:
        super().__init__(users, items, factors, init_std)
        del self.output
        self.register_buffer("output", torch.ones(factors))
        self.item_bias = zeros(items)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values as a GMF does; the items' biases start at zero."""
        super().reset(generator)
        assert self.item_bias is not None
        nn.init.zeros_(self.item_bias)
