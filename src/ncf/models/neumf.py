"""Neural matrix factorization: a GMF and an MLP under one output layer (He et al., WWW'17, equation 12).

    y_ui = a( h^T [phi_GMF ; phi_MLP] + b )

Both branches have tables of their own. The decision worth knowing: an output layer over a concatenation is a
sum of two output layers. So NeuMF's logit is the GMF's plus the MLP's, and pre-training (section 3.4.1) puts
two trained models side by side, with their output layers scaled by alpha and 1 - alpha (equation 13).

Legend: B batch, C candidates of a user, I items.
"""

import torch
from torch import Tensor, nn

from ncf.models.gmf import GMF
from ncf.models.mlp import MLP


class NeuMF(nn.Module):
    """The sum of a `gmf` and an `mlp`; they share only the loss."""

    def __init__(self, gmf: GMF, mlp: MLP) -> None:
        super().__init__()
        self.gmf = gmf
        self.mlp = mlp

    def reset(self, generator: torch.Generator) -> None:
        """Draw the first values of both halves."""
        self.gmf.reset(generator)
        self.mlp.reset(generator)

    def load_pretrained(self, gmf: GMF, mlp: MLP, alpha: float) -> None:
        """Take both halves from trained models: h = [alpha h_GMF ; (1 - alpha) h_MLP], and the biases
        likewise.
        """
        self.gmf.load_state_dict(gmf.state_dict())
        self.mlp.load_state_dict(mlp.state_dict())
        with torch.no_grad():
            for branch, share in ((self.gmf, alpha), (self.mlp, 1.0 - alpha)):
                branch.output.mul_(share)
                branch.bias.mul_(share)
                if isinstance(branch, GMF) and branch.item_bias is not None:
                    branch.item_bias.mul_(share)

    def forward(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Logits [B, C] of C candidates for each of B users (rows of the tables)."""
        return torch.add(self.gmf(users_B, items_BC), self.mlp(users_B, items_BC))

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Logits [B, I] of every item."""
        return self.gmf.catalogue(users_B) + self.mlp.catalogue(users_B)

    def item_vectors(self) -> Tensor:
        """[I, D + H_1]: the item vectors of both branches, each scaled to unit norm so that both count."""
        vectors = (self.gmf.item_vectors(), self.mlp.item_vectors())
        return torch.cat([nn.functional.normalize(branch, dim=1) for branch in vectors], dim=1)
