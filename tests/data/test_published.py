from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ncf.data.finalize import Provenance
from ncf.data.options import PrepareOptions
from ncf.data.published import PublishedSplit, prepare_published
from ncf.errors import ConfigError, DataError

PROVENANCE = Provenance("x", {"source": {"kind": "test", "from": "memory"}})


def split(**changes: object) -> PublishedSplit:
    """3 users with 3 training items each, of items 10 to 19; the test items 50 and 51 and the list item 60
    are cold.
    """
    base = PublishedSplit(
        np.repeat([5, 6, 7], 3),
        np.array([10, 11, 12, 13, 14, 15, 16, 17, 18]),
        None,
        np.array([6, 5, 7]),
        np.array([50, 51, 10]),
        np.array([[10, 11, 60], [13, 13, 51], [14, 16, 11]]),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


OPTIONS = PrepareOptions(negatives=3)


def test_shapes_and_order_of_the_published_lists() -> None:
    dataset, _ = prepare_published(split(), OPTIONS, PROVENANCE)
    assert dataset.test.candidates.shape == (3, 4)
    assert dataset.users.ids_of(dataset.test.user_rows).tolist() == [6, 5, 7]
    assert dataset.items.ids_of(dataset.test.candidates).tolist() == [
        [50, 10, 11, 60], [51, 13, 13, 51], [10, 14, 16, 11],
    ]  # fmt: skip


def test_cold_items_stay_and_are_counted() -> None:
    dataset, report = prepare_published(split(), OPTIONS, PROVENANCE)
    assert set(dataset.items.ids.tolist()) == {*range(10, 19), 50, 51, 60}
    cold = dataset.items.ids[dataset.popularity == 0].tolist()
    assert set(cold) >= {50, 51, 60}
    assert f"cold      {len(cold)} items without a training interaction" in report.lines()


def test_audit() -> None:
    audit = prepare_published(split(), OPTIONS, PROVENANCE)[0].description["audit"]["test"]
    assert audit["lists"] == 3
    assert audit["with_duplicates"] == 1
    assert audit["positive_among_negatives"] == 1
    assert audit["known_positives_among_negatives"] == 1


def test_validation_is_one_random_item_of_each_user() -> None:
    dataset, _ = prepare_published(split(), OPTIONS, PROVENANCE)
    assert dataset.validation.user_rows.tolist() == [0, 1, 2]
    assert len(dataset.train) == 6
    assert dataset.description["split"]["validation"] == "one at random of each user"
    assert not dataset.known.contains(
        dataset.validation.user_rows[:, None], dataset.validation.negatives
    ).any()


def test_validation_is_the_last_where_times_are_usable() -> None:
    dataset, _ = prepare_published(split(train_times=np.arange(9)), OPTIONS, PROVENANCE)
    assert dataset.items.ids_of(dataset.validation.positives).tolist() == [12, 15, 18]


def test_no_validation() -> None:
    dataset, _ = prepare_published(split(), PrepareOptions(validation="none"), PROVENANCE)
    assert len(dataset.validation) == 0
    assert len(dataset.train) == 9


def test_known_is_everything() -> None:
    dataset, _ = prepare_published(split(), OPTIONS, PROVENANCE)
    assert len(dataset.known.columns) == 12
    assert dataset.known.contains(dataset.test.user_rows, dataset.test.positives).all()


def test_test_positives_are_taken_out_of_training() -> None:
    dataset, _ = prepare_published(split(test_items=np.array([13, 51, 10])), OPTIONS, PROVENANCE)
    assert dataset.description["dropped"]["test_positives_in_train"] == 1
    assert not dataset.train.csr(3).contains(dataset.test.user_rows, dataset.test.positives).any()


def test_lists_are_drawn_where_none_were_published() -> None:
    dataset, _ = prepare_published(split(negatives=None), OPTIONS, PROVENANCE)
    assert dataset.test.candidates.shape == (3, 4)
    assert not dataset.known.contains(dataset.test.user_rows[:, None], dataset.test.negatives).any()
    assert dataset.description["split"]["test_lists"] == "drawn"


def test_drawn_lists_need_enough_items() -> None:
    with pytest.raises(DataError, match="99 negatives do not exist: use --negatives"):
        prepare_published(split(negatives=None), PrepareOptions(), PROVENANCE)


def test_unknown_test_users() -> None:
    unknown = split(test_users=np.array([6, 5, 99]))
    kept, report = prepare_published(unknown, OPTIONS, PROVENANCE)
    assert kept.users.ids.tolist() == [5, 6, 7, 99]
    assert kept.users.ids_of(kept.test.user_rows).tolist() == [6, 5, 99]
    assert "cold      1 test users without a training interaction, kept" in report.lines()
    dataset, _ = prepare_published(unknown, replace(OPTIONS, drop_unknown_users=True), PROVENANCE)
    assert len(dataset.test) == 2
    assert dataset.description["dropped"]["unknown_test_users"] == 1


def test_duplicates_are_counted() -> None:
    doubled = split(train_users=np.repeat([5, 6, 7], 6), train_items=np.repeat(np.arange(10, 19), 2))
    dataset, _ = prepare_published(doubled, OPTIONS, PROVENANCE)
    assert dataset.description["dropped"]["duplicates"] == 9


def test_options_that_would_change_a_published_split_are_refused() -> None:
    with pytest.raises(ConfigError, match="--event, --repeats cannot be used with a published split"):
        prepare_published(split(), replace(OPTIONS, event="type", repeats="sum"), PROVENANCE)
    with pytest.raises(ConfigError, match="--split, --min-user cannot be used with a published split"):
        prepare_published(split(), PrepareOptions(split="random", min_user=5), PROVENANCE)


def test_validation_of_rarer_items_by_popularity() -> None:
    """Each user has the one popular item and one item of its own."""
    users = np.repeat(np.arange(200), 2)
    items = np.where(np.arange(400) % 2, 1_000, users)
    published = split(
        train_users=users,
        train_items=items,
        test_users=users[::2],
        test_items=users[::2] + 200,
        negatives=None,
    )
    for exponent, fewest, most in ((0.0, 70, 130), (1.0, 0, 10)):
        options = replace(OPTIONS, validation_popularity_exponent=exponent)
        dataset, _ = prepare_published(published, options, PROVENANCE)
        held_out = dataset.items.ids_of(dataset.validation.positives)
        assert fewest <= (held_out == 1_000).sum() <= most
    name = "one at random of each user, by popularity to the power of -1"
    assert dataset.description["split"]["validation"] == name
