from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.data.encode import k_core
from ncf.data.interactions import HeldOut, Interactions
from ncf.data.options import PrepareOptions
from ncf.data.splits import hold_out, hold_out_share, split_table, tied_users
from ncf.data.tables import SplitTables, Table
from ncf.data.vocabulary import Vocabulary
from ncf.errors import DataError

Pairs = Callable[[int, int, int, int], Interactions]


def table_of(interactions: Interactions, users: int, items: int) -> Table:
    return Table(Vocabulary.build(range(users)), Vocabulary.build(range(items)), interactions)


def keys(interactions: Interactions) -> set[tuple[int, int]]:
    return set(zip(interactions.user_rows.tolist(), interactions.item_rows.tolist(), strict=True))


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_hold_out_shape_and_dtype(pairs: Pairs) -> None:
    chosen = hold_out(pairs(0, 8, 9, 30), 8, "last", np.ones(8, bool), generator())
    assert chosen.dtype == np.int64
    assert chosen.ndim == 1


def test_last_agrees_with_a_loop(pairs: Pairs) -> None:
    for seed in range(20):
        table = pairs(seed, 8, 9, 30)
        assert table.timestamps is not None
        eligible = np.random.default_rng(seed).random(8) < 0.7
        expected, tied = [], 0
        for user in range(8):
            times = [table.timestamps[p] for p in range(30) if table.user_rows[p] == user]
            if times and eligible[user]:
                expected.append((user, max(times)))
                tied += times.count(max(times)) > 1
        chosen = hold_out(table, 8, "last", eligible, generator())
        found = zip(table.user_rows[chosen].tolist(), table.timestamps[chosen].tolist(), strict=True)
        assert list(found) == expected
        assert tied_users(table, 8, eligible) == tied


def test_of_equal_times_each_item_is_drawn_as_often() -> None:
    rows = Interactions(np.zeros(3, np.int32), np.arange(3, dtype=np.int32), np.array([5, 9, 9]))
    one, draws = np.ones(1, bool), np.random.default_rng(3)
    chosen = [int(hold_out(rows, 1, "last", one, draws)[0]) for _ in range(400)]
    assert 0 not in chosen
    assert 150 < chosen.count(1) < 250
    rows = Interactions(np.zeros(40, np.int32), np.arange(40, dtype=np.int32), np.zeros(40, np.int64))
    assert hold_out_share(rows, 1, "last", 0.1, draws).tolist() != [36, 37, 38, 39]


@given(st.integers(0, 1000), st.sampled_from(["last", "random"]), st.floats(-1, 2))
def test_one_for_each_eligible_user_with_interactions(seed: int, scheme: str, exponent: float) -> None:
    rng = np.random.default_rng(seed)
    keys = np.sort(rng.choice(50, size=20, replace=False))
    table = Interactions((keys // 5).astype(np.int32), (keys % 5).astype(np.int32), rng.integers(0, 9, 20))
    eligible = rng.random(10) < 0.5
    chosen = hold_out(table, 10, scheme, eligible, rng, exponent)
    present = np.flatnonzero((table.user_counts(10) > 0) & eligible)
    assert table.user_rows[chosen].tolist() == present.tolist()


def test_random_is_uniform_and_the_exponent_favours_rare_items() -> None:
    users = 4000
    user_rows = np.repeat(np.arange(users, dtype=np.int32), 2)
    item_rows = np.tile(np.array([0, 1], np.int32), users)
    item_rows[1::2][: users // 2] = 2
    table = Interactions(user_rows, item_rows)  # item 0 has 4,000 interactions, items 1 and 2 have 2,000 each
    everyone = np.ones(users, bool)
    uniform = table.item_rows[hold_out(table, users, "random", everyone, generator())]
    assert abs((uniform == 0).mean() - 1 / 2) < 0.03
    corrected = table.item_rows[hold_out(table, users, "random", everyone, generator(), 1.0)]
    assert abs((corrected == 0).mean() - 1 / 3) < 0.03


def test_random_depends_on_the_generator_alone(pairs: Pairs) -> None:
    table, everyone = pairs(1, 8, 9, 60), np.ones(8, bool)
    first, again = (hold_out(table, 8, "random", everyone, np.random.default_rng(3)) for _ in range(2))
    assert first.tolist() == again.tolist()


def test_last_without_times_is_refused() -> None:
    table = Interactions(np.zeros(2, np.int32), np.arange(2, dtype=np.int32))
    with pytest.raises(
        DataError, match="needs a time column, and there is none: name it with --time, or use"
    ):
        hold_out(table, 1, "last", np.ones(1, bool), generator())


def test_unknown_scheme() -> None:
    with pytest.raises(ValueError, match="no hold-out scheme 'first'"):
        hold_out(
            Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32)),
            0,
            "first",
            np.ones(0, bool),
            generator(),
        )


def test_hold_out_of_nothing() -> None:
    empty = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64))
    assert hold_out(empty, 3, "last", np.ones(3, bool), generator()).shape == (0,)


