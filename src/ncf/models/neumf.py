"""Neural matrix factorization: GMF and MLP side by side under one output layer (He et al., WWW'17, equation 12).

    y_ui = a( h^T [phi_GMF ; phi_MLP] + b )

with tables of their own for both halves. An output layer over a concatenation is a sum of two output layers, so
NeuMF is written as exactly that: its logit is the GMF's logit plus the MLP's. Pre-training (section 3.4.1) is then
nothing but putting two trained models side by side, their output layers scaled by alpha and 1 - alpha (equation 13).

Legend: B batch, C candidates of a user, I items.
"""

import torch
from torch import Tensor, nn

from ncf.models.gmf import GMF
from ncf.models.mlp import MLP


class NeuMF(nn.Module):
    """The sum of a `gmf` and an `mlp` half; they share nothing but the loss."""

    def __init__(self, gmf: GMF, mlp: MLP) -> None:
        super().__init__()
        self.gmf = gmf
        self.mlp = mlp

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values of both halves."""
        self.gmf.reset(generator)
        self.mlp.reset(generator)

    def load_pretrained(self, gmf: GMF, mlp: MLP, alpha: float) -> None:
        """Take both halves from trained models: h = [alpha h_GMF ; (1 - alpha) h_MLP], and the biases likewise."""
        self.gmf.load_state_dict(gmf.state_dict())
        self.mlp.load_state_dict(mlp.state_dict())
        with torch.no_grad():
            for half, share in ((self.gmf, alpha), (self.mlp, 1.0 - alpha)):
                half.output.mul_(share)
                half.bias.mul_(share)
                if isinstance(half, GMF) and half.item_bias is not None:
                    half.item_bias.mul_(share)

    def forward(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Logits [B, C] of C candidates for each of B users (rows of the tables)."""
        return torch.add(self.gmf(users_B, items_BC), self.mlp(users_B, items_BC))

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Logits [B, I] of every item."""
        return self.gmf.catalogue(users_B) + self.mlp.catalogue(users_B)

    def item_vectors(self) -> Tensor:
        """[I, D + H_1]: both halves' item vectors, each scaled to unit norm so that neither drowns the other."""
        halves = (self.gmf.item_vectors(), self.mlp.item_vectors())
        return torch.cat([nn.functional.normalize(half, dim=1) for half in halves], dim=1)
