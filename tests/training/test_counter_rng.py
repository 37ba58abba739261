"""Numbers that follow from a counter: the published generator's, uniform, and an order that is one."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf.runtime import random_bits
from ncf.training import counter_rng

SEEDS = st.integers(0, 2**63 - 1)


def splitmix(seed: int, counter: int) -> int:
    """SplitMix64 as published, in whole numbers."""
    mask = 2**64 - 1
    state = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & mask
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_shapes_and_dtypes() -> None:
    counters = torch.arange(7)
    assert (random_bits(1, counters).shape, random_bits(1, counters).dtype) == ((7,), torch.int64)
    assert (counter_rng.below(1, counters, 9).shape, counter_rng.below(1, counters, 9).dtype) == (
        (7,),
        torch.int64,
    )
    assert (counter_rng.fractions(1, counters).shape, counter_rng.fractions(1, counters).dtype) == (
        (7,),
        torch.float64,
    )
    assert (counter_rng.order(1, 7).shape, counter_rng.order(1, 7).dtype) == ((7,), torch.int64)


@given(seed=SEEDS, counters=st.lists(st.integers(0, 2**50), min_size=1, max_size=9))
def test_bits_are_those_of_splitmix64(seed: int, counters: list[int]) -> None:
    drawn = random_bits(seed, torch.tensor(counters))
    assert [value % 2**64 for value in drawn.tolist()] == [splitmix(seed, n) for n in counters]


def test_the_first_number_of_the_published_generator() -> None:
    assert random_bits(1234567, torch.arange(1)).tolist() == [6457827717110365317]


@given(seed=SEEDS, limit=st.integers(1, 2**31))
def test_numbers_are_below_their_limit(seed: int, limit: int) -> None:
    drawn = counter_rng.below(seed, torch.arange(100), limit)
    assert 0 <= int(drawn.min()) <= int(drawn.max()) < limit
    expected = [
        (splitmix(seed, n) >> (1 + limit.bit_length())) * limit >> (63 - limit.bit_length())
        for n in range(100)
    ]
    assert drawn.tolist() == expected


@pytest.mark.parametrize("limit", [7, 64, 3706])
def test_numbers_are_uniform(limit: int) -> None:
    counts = np.bincount(counter_rng.below(3, torch.arange(200 * limit), limit), minlength=limit)
    chi = float(((counts - 200.0) ** 2 / 200.0).sum())
    assert abs(chi - (limit - 1)) < 5 * np.sqrt(2 * (limit - 1))  # five standard deviations of chi-squared


def test_fractions_are_uniform() -> None:
    drawn = counter_rng.fractions(3, torch.arange(100_000)).numpy()
    assert 0.0 <= drawn.min() < drawn.max() < 1.0
    assert abs(drawn.mean() - 0.5) < 0.005
    assert abs(drawn.var() - 1 / 12) < 0.002


@given(seed=SEEDS, length=st.integers(0, 300))
def test_an_order_has_every_place_once(seed: int, length: int) -> None:
    assert sorted(counter_rng.order(seed, length).tolist()) == list(range(length))


def test_every_place_comes_first_equally_often() -> None:
    first = np.bincount([int(counter_rng.order(seed * 7919, 5)[0]) for seed in range(5000)], minlength=5)
    assert np.abs(first / 1000 - 1).max() < 0.15
