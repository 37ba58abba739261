"""Negatives: none is known, all others are drawn, in the right proportions, and again from a seed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf.data import Dataset
from ncf.errors import DataError
from ncf.runtime import Workers
from ncf.training import counter_rng
from ncf.training.known_positives import KnownPositives
from ncf.training.sampling import COUNTERS_A_DRAW, ROUNDS, GroupSampler, NegativeSampler
from support import checkerboard, csr_of, dataset_of, planted

SETS = st.lists(st.lists(st.integers(0, 17), unique=True), min_size=1, max_size=9)
STRATEGIES = pytest.mark.parametrize("bitmap_limit", [2**28, 0], ids=["bitmap", "Bloom filter"])


def test_contains_answers_one_bool_a_pair() -> None:
    answer = KnownPositives(csr_of([[1], []]), 19).contains(torch.tensor([0, 0, 1]), torch.tensor([1, 2, 1]))
    assert answer.shape == (3,)
    assert answer.dtype == torch.bool


@STRATEGIES
@given(sets=SETS)
def test_contains_is_set_membership(sets: list[list[int]], bitmap_limit: int) -> None:
    known = KnownPositives(csr_of(sets), 19, bitmap_limit=bitmap_limit)
    users, items = torch.meshgrid(torch.arange(len(sets)), torch.arange(19), indexing="ij")
    answer = known.contains(users.ravel(), items.ravel()).view(len(sets), 19)
    assert answer.tolist() == [[item in items for item in range(19)] for items in sets]


@STRATEGIES
@given(sets=SETS, seed=st.integers(0, 99))
def test_no_negative_is_known(sets: list[list[int]], seed: int, bitmap_limit: int) -> None:
    sampler = NegativeSampler(KnownPositives(csr_of(sets), 19, bitmap_limit=bitmap_limit))
    users = torch.arange(len(sets)).repeat(20)
    drawn = sampler.draw(users, torch.arange(len(users)), seed)
    assert drawn.shape == users.shape
    assert drawn.dtype == torch.int64
    assert all(item not in sets[user] for user, item in zip(users.tolist(), drawn.tolist(), strict=True))


def test_a_user_with_one_item_left_gets_that_item() -> None:
    sampler = NegativeSampler(KnownPositives(csr_of([[i for i in range(500) if i != 77]]), 500))
    assert set(sampler.draw(torch.zeros(50, dtype=torch.long), torch.arange(50), 0).tolist()) == {77}


def test_uniform_negatives_are_uniform_over_what_is_left() -> None:
    sampler = NegativeSampler(KnownPositives(csr_of([[0, 1]]), 12))
    drawn = sampler.draw(torch.zeros(20_000, dtype=torch.long), torch.arange(20_000), 0)
    counts = np.bincount(drawn, minlength=12)
    assert counts[:2].sum() == 0
    assert np.abs(counts[2:] / 2000 - 1).max() < 0.1


def test_popularity_negatives_follow_the_exponent() -> None:
    popularity = torch.tensor([0, 3, 15, 63])
    sampler = NegativeSampler(KnownPositives(csr_of([[]]), 4), popularity, exponent=0.5)
    drawn = sampler.draw(torch.zeros(30_000, dtype=torch.long), torch.arange(30_000), 0)
    expected = np.array([1, 2, 4, 8]) / 15
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 30_000, expected, atol=0.01)


def test_a_negative_follows_from_its_counter_alone() -> None:
    sampler = NegativeSampler(KnownPositives(csr_of([[0, 1], [2]]), 12))
    users = torch.arange(300) % 2
    whole = sampler.draw(users, torch.arange(300), 5)
    assert torch.equal(sampler.draw(users[100:200], torch.arange(100, 200), 5), whole[100:200])
    assert not torch.equal(sampler.draw(users, torch.arange(300), 6), whole)


def test_draws_share_no_counter() -> None:
    """Where nothing is known, the first proposal is taken: that of a draw's own first counter."""
    sampler = NegativeSampler(KnownPositives(csr_of([[]]), 1000))
    counters = torch.arange(200)
    expected = counter_rng.below(5, counters * COUNTERS_A_DRAW, 1000)
    assert torch.equal(sampler.draw(torch.zeros(200, dtype=torch.int64), counters, 5), expected)
    assert COUNTERS_A_DRAW > ROUNDS


