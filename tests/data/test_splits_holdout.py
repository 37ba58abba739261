from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ncf.data.encode import Table
from ncf.data.interactions import Interactions
from ncf.data.options import PrepareOptions
from ncf.data.splits import SplitParts, split_table
from ncf.data.vocabulary import Vocabulary
from ncf.errors import DataError

Pairs = Callable[[int, int, int, int], Interactions]


def table_of(interactions: Interactions, users: int, items: int) -> Table:
    return Table(Vocabulary.build(range(users)), Vocabulary.build(range(items)), interactions)


def keys(interactions: Interactions) -> set[tuple[int, int]]:
    return set(zip(interactions.user_rows.tolist(), interactions.item_rows.tolist(), strict=True))


def check_partition(parts: SplitParts, table: Table) -> None:
    pieces = [keys(part) for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, pieces)) == len(set.union(*pieces)) == len(table.interactions)
    assert set.union(*pieces) == keys(table.interactions)


@pytest.mark.parametrize("split", ["last", "random"])
@pytest.mark.parametrize("validation", ["auto", "last", "random", "none"])
def test_leave_one_out_is_a_partition(pairs: Pairs, split: str, validation: str) -> None:
    table = table_of(pairs(0, 30, 40, 200), 30, 40)
    options = PrepareOptions(split=split, validation=validation, negatives=5)  # type: ignore[arg-type]
    parts, same, dropped = split_table(table, options)
    assert same is table
    assert dropped == {}
    check_partition(parts, table)
    least = 2 if validation == "none" else 3
    eligible_users = int((table.interactions.user_counts(30) >= least).sum())
    assert len(parts.test) == eligible_users
    assert len(parts.validation) == (0 if validation == "none" else eligible_users)
    assert parts.test.user_rows.tolist() == sorted(set(parts.test.user_rows.tolist()))


def test_last_follows_time(pairs: Pairs) -> None:
    parts, _, _ = split_table(table_of(pairs(1, 30, 40, 300), 30, 40), PrepareOptions(negatives=5))
    for user in parts.test.user_rows:
        train, validation, test = (
            part.timestamps[part.user_rows == user]
            for part in (parts.train, parts.validation, parts.test)
            if part.timestamps is not None
        )
        assert train.max() <= validation[0] <= test[0]


def test_short_users_stay_in_training_and_are_counted(pairs: Pairs) -> None:
    table = table_of(pairs(2, 60, 40, 200), 60, 40)
    counts = table.interactions.user_counts(60)
    short = np.flatnonzero(counts < 3)
    parts, _, _ = split_table(table, PrepareOptions(negatives=5))
    assert not np.isin(parts.test.user_rows, short).any()
    assert parts.how["notes"] == [
        f"{len(short)} users have fewer than 3 interactions and stay in training only"
    ]


def test_users_with_too_few_unseen_items_stay_in_training() -> None:
    full = [(0, item) for item in range(9)]
    others = [(user, item) for user in (1, 2) for item in range(3)]
    user_rows, item_rows = (np.array(column, np.int32) for column in zip(*full, *others, (2, 9), strict=True))
    interactions = Interactions(user_rows, item_rows, np.arange(len(user_rows)))
    parts, _, _ = split_table(table_of(interactions, 3, 10), PrepareOptions(negatives=4))
    assert parts.test.user_rows.tolist() == [1, 2]
    assert parts.how["notes"] == ["1 users leave fewer than 4 items unseen and stay in training only"]


def test_too_few_items_name_the_number_that_works(pairs: Pairs) -> None:
    table = table_of(pairs(3, 30, 20, 200), 30, 20)
    with pytest.raises(
        DataError, match=r"There are only 20 items, .*: use --negatives (\d+) or fewer"
    ) as caught:
        split_table(table, PrepareOptions())
    most = int(str(caught.value).split("--negatives ")[1].split(" ")[0])
    assert len(split_table(table, PrepareOptions(negatives=most))[0].test) > 0
    with pytest.raises(DataError, match="--negatives"):
        split_table(table, PrepareOptions(negatives=most + 1))


def test_nobody_has_enough_interactions() -> None:
    table = table_of(
        Interactions(np.arange(4, dtype=np.int32), np.arange(4, dtype=np.int32), np.arange(4)), 4, 4
    )
    with pytest.raises(DataError, match="No user has 3 interactions or more.*--validation none"):
        split_table(table, PrepareOptions(negatives=1))
    with pytest.raises(
        DataError, match=r"No user has 2 interactions or more, so none can be held out: give more data\."
    ):
        split_table(table, PrepareOptions(negatives=1, validation="none"))


def test_everybody_has_everything() -> None:
    grid = np.indices((3, 4)).reshape(2, -1).astype(np.int32)
    table = table_of(Interactions(grid[0], grid[1], np.arange(12)), 3, 4)
    with pytest.raises(DataError, match="Every user has interacted with every item"):
        split_table(table, PrepareOptions(negatives=1))


def test_time_split_never_looks_ahead_and_counts_what_it_drops(pairs: Pairs) -> None:
    table = table_of(pairs(4, 30, 40, 300), 30, 40)
    parts, compacted, dropped = split_table(table, PrepareOptions(split="time", negatives=5))
    assert dropped == {"unknown_after_cut": 300 - len(compacted.interactions)}
    check_partition(parts, compacted)
    times = [part.timestamps for part in (parts.train, parts.validation, parts.test)]
    assert all(part is not None and len(part) for part in times)
    assert times[0].max() < times[1].min() <= times[1].max() < times[2].min()  # type: ignore[union-attr]
    for users in (parts.validation.user_rows, parts.test.user_rows):
        assert np.isin(users, parts.train.user_rows).all()


def test_time_split_without_validation(pairs: Pairs) -> None:
    options = PrepareOptions(split="time", validation="none", negatives=5)
    assert len(split_table(table_of(pairs(4, 30, 40, 300), 30, 40), options)[0].validation) == 0


def test_time_split_of_one_moment() -> None:
    table = table_of(
        Interactions(np.array([0, 1], np.int32), np.array([0, 1], np.int32), np.zeros(2, np.int64)), 2, 2
    )
    with pytest.raises(DataError, match="Before the cut in time there are no two users and two items"):
        split_table(table, PrepareOptions(split="time", negatives=1))


def test_time_split_with_too_many_negatives(pairs: Pairs) -> None:
    with pytest.raises(DataError, match="No interaction after the cut in time .*fewer --negatives"):
        split_table(table_of(pairs(4, 30, 40, 300), 30, 40), PrepareOptions(split="time"))
