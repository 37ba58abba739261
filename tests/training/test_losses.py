"""Losses and their written-out derivatives against torch's own."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid

from ncf.training.losses import LOSSES


def slow(name: str, logits: Tensor) -> Tensor:
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1.0
    if name == "bce":
        return binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    if name == "bpr":
        return -logsigmoid(logits[:, :1] - logits[:, 1:]).sum()
    return cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long), reduction="sum")


def some_logits(scale: float = 3.0) -> Tensor:
    return scale * torch.randn(11, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_and_types(name: str) -> None:
    loss, gradient = LOSSES[name].sum_and_gradient(some_logits())
    assert loss.shape == ()
    assert gradient.shape == (11, 5)
    assert loss.dtype == gradient.dtype == torch.float32


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [0.0, 3.0, 40.0])
def test_equals_torch(name: str, scale: float) -> None:
    logits = some_logits(scale).requires_grad_(True)
    expected = slow(name, logits)
    expected.backward()
    loss, gradient = LOSSES[name].sum_and_gradient(logits.detach().clone())
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, logits.grad)


@pytest.mark.parametrize("name", LOSSES)
def test_a_better_positive_lowers_the_loss(name: str) -> None:
    logits = some_logits()
    better = logits.clone()
    better[:, 0] += 1.0
    assert LOSSES[name].sum_and_gradient(better)[0] < LOSSES[name].sum_and_gradient(logits)[0]


def test_terms_of_a_batch() -> None:
    assert {name: loss.terms(7, 5) for name, loss in LOSSES.items()} == {"bce": 35, "bpr": 28, "softmax": 7}
