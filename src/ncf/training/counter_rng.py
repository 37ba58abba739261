"""Random numbers that follow from a seed and a counter, not from what was drawn before.

In: a seed and counters. Out: integers, fractions, an order. The n-th number needs none before it. So any
process draws just its own part, in any order, on any device, to the same result; a generator with a state
could not.

The bits are those of SplitMix64 (`ncf.runtime.random_bits`).

Legend: N numbers.
"""

import torch
from torch import Tensor

from ncf.runtime import random_bits, shift_right

_SIGNED_BITS = 63


def below(seed: int, counters_N: Tensor, limit: int) -> Tensor:
    """[N] int64 in [0, `limit`), uniform to one part in 2^(63 - 2 log2 limit)."""
    # The high bits of a product, which avoids a division; as many bits as keep the product below 2^63.
    taken = _SIGNED_BITS - limit.bit_length()
    return shift_right(random_bits(seed, counters_N), 64 - taken).mul_(limit).bitwise_right_shift_(taken)


def fractions(seed: int, counters_N: Tensor) -> Tensor:
    """[N] float64 in [0, 1)."""
    return shift_right(random_bits(seed, counters_N), 11).double().mul_(2.0**-53)


def order(seed: int, length: int, device: torch.device | str = "cpu") -> Tensor:
    """[length] int64: the numbers below `length` in random order."""
    numbers = torch.arange(length, device=device)
    # Random bits above each number: sorting these keys shuffles the numbers, without a sort of indices.
    low = max(1, length).bit_length()
    keys = shift_right(random_bits(seed, numbers), low + 1).bitwise_left_shift_(low).bitwise_or_(numbers)
    if keys.is_cuda:
        keys = keys.sort().values
    else:
        keys.numpy().sort()  # in place, and several times as fast as torch's on a CPU
    return keys.bitwise_and_(2**low - 1)
