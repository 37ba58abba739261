"""Random numbers that follow from a seed and a counter, not from what was drawn before.

In: a seed and counters. Out: integers, fractions, an order. The n-th number needs none before it. So any
process draws just its own part, in any order, on any device, to the same result; a generator with a state
could not.

The numbers are those of SplitMix64 (Steele, Lea & Flood, OOPSLA'14, figure 16): a counter times the golden
ratio, mixed.

Legend: N numbers.
"""

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as a signed number
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_SIGNED_BITS = 63


def bits(seed: int, counters_N: Tensor) -> Tensor:
    """[N] int64: 64 random bits for each counter (int64). The products overflow, as in the published code."""
    state_N = (counters_N + 1).mul_(_GOLDEN).add_(seed)
    state_N.bitwise_xor_(_shifted(state_N, 30)).mul_(_FIRST)
    state_N.bitwise_xor_(_shifted(state_N, 27)).mul_(_SECOND)
    return state_N.bitwise_xor_(_shifted(state_N, 31))


def below(seed: int, counters_N: Tensor, limit: int) -> Tensor:
    """[N] int64 in [0, `limit`), uniform to one part in 2^(63 - 2 log2 limit)."""
    # The high bits of a product, which avoids a division; as many bits as keep the product below 2^63.
    taken = _SIGNED_BITS - limit.bit_length()
    return _shifted(bits(seed, counters_N), 64 - taken).mul_(limit).bitwise_right_shift_(taken)


def fractions(seed: int, counters_N: Tensor) -> Tensor:
    """[N] float64 in [0, 1)."""
    return _shifted(bits(seed, counters_N), 11).double().mul_(2.0**-53)


def order(seed: int, length: int, device: torch.device | str = "cpu") -> Tensor:
    """[length] int64: the numbers below `length` in random order."""
    numbers = torch.arange(length, device=device)
    # Random bits above each number: sorting these keys shuffles the numbers, without a sort of indices.
    low = max(1, length).bit_length()
    keys = _shifted(bits(seed, numbers), low + 1).bitwise_left_shift_(low).bitwise_or_(numbers)
    if keys.is_cuda:
        keys = keys.sort().values
    else:
        keys.numpy().sort()  # in place, and several times as fast as torch's on a CPU
    return keys.bitwise_and_(2**low - 1)


def _shifted(values: Tensor, by: int) -> Tensor:
    """Shifted to the right, with zeros coming in on the left."""
    return (values >> by).bitwise_and_(2 ** (64 - by) - 1)
