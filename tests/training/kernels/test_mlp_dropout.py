"""Dropout drops the right share, keeps the mean, and repeats with its generator."""

import pytest
import torch

from ncf.runtime import generator
from ncf.training.kernels.mlp import drop_

TYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", TYPES)
def test_in_place_with_shape_and_type_kept(dtype: torch.dtype) -> None:
    hidden = torch.ones(7, 5, dtype=dtype)
    dropped = drop_(hidden, 0.5, generator(0, "test"))
    assert dropped.data_ptr() == hidden.data_ptr()
    assert (dropped.shape, dropped.dtype) == ((7, 5), dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_units_are_zero_with_the_share_or_scaled(dtype: torch.dtype, share: float) -> None:
    values = torch.randn(400, 500, generator=generator(1, "values")).to(dtype)
    dropped = drop_(values.clone(), share, generator(0, "test"))
    zero = dropped == 0
    assert float(zero.float().mean()) == pytest.approx(share, abs=0.005)
    expected = values.clone().mul_(1.0 / (1.0 - share))
    assert torch.equal(dropped[~zero], expected[~zero])
    columns = zero.float().mean(0)
    assert float(columns.max() - columns.min()) < 0.25


def test_the_generator_decides() -> None:
    first, again, other = (drop_(torch.ones(9, 9), 0.5, generator(seed, "test")) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