def epoch(
    sampler: GroupSampler, number: int, threads: int = 1, first_step: int = 0
) -> list[tuple[int, list, list]]:
    workers = Workers(threads)
    steps = [
        (s.number, s.users.tolist(), s.items.tolist()) for s in sampler.epoch(number, workers, first_step)
    ]
    workers.close()
    return steps


def test_a_step_has_users_and_rows_of_candidates() -> None:
    step = next(GroupSampler(planted(), batch_size=100, negatives=3).epoch(0, Workers(1)))
    groups = len(planted().train) // -(-len(planted().train) // 100)
    assert (step.users.shape, step.users.dtype) == ((groups,), torch.int64)
    assert (step.items.shape, step.items.dtype) == ((groups, 4), torch.int64)
    assert (step.number, step.groups) == (0, groups)


def test_an_epoch_has_every_positive_once_and_drops_none() -> None:
    dataset = planted()
    steps = epoch(GroupSampler(dataset, batch_size=100, negatives=3), 0)
    assert [step for step, _, _ in steps] == list(range(-(-len(dataset.train) // 100)))
    pairs = sorted(
        (user, items[0]) for _, users, rows in steps for user, items in zip(users, rows, strict=True)
    )
    assert pairs == sorted(
        zip(dataset.train.user_rows.tolist(), dataset.train.item_rows.tolist(), strict=True)
    )
    assert all(len(items) == 4 for _, _, rows in steps for items in rows)


def test_negatives_and_order_change_every_epoch_and_repeat_with_the_seed() -> None:
    sampler = GroupSampler(checkerboard(), batch_size=64, negatives=2, seed=3)
    assert epoch(sampler, 0) == epoch(sampler, 0)
    assert epoch(sampler, 0) != epoch(sampler, 1)
    assert epoch(sampler, 0) != epoch(GroupSampler(checkerboard(), batch_size=64, negatives=2, seed=4), 0)

    def positives_and_negatives(number: int) -> tuple[list[tuple[int, int]], list[tuple[int, ...]]]:
        """The positives in the order of the epoch, and the negatives in the order of the data."""
        groups = [
            (user, items) for _, users, rows in epoch(sampler, number)
            for user, items in zip(users, rows, strict=True)
        ]  # fmt: skip
        order = [(user, items[0]) for user, items in groups]
        return order, [tuple(items[1:]) for _, items in sorted(groups)]

    (first_order, first), (second_order, second) = positives_and_negatives(0), positives_and_negatives(1)
    assert first_order != second_order
    assert first != second


def test_what_is_drawn_depends_neither_on_threads_nor_on_where_the_epoch_is_entered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ncf.training.sampling._DRAWS_A_BLOCK", 256)
    sampler = GroupSampler(planted(), batch_size=64, negatives=2)
    whole = epoch(sampler, 0)
    assert epoch(sampler, 0, threads=3) == whole
    assert epoch(sampler, 0, first_step=9) == [step for step in whole if step[0] >= 9]


@pytest.mark.parametrize("exclude", ["training", "known"])
def test_negatives_are_verified_against_what_is_asked(exclude: str) -> None:
    dataset = checkerboard()
    sampler = GroupSampler(dataset, batch_size=64, negatives=8, exclude=exclude)
    known = dataset.known if exclude == "known" else dataset.seen_in_training
    held_out_drawn = 0
    for number in range(5):
        for _, users, rows in epoch(sampler, number):
            for user, items in zip(users, rows, strict=True):
                assert not set(items[1:]) & set(known.row(user).tolist())
                held_out_drawn += len(set(items[1:]) & set(dataset.known.row(user).tolist()))
    assert (held_out_drawn > 0) == (exclude == "training")


@pytest.mark.parametrize("exclude", ["training", "known"])
def test_positives_of_users_of_everything_are_left_out(exclude: str) -> None:
    dataset = dataset_of([(0, 0), (0, 1), (0, 2), (1, 0), (2, 1)], users=3, items=3)
    sampler = GroupSampler(dataset, batch_size=2, negatives=1, exclude=exclude)
    assert (sampler.full_users, sampler.positives, sampler.steps) == (1, 2, 1)
    assert sorted(user for _, users, _ in epoch(sampler, 0) for user in users) == [1, 2]


def test_nobody_with_a_negative_is_refused_with_a_sentence() -> None:
    with pytest.raises(DataError, match="Every user has used every item, so no negative exists"):
        GroupSampler(dataset_of([(0, 0), (0, 1)], users=1, items=2), batch_size=2, negatives=1)


def weighted(dataset: Dataset, weights: np.ndarray) -> Dataset:
    train = replace(dataset.train, weights=weights.astype(np.float32))
    return replace(dataset, train=train, digest="weighted")


def test_positives_are_drawn_in_proportion_to_their_weights() -> None:
    dataset = dataset_of([(user, item) for user in range(4) for item in range(3)], users=4, items=9)
    weights = np.array([0, 1, 2, 3, 0.5, 4, 1, 1, 1, 0, 0, 10])
    sampler = GroupSampler(weighted(dataset, weights), batch_size=5, negatives=1)
    counts = np.zeros((4, 9), int)
    for number in range(500):
        steps = epoch(sampler, number)
        assert sum(len(users) for _, users, _ in steps) == 12
        for _, users, items in steps:
            np.add.at(counts, (users, [row[0] for row in items]), 1)
    drawn = counts[:, :3].ravel()
    assert (drawn[weights == 0] == 0).all()
    np.testing.assert_allclose(drawn / drawn.sum(), weights / weights.sum(), atol=0.01)


def test_equal_weights_draw_each_positive_once() -> None:
    dataset = planted()
    plain = GroupSampler(dataset, batch_size=64, negatives=2)
    same = GroupSampler(weighted(dataset, np.full(len(dataset.train), 3.0)), batch_size=64, negatives=2)
    assert epoch(same, 1) == epoch(plain, 1)


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(DataError, match="All weights are 0, so there is nothing to learn"):
        GroupSampler(weighted(planted(), np.zeros(len(planted().train))), batch_size=64, negatives=1)


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("size", [2, 3, 4, 7, 150])
@pytest.mark.parametrize("batch_size", [64, 1100])
def test_processes_draw_together_what_one_draws(size: int, batch_size: int, weights: bool) -> None:
    dataset = planted()
    if weights:
        dataset = weighted(dataset, np.random.default_rng(0).exponential(size=len(dataset.train)) ** 3)
    whole = epoch(GroupSampler(dataset, batch_size=batch_size, negatives=2), 1)
    parts = [
        epoch(GroupSampler(dataset, batch_size=batch_size, negatives=2, rank=rank, size=size), 1)
        for rank in range(size)
    ]
    for number, (step, users, items) in enumerate(whole):
        assert all(part[number][0] == step for part in parts)
        assert [user for part in parts for user in part[number][1]] == users
        assert [row for part in parts for row in part[number][2]] == items


def test_a_process_remembers_the_positives_of_its_own_users_only() -> None:
    dataset = planted()
    samplers = [GroupSampler(dataset, batch_size=1100, negatives=2, rank=rank, size=4) for rank in range(4)]
    known = [len(sampler._sampler._known._known.columns) for sampler in samplers]
    assert max(known) < 0.9 * len(dataset.train)


@given(positives=st.integers(1, 3000), batch_size=st.integers(1, 3000), size=st.integers(1, 9))
def test_steps_are_full_whatever_the_sizes(positives: int, batch_size: int, size: int) -> None:
    pairs = [(number // 50, number % 50) for number in range(positives)]
    dataset = dataset_of(pairs, users=60, items=51)
    seen: list[tuple[int, int]] = []
    steps = [0] * (-(-positives // batch_size))
    for rank in range(size):
        for step in GroupSampler(dataset, batch_size=batch_size, negatives=1, rank=rank, size=size).epoch(
            0, Workers(1)
        ):
            steps[step.number] += len(step.users)
            seen += zip(step.users.tolist(), step.items[:, 0].tolist(), strict=True)
    assert sorted(seen) == pairs
    assert max(steps) <= batch_size
    assert max(steps) - min(steps) <= 1
