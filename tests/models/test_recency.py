"""Ages count the later items of a user; a positive sees what came before it; no times, no half-life."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf.config import ModelConfig
from ncf.data import Interactions
from ncf.errors import ConfigError
from ncf.models import History, history_of
from ncf.models.recency import RecentHistory, ages, require_times
from support import planted

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(-5, 5)),
    max_size=30,
    unique_by=lambda row: row[:2],
)
TABLE = torch.from_numpy(np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32))


def interactions(rows: list[tuple[int, int, int]]) -> Interactions:
    columns = np.array(rows, np.int64).reshape(-1, 3)
    return Interactions(columns[:, 0].astype(np.int32), columns[:, 1].astype(np.int32), columns[:, 2].copy())


def slow(used: list[tuple[int, int]], half_life: float, exponent: float) -> np.ndarray:
    """From (item, time) pairs, item by item."""
    total, weight = np.zeros(3), 0.0
    for item, time in used:
        counts = 0.5 ** (sum(other > time for _, other in used) / half_life)
        total, weight = total + counts * TABLE[item].numpy(), weight + counts
    return total / max(1.0, weight) ** exponent


def test_shape_and_dtype() -> None:
    train = interactions([(0, 1, 5), (0, 2, 7), (1, 1, 3)])
    computed = ages(train)
    assert (computed.shape, computed.dtype) == ((3,), np.int32)
    assert computed.tolist() == [1, 0, 0]
    past = RecentHistory.of(train, 3, 10, 1.0)
    vectors = past.vectors(TABLE, 0.5)
    assert (vectors.shape, vectors.dtype) == ((3, 3), torch.float32)
    assert not vectors[2].any(), "nothing is known of the user"
    before = past.vectors_without(TABLE, 0.5, torch.tensor([0, 1]), torch.tensor([2, 1]))
    assert (before.shape, before.dtype) == ((2, 3), torch.float32)
    torch.testing.assert_close(before[0], TABLE[1])
    assert not before[1].any(), "the user's first item"


@given(ROWS)
def test_an_age_is_the_number_of_strictly_later_items_of_the_user(rows: list[tuple[int, int, int]]) -> None:
    expected = [sum(other[0] == row[0] and other[2] > row[2] for other in rows) for row in rows]
    assert ages(interactions(rows)).tolist() == expected


@given(ROWS.filter(bool), st.sampled_from([2.0, 5.0]), st.sampled_from([0.0, 0.5, 1.0]))
def test_vectors_equal_a_slow_loop(
    rows: list[tuple[int, int, int]], half_life: float, exponent: float
) -> None:
    """In the order of the file, which is none; all items of a user are within the window."""
    past = RecentHistory.of(interactions(rows), 4, 10, half_life)
    whole = past.vectors(TABLE, exponent)
    users, items = (torch.tensor([row[column] for row in rows]) for column in (0, 1))
    before = past.vectors_without(TABLE, exponent, users, items)
    for (user, _, time), vector in zip(rows, before, strict=True):
        own = [row[1:] for row in rows if row[0] == user]
        np.testing.assert_allclose(whole[user], slow(own, half_life, exponent), rtol=1e-4, atol=1e-5)
        earlier = [pair for pair in own if pair[1] < time]
        np.testing.assert_allclose(vector, slow(earlier, half_life, exponent), rtol=1e-4, atol=1e-5)


@given(ROWS.filter(bool))
def test_an_endless_half_life_counts_all_alike(rows: list[tuple[int, int, int]]) -> None:
    train = interactions(rows)
    plain = History.of(train.csr(4), 10).vectors(TABLE, 0.5)
    torch.testing.assert_close(
        RecentHistory.of(train, 4, 10, 1e9).vectors(TABLE, 0.5), plain, rtol=1e-4, atol=1e-5
    )


def test_what_is_older_than_the_window_is_not_looked_at() -> None:
    train = interactions([(0, time % 10, time) for time in range(10)])
    past = RecentHistory.of(train, 1, 10, 0.5)
    assert past.window == 4
    bags = past.before(torch.tensor([0, 0]), torch.tensor([9, 2]), 0.0)
    assert bags.rows.tolist() == [5, 6, 7, 8, 0, 1]
    assert bags.owners.tolist() == [0, 0, 0, 0, 1, 1]
    np.testing.assert_allclose(bags.weights, [2.0**-6, 2.0**-4, 2.0**-2, 1.0, 2.0**-2, 1.0])


def test_a_half_life_without_times_is_refused_with_a_sentence() -> None:
    dataset = planted()
    require_times(dataset.train, ModelConfig(kind="history-gmf"))
    assert isinstance(history_of(dataset), History)
    for name, settings in (
        ("model.history_half_life = 5", {"kind": "history-gmf", "history_half_life": 5}),
        ("model.history_places = 9", {"kind": "history-gmf", "history_places": 9}),
        ("model.kind = 'sasrec'", {"kind": "sasrec"}),
    ):
        with pytest.raises(ConfigError, match=rf"{name} needs the times .* have none: prepare"):
            require_times(dataset.train, ModelConfig.model_validate(settings))
