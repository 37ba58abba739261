"""Losses over groups of one positive and K negatives, each with its derivative written out.

In: logits [B, C], the positive in column 0, the K = C - 1 negatives after it. Out: the loss summed over the
batch, and its derivative to the logits [B, C]. `terms` says by how much a sum is divided to give the mean
that is minimised.

| name | loss of a group | source |
| --- | --- | --- |
| bce | sum over c of -y log s(x) - (1 - y) log(1 - s(x)) | He et al., WWW'17, equation 7 |
| bpr | sum over negatives of -log s(x_positive - x_negative) | Rendle et al., UAI'09, section 4 |
| softmax | -log of the positive's share in softmax(x) | sampled softmax, Jean et al., ACL'15 |
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus


@dataclass(frozen=True)
class Loss:
    """A loss and its derivative."""

    name: str
    sum_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]]
    """From logits [B, C] to the summed loss (a scalar) and its derivative [B, C]."""
    terms: Callable[[int, int], int]
    """The number of terms in the sum over B groups of C candidates."""


def _bce(logits_BC: Tensor) -> tuple[Tensor, Tensor]:
    # -y log s(x) - (1 - y) log(1 - s(x)) = softplus(x) - y x, without overflow; its derivative is s(x) - y.
    gradient_BC = torch.sigmoid(logits_BC)
    gradient_BC[:, 0] -= 1.0
    return softplus(logits_BC).sum() - logits_BC[:, 0].sum(), gradient_BC


def _bpr(logits_BC: Tensor) -> tuple[Tensor, Tensor]:
    # -log s(d) = softplus(-d), where d is the positive's lead over a negative.
    behind_BK = logits_BC[:, 1:] - logits_BC[:, :1]
    pull_BK = torch.sigmoid(behind_BK)
    return softplus(behind_BK).sum(), torch.cat([-pull_BK.sum(1, keepdim=True), pull_BK], dim=1)


def _softmax(logits_BC: Tensor) -> tuple[Tensor, Tensor]:
    shares_BC = torch.log_softmax(logits_BC, dim=1)
    gradient_BC = shares_BC.exp()
    gradient_BC[:, 0] -= 1.0
    return -shares_BC[:, 0].sum(), gradient_BC


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("bce", _bce, lambda groups, candidates: groups * candidates),
        Loss("bpr", _bpr, lambda groups, candidates: groups * (candidates - 1)),
        Loss("softmax", _softmax, lambda groups, _: groups),
    )
}
