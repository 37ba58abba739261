"""Groups of held-out rows against counting by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.data import HeldOut
from ncf.evaluation.slices import (
    ACTIVITY,
    ITEM_COUNTS,
    by_activity,
    by_item_count,
    by_popularity,
    label_of,
    parts_of,
    sample,
    sorted_by_user,
)


def test_buckets_that_occur_with_their_means() -> None:
    counts = np.array([1, 2, 3, 5, 5, 300])
    groups = by_activity(counts, {"hr@10": np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])})
    assert [(g.label, g.low, g.high, g.rows) for g in groups] == [
        ("1", 1, 1, 1), ("2", 2, 2, 1), ("3-5", 3, 5, 3), ("201+", 201, None, 1),
    ]  # fmt: skip
    assert [g.means["hr@10"] for g in groups] == pytest.approx([1.0, 0.0, 2 / 3, 1.0])
    low, high = groups[2].intervals["hr@10"]
    assert 0.0 <= low < 2 / 3 < high <= 1.0
    assert groups[2].to_json()["metrics"] == groups[2].means


@pytest.mark.parametrize("buckets", [ACTIVITY, ITEM_COUNTS])
def test_every_count_has_exactly_one_bucket(buckets: tuple[tuple[int, int | None], ...]) -> None:
    for count in [*range(1500), 10**6]:
        assert sum(low <= count and (high is None or count <= high) for low, high in buckets) == 1


@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1)), min_size=1, max_size=60))
def test_groups_put_together_are_the_whole(rows: list[tuple[int, float]]) -> None:
    counts, values = np.array([c for c, _ in rows]), np.array([v for _, v in rows])
    for groups in (
        by_activity(counts, {"x": values}, resamples=0),
        by_item_count(counts, {"x": values}, resamples=0),
        by_popularity(np.arange(len(rows)), counts, {"x": values}, resamples=0),
    ):
        assert sum(g.rows for g in groups) == len(rows)
        assert sum(g.rows * g.means["x"] for g in groups) == pytest.approx(values.sum())


def test_values_of_another_length_are_left_out() -> None:
    (group,) = by_activity(np.array([7, 7]), {"hr@1": np.ones(2), "recall@1": np.ones(1)})
    assert set(group.means) == set(group.intervals) == {"hr@1"}


def slow_parts(popularity: list[int]) -> list[int]:
    """An item is in the head while those that are used more hold less than a third, and so on."""
    total = max(1, sum(popularity))
    return [min(2, 3 * sum(p for p in popularity if p > own) // total) for own in popularity]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_parts_against_the_definition(popularity: list[int]) -> None:
    parts = parts_of(np.array(popularity))
    assert parts.dtype == np.int64
    assert parts.tolist() == slow_parts(popularity)


def test_head_torso_and_tail_hold_a_third_each() -> None:
    popularity = np.array([30, 15, 15, 5, 5, 5, 5, 5, 5, 0])
    assert parts_of(popularity).tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 2, 2]
    groups = by_popularity(np.array([0, 1, 9]), popularity, {"x": np.array([0.1, 0.2, 0.3])})
    assert [g.label for g in groups] == [
        "head (1 items, 30 uses)", "torso (2 items, 15 uses)", "tail (7 items, 0-5 uses)",
    ]  # fmt: skip
    assert [g.means["x"] for g in groups] == [0.1, 0.2, 0.3]


def test_rows_by_user_keep_their_lists() -> None:
    rows = sorted_by_user(HeldOut(np.array([3, 1, 3], np.int32), np.array([[1], [2], [3]], np.int32)))
    assert (rows.user_rows.tolist(), rows.candidates.ravel().tolist()) == ([1, 3, 3], [2, 1, 3])
    assert label_of((1001, None)) == "1,001+"


def test_a_sample_is_of_the_seed_and_in_order() -> None:
    some, again, other = (sample(90, 30, seed).tolist() for seed in (1, 1, 2))
    assert some == sorted(set(some)) == again
    assert len(some) == 30
    assert some != other
    assert sample(30, 30).tolist() == list(range(30))
