from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.data.encode import k_core
from ncf.data.interactions import Interactions
from ncf.data.splits import as_scheme, hold_out, temporal_cut
from ncf.errors import DataError

Pairs = Callable[[int, int, int, int], Interactions]


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
        expected = []
        for user in range(8):
            mine = [p for p in range(30) if table.user_rows[p] == user]
            if mine and eligible[user]:
                expected.append(max(mine, key=lambda p: (table.timestamps[p], table.item_rows[p])))
        assert hold_out(table, 8, "last", eligible, generator()).tolist() == expected


@given(st.integers(0, 1000), st.sampled_from(["last", "random"]), st.floats(-1, 2))
def test_one_for_each_eligible_user_with_interactions(seed: int, scheme: str, exponent: float) -> None:
    rng = np.random.default_rng(seed)
    keys = np.sort(rng.choice(50, size=20, replace=False))
    table = Interactions((keys // 5).astype(np.int32), (keys % 5).astype(np.int32), rng.integers(0, 9, 20))
    eligible = rng.random(10) < 0.5
    chosen = hold_out(table, 10, as_scheme(scheme), eligible, rng, exponent)
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
        as_scheme("first")


def test_hold_out_of_nothing() -> None:
    empty = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64))
    assert hold_out(empty, 3, "last", np.ones(3, bool), generator()).shape == (0,)


def test_temporal_cut_never_looks_ahead(pairs: Pairs) -> None:
    for seed in range(20):
        table = pairs(seed, 12, 9, 80)
        times = table.timestamps
        assert times is not None
        cut = temporal_cut(table, 12, 9, 0.2, 0.1)
        assert not (cut.train & cut.validation).any()
        assert not (cut.validation & cut.test).any()
        assert times[cut.train].max() < times[cut.validation].min()
        assert times[cut.validation].max() < times[cut.test].min()
        for mask in (cut.validation, cut.test):
            assert np.isin(table.user_rows[mask], table.user_rows[cut.train]).all()
            assert np.isin(table.item_rows[mask], table.item_rows[cut.train]).all()


def test_temporal_cut_without_validation(pairs: Pairs) -> None:
    cut = temporal_cut(pairs(0, 12, 9, 80), 12, 9, 0.2, 0.0)
    assert not cut.validation.any()
    assert cut.train.sum() + cut.test.sum() <= 80


def test_k_core_agrees_with_a_loop(pairs: Pairs) -> None:
    for seed in range(20):
        table = pairs(seed, 10, 10, 35)
        kept = list(zip(table.user_rows.tolist(), table.item_rows.tolist(), strict=True))
        while True:
            users, items = [u for u, _ in kept], [i for _, i in kept]
            fewer = [(u, i) for u, i in kept if users.count(u) >= 3 and items.count(i) >= 4]
            if len(fewer) == len(kept):
                break
            kept = fewer
        keep = k_core(table, 10, 10, 3, 4)
        assert keep.dtype == bool
        assert list(zip(table.user_rows[keep].tolist(), table.item_rows[keep].tolist(), strict=True)) == kept


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_k_core_leaves_nobody_below(seed: int, min_user: int, min_item: int) -> None:
    keys = np.sort(np.random.default_rng(seed).choice(64, size=30, replace=False))
    table = Interactions((keys // 8).astype(np.int32), (keys % 8).astype(np.int32))
    kept = table.take(k_core(table, 8, 8, min_user, min_item))
    for counts, least in ((kept.user_counts(8), min_user), (kept.item_counts(8), min_item)):
        assert (counts[counts > 0] >= least).all()
