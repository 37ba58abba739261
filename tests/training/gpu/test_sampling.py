"""A GPU's sampler draws bit by bit what the CPU's does. The CPU plays the device."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from devices import Waits
from ncf.runtime import Workers
from ncf.training.gpu import sampling
from ncf.training.gpu.sampling import DeviceGroupSampler, DeviceNegativeSampler
from ncf.training.known_positives import KnownPositives
from ncf.training.sampling import GroupSampler, NegativeSampler, Step
from support import csr_of, dataset_of, planted

ONE = Workers(1)
SETS = st.lists(st.lists(st.integers(0, 17), unique=True), min_size=1, max_size=9)


def as_lists(steps: list[Step]) -> list[tuple[int, int, list, list]]:
    return [(s.number, s.groups, s.users.tolist(), s.items.tolist()) for s in steps]


def test_a_step_has_users_and_rows_of_candidates() -> None:
    step = next(DeviceGroupSampler(planted(), batch_size=100, negatives=3).epoch(0, ONE))
    assert (step.users.shape, step.users.dtype) == ((step.groups,), torch.int64)
    assert (step.items.shape, step.items.dtype) == ((step.groups, 4), torch.int64)


@pytest.mark.parametrize("draws_a_block", [1, 900, 2**24])
@pytest.mark.parametrize("size", [1, 2, 3, 150])
@pytest.mark.parametrize("batch_size", [64, 1100])
@pytest.mark.parametrize("weights", [False, True])
def test_steps_are_those_of_the_cpu(
    weights: bool, batch_size: int, size: int, draws_a_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_DRAWS_A_BLOCK", draws_a_block)
    dataset = planted()
    if weights:
        drawn = np.random.default_rng(0).exponential(size=len(dataset.train)).astype(np.float32)
        dataset = replace(dataset, train=replace(dataset.train, weights=drawn), digest="weighted")
    for rank in {0, size // 2, size - 1}:
        options = {"batch_size": batch_size, "negatives": 2, "seed": 7, "rank": rank, "size": size}
        ours, theirs = DeviceGroupSampler(dataset, **options), GroupSampler(dataset, **options)
        for epoch, first in ((0, 0), (3, 2)):
            assert as_lists(list(ours.epoch(epoch, ONE, first))) == as_lists(
                list(theirs.epoch(epoch, ONE, first))
            )


@pytest.mark.parametrize("exclude", ["training", "known"])
def test_popular_negatives_are_those_of_the_cpu(exclude: str) -> None:
    options = {"batch_size": 500, "negatives": 4, "exponent": 0.75, "exclude": exclude}
    ours, theirs = DeviceGroupSampler(planted(), **options), GroupSampler(planted(), **options)
    assert as_lists(list(ours.epoch(1, ONE))) == as_lists(list(theirs.epoch(1, ONE)))


@given(positives=st.integers(1, 3000), batch_size=st.integers(1, 3000), size=st.integers(1, 9))
def test_pieces_are_those_of_the_cpu_whatever_the_sizes(positives: int, batch_size: int, size: int) -> None:
    dataset = dataset_of([(n // 50, n % 50) for n in range(positives)], users=60, items=51)
    rank = positives % size
    options = {"batch_size": batch_size, "negatives": 1, "rank": rank, "size": size}
    ours, theirs = DeviceGroupSampler(dataset, **options), GroupSampler(dataset, **options)
    assert as_lists(list(ours.epoch(0, ONE))) == as_lists(list(theirs.epoch(0, ONE)))


@pytest.mark.parametrize("rounds", [1, 3, 8, 100])
@pytest.mark.parametrize("bitmap_limit", [2**28, 0], ids=["bitmap", "Bloom filter"])
@given(sets=SETS, seed=st.integers(0, 99))
def test_negatives_are_those_of_the_cpu(
    sets: list[list[int]], seed: int, bitmap_limit: int, rounds: int
) -> None:
    known = KnownPositives(csr_of(sets), 19, bitmap_limit=bitmap_limit)
    users = torch.arange(len(sets)).repeat(20)
    counters = torch.arange(len(users))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_ROUNDS_A_LOOK", rounds)
        drawn = DeviceNegativeSampler(known).draw(users, counters, seed)
    assert torch.equal(drawn, NegativeSampler(known).draw(users, counters, seed))


def test_a_user_with_one_item_left_gets_that_item() -> None:
    sampler = DeviceNegativeSampler(KnownPositives(csr_of([[i for i in range(500) if i != 77]]), 500))
    assert set(sampler.draw(torch.zeros(50, dtype=torch.long), torch.arange(50), 0).tolist()) == {77}


def test_ids_are_kept_in_32_bits_and_only_those_of_the_own_shards() -> None:
    dataset = planted()
    samplers = [
        DeviceGroupSampler(dataset, batch_size=1100, negatives=2, rank=rank, size=4) for rank in range(4)
    ]
    assert all(rows.dtype == torch.int32 for sampler in samplers for rows in sampler._own)
    assert max(len(sampler._own[0]) for sampler in samplers) < 0.9 * len(dataset.train)
    assert np.array_equal(samplers[0]._own[1][:9].numpy(), dataset.train.item_rows[:9])


def test_an_epoch_waits_a_few_times_a_block_and_never_for_a_step() -> None:
    sampler, waits = DeviceGroupSampler(planted(), batch_size=64, negatives=4), Waits()
    with waits:
        steps = sum(1 for _ in sampler.epoch(0, ONE))
    assert steps > 50
    assert sum(waits.counts.values()) <= 6
