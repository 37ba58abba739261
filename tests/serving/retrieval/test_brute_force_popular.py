"""Popularity in a fixed order, filtered."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ncf.serving.retrieval.brute_force import PopularityRanker

rows = st.lists(st.integers(0, 9), max_size=12)


def test_shapes_and_types() -> None:
    scores, items = PopularityRanker(np.array([3, 5, 5, 0])).top(3, np.empty(0, np.int64))
    assert (scores.dtype, items.dtype.kind) == (np.float32, "i")
    assert scores.tolist() == [5, 5, 3]
    assert items.tolist() == [1, 2, 0]


TEN = st.lists(st.integers(0, 3), min_size=10, max_size=10)


@given(TEN, st.none() | TEN, rows, st.none() | rows, st.integers(1, 12))
def test_equals_sorting(
    counts: list[int], lately: list[int] | None, hidden: list[int], allowed: list[int] | None, k: int
) -> None:
    may = set(range(10) if allowed is None else allowed) - set(hidden)
    first = counts if lately is None else lately
    expected = sorted(may, key=lambda row: (-first[row], -counts[row], row))[:k]
    given_rows = None if allowed is None else np.unique(np.array(allowed, np.int64))
    ranker = PopularityRanker(np.array(counts), None if lately is None else np.array(lately))
    scores, items = ranker.top(k, np.array(hidden, np.int64), given_rows)
    assert items.tolist() == expected
    assert scores.tolist() == [first[row] for row in expected]