def test_k_core_agrees_with_a_loop(pairs: Pairs) -> None:
    for seed in range(20):
        table = pairs(seed, 10, 10, 35)
        kept = list(zip(table.user_rows.tolist(), table.item_rows.tolist(), strict=True))
        while True:
            mine, its = [u for u, _ in kept], [i for _, i in kept]
            fewer = [(u, i) for u, i in kept if mine.count(u) >= 3 and its.count(i) >= 4]
            if len(fewer) == len(kept):
                break
            kept = fewer
        users, items = k_core(table_of(table, 10, 10), 3, 4)
        assert users.dtype == items.dtype == bool
        assert keys(table.take(users[table.user_rows] & items[table.item_rows])) == set(kept)


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_k_core_leaves_nobody_below(seed: int, min_user: int, min_item: int) -> None:
    keys = np.sort(np.random.default_rng(seed).choice(64, size=30, replace=False))
    table = Interactions((keys // 8).astype(np.int32), (keys % 8).astype(np.int32))
    users, items = k_core(table_of(table, 8, 8), min_user, min_item)
    kept = table.take(users[table.user_rows] & items[table.item_rows])
    for counts, least in ((kept.user_counts(8), min_user), (kept.item_counts(8), min_item)):
        assert (counts[counts > 0] >= least).all()


def pairs_of(lists: HeldOut) -> set[tuple[int, int]]:
    return set(zip(lists.user_rows.tolist(), lists.positives.tolist(), strict=True))


def check_partition(split: SplitTables, interactions: Interactions) -> None:
    """Train, validation and test are disjoint and make up `interactions`, by ids, as `known` does."""
    pieces = [keys(split.train), pairs_of(split.validation), pairs_of(split.test)]
    assert sum(map(len, pieces)) == len(set.union(*pieces)) == len(split.known.columns)
    users, items = (np.array(rows) for rows in zip(*set.union(*pieces), strict=True))
    assert split.known.contains(users, items).all()
    by_id = zip(split.users.ids[users].tolist(), split.items.ids[items].tolist(), strict=True)
    assert set(by_id) <= keys(interactions)


def times_of_each(split: SplitTables, interactions: Interactions) -> list[dict[tuple[int, int], int]]:
    """(user, item) -> time, of train, validation and test."""
    assert interactions.timestamps is not None
    time_of = dict(
        zip(
            zip(interactions.user_rows.tolist(), interactions.item_rows.tolist(), strict=True),
            interactions.timestamps.tolist(),
            strict=True,
        )
    )
    pieces = (keys(split.train), pairs_of(split.validation), pairs_of(split.test))
    return [
        {
            (user, item): time_of[int(split.users.ids[user]), int(split.items.ids[item])]
            for user, item in piece
        }
        for piece in pieces
    ]


@pytest.mark.parametrize("split", ["last", "random"])
@pytest.mark.parametrize("validation", ["auto", "last", "random", "none"])
def test_leave_one_out_is_a_partition(pairs: Pairs, split: str, validation: str) -> None:
    table = table_of(pairs(0, 30, 40, 200), 30, 40)
    options = PrepareOptions(split=split, validation=validation, negatives=5)  # type: ignore[arg-type]
    parts = split_table(table, options)
    assert parts.users is table.users
    assert parts.dropped == {}
    check_partition(parts, table.interactions)
    assert len(parts.known.columns) == 200
    least = 2 if validation == "none" else 3
    eligible_users = int((table.interactions.user_counts(30) >= least).sum())
    assert len(parts.test) == eligible_users
    assert len(parts.validation) == (0 if validation == "none" else eligible_users)
    assert parts.test.user_rows.tolist() == sorted(set(parts.test.user_rows.tolist()))


def test_last_follows_time(pairs: Pairs) -> None:
    table = table_of(pairs(1, 30, 40, 300), 30, 40)
    split = split_table(table, PrepareOptions(negatives=5))
    train, validation, test = times_of_each(split, table.interactions)
    latest_of = {user: max(time for pair, time in train.items() if pair[0] == user) for user, _ in test}
    held_back = {user: time for (user, _), time in validation.items()}
    assert held_back.keys() == latest_of.keys()
    for (user, _), time in test.items():
        assert latest_of[user] <= held_back[user] <= time


def test_short_users_stay_in_training_and_are_counted(pairs: Pairs) -> None:
    table = table_of(pairs(2, 60, 40, 200), 60, 40)
    counts = table.interactions.user_counts(60)
    short = np.flatnonzero(counts < 3)
    parts = split_table(table, PrepareOptions(negatives=5))
    assert not np.isin(parts.test.user_rows, short).any()
    assert parts.how["notes"] == [
        f"{len(short)} users have fewer than 3 interactions and stay in training only"
    ]


def test_users_with_too_few_unseen_items_stay_in_training() -> None:
    full = [(0, item) for item in range(9)]
    others = [(user, item) for user in (1, 2) for item in range(3)]
    user_rows, item_rows = (np.array(column, np.int32) for column in zip(*full, *others, (2, 9), strict=True))
    interactions = Interactions(user_rows, item_rows, np.arange(len(user_rows)))
    parts = split_table(table_of(interactions, 3, 10), PrepareOptions(negatives=4))
    assert parts.test.user_rows.tolist() == [1, 2]
    assert parts.how["notes"] == ["1 users leave fewer than 4 items unseen and stay in training only"]


def test_too_few_items_name_the_number_that_works(pairs: Pairs) -> None:
    table = table_of(pairs(3, 30, 20, 200), 30, 20)
    with pytest.raises(
        DataError, match=r"There are only 20 items, .*: use --negatives (\d+) or fewer"
    ) as caught:
        split_table(table, PrepareOptions())
    most = int(str(caught.value).split("--negatives ")[1].split(" ")[0])
    assert len(split_table(table, PrepareOptions(negatives=most)).test) > 0
    with pytest.raises(DataError, match="--negatives"):
        split_table(table, PrepareOptions(negatives=most + 1))


def test_nobody_has_enough_interactions() -> None:
    table = table_of(
        Interactions(np.arange(4, dtype=np.int32), np.arange(4, dtype=np.int32), np.arange(4)), 4, 4
    )
    with pytest.raises(DataError, match="No user has 3 interactions or more.*--validation none"):
        split_table(table, PrepareOptions(negatives=1))
    with pytest.raises(
        DataError,
        match="No user has 2 interactions or more, .* use --split none to train on everything",
    ):
        split_table(table, PrepareOptions(negatives=1, validation="none"))


def test_everybody_has_everything() -> None:
    grid = np.indices((3, 4)).reshape(2, -1).astype(np.int32)
    table = table_of(Interactions(grid[0], grid[1], np.arange(12)), 3, 4)
    with pytest.raises(DataError, match="Every user has interacted with every item"):
        split_table(table, PrepareOptions(negatives=1))


@pytest.mark.parametrize("negatives", [1, 5])
def test_time_split_never_looks_ahead_and_counts_what_it_drops(pairs: Pairs, negatives: int) -> None:
    for seed in range(12):
        table = table_of(pairs(seed, 30, 40, 300), 30, 40)
        options = PrepareOptions(split="time", negatives=negatives, test_fraction=0.2)
        split = split_table(table, options)
        assert split.dropped == {"unknown_after_cut": 300 - len(split.known.columns)}
        check_partition(split, table.interactions)
        train, validation, test = (
            times_of_each(split, table.interactions)[part].values() for part in range(3)
        )
        assert max(train) < min(validation) <= max(validation) < min(test)
        for lists in (split.validation, split.test):
            assert np.isin(lists.user_rows, split.train.user_rows).all()
            assert np.isin(lists.positives, split.train.item_rows).all()


def test_time_split_without_validation(pairs: Pairs) -> None:
    options = PrepareOptions(split="time", validation="none", negatives=5)
    assert len(split_table(table_of(pairs(4, 30, 40, 300), 30, 40), options).validation) == 0


def test_time_split_of_one_moment() -> None:
    table = table_of(
        Interactions(np.array([0, 1], np.int32), np.array([0, 1], np.int32), np.zeros(2, np.int64)), 2, 2
    )
    with pytest.raises(DataError, match="Before the cut in time there are no two users and two items"):
        split_table(table, PrepareOptions(split="time", negatives=1))


def test_time_split_with_too_many_negatives(pairs: Pairs) -> None:
    with pytest.raises(DataError, match="No interaction after the cut in time .*fewer --negatives"):
        split_table(table_of(pairs(4, 30, 40, 300), 30, 40), PrepareOptions(split="time"))
