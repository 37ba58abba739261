"""The best k against sorting everything."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ncf.serving.retrieval.brute_force import best


def test_shapes_and_dtypes() -> None:
    scores, rows = best(np.array([[1.0, 3.0, 2.0]], np.float32), np.array([7, 5, 9], np.int32), 2)
    assert (scores.dtype, rows.dtype) == (np.float32, np.int64)
    assert (scores.tolist(), rows.tolist()) == ([[3.0, 2.0]], [[5, 9]])
    assert best(np.empty((0, 3), np.float32), np.arange(3), 2)[0].shape == (0, 2)
    assert best(np.empty((2, 0), np.float32), np.arange(0), 2)[0].shape == (2, 0)


VALUES = st.sampled_from([-np.inf, -2.5, -1e-30, -0.0, 0.0, 1e-30, 1.0, 3e38]).map(np.float32)


@given(
    arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=VALUES),
    st.integers(1, 50),
    st.randoms(),
)
def test_equal_to_sorting_by_score_and_row(scores: np.ndarray, k: int, random: object) -> None:
    rows = np.stack(
        [np.random.default_rng(user).permutation(1000)[: scores.shape[1]] for user in range(len(scores))]
    )
    found_scores, found_rows = best(scores, rows, k)
    for user in range(len(scores)):
        pairs = sorted(zip((-scores[user]).tolist(), rows[user].tolist(), strict=True))[:k]
        assert found_rows[user].tolist() == [row for _, row in pairs]
        assert (-found_scores[user]).tolist() == [score for score, _ in pairs]
