"""The best k in a fixed order."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ncf.serving.ranking import best


def test_shapes_and_types() -> None:
    scores, rows = best(torch.randn(3, 7), 4)
    assert scores.shape == rows.shape == (3, 4)
    assert (scores.dtype, rows.dtype) == (torch.float32, torch.int64)
    assert best(torch.randn(3, 7), 99)[0].shape == (3, 7)
    assert best(torch.randn(3, 0), 5)[1].shape == (3, 0)


@given(
    st.lists(st.lists(st.integers(-2, 2), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(1, 7)
)
def test_equals_sorting_by_score_and_then_by_row(table: list[list[int]], k: int) -> None:
    scores = torch.tensor(table, dtype=torch.float32)
    scores[scores == -2] = -torch.inf
    top, rows = best(scores, k)
    for one, expected_top, expected_rows in zip(scores.tolist(), top.tolist(), rows.tolist(), strict=True):
        order = sorted(range(6), key=lambda row: (-one[row], row))[:k]
        assert expected_rows == order
        assert expected_top == [one[row] for row in order]
