"""EASE against dense algebra, in its exact and its iterative form."""

from typing import Any, Literal

import numpy as np
import pytest
import scipy.sparse
import torch

from ncf.baselines import BASELINES, ease
from ncf.baselines.base import sparse_rows
from ncf.baselines.ease import ease_factors, ease_scores
from ncf.errors import ConfigError
from ncf.runtime import Workers
from support import csr_of, dense_rows, planted


def dense() -> torch.Tensor:
    return dense_rows(planted().seen_in_training, 120, slice(0, 300))


def made_up(users: int, items: int, weighted: bool = False) -> Any:
    """A table with a user and an item that have nothing."""
    draws = np.random.default_rng(0)
    used = draws.random((users, items)) < 0.2
    used[3] = used[:, 5] = False
    values = draws.exponential(1.0, used.shape) if weighted else 1.0
    return scipy.sparse.csr_matrix((used * values).astype(np.float32))


def expected(histories: Any, side: str, l2: float = 5.0) -> np.ndarray[Any, Any]:
    """The scores, by an inverse of the columns of X or of X'."""
    matrix = histories.toarray().astype(float)
    if side == "users":
        matrix = matrix.T
    counts = np.maximum(matrix.sum(1), 1.0)
    gram = matrix.T @ (matrix * ((counts / counts.mean()) ** -0.5)[:, None])
    inverse = np.linalg.inv(gram + np.diag(l2 + np.diag(gram) / 3.0))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    scores: np.ndarray[Any, Any] = matrix @ weights
    return scores if side == "items" else scores.T


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
@pytest.mark.parametrize("side", ["items", "users"])
@pytest.mark.parametrize("sparse_cost", [0.0, 1e9])
@pytest.mark.parametrize("weighted", [False, True])
def test_either_side_is_the_closed_form_whichever_is_inverted(
    shape: tuple[int, int],
    side: Literal["items", "users"],
    sparse_cost: float,
    weighted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ease, "_SPARSE_COST", sparse_cost)
    monkeypatch.setattr(ease, "_ROWS_AT_ONCE", 7)
    histories = made_up(*shape, weighted)
    scores, slow = ease_scores(histories, 5.0, 0.25, 0.5, side), expected(histories, side)
    assert scores.rows(slice(0, 9)).dtype == np.float32
    np.testing.assert_allclose(scores.rows(slice(0, shape[0])), slow, atol=1e-5)
    np.testing.assert_allclose(scores.rows(np.array([3, 1])), slow[[3, 1]], atol=1e-5)
    right = np.random.default_rng(1).random((shape[1], 3), np.float32)
    np.testing.assert_allclose(scores.times(right), slow @ right, atol=1e-4)
    left = np.random.default_rng(1).random((shape[0], 3), np.float32)
    np.testing.assert_allclose(scores.transposed_times(left), slow.T @ left, atol=1e-4)


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_iterative_form_comes_near_at_full_rank(
    shape: tuple[int, int], weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ease, "_SIGNS", 4000)
    histories = made_up(*shape, weighted)
    factors = ease_factors(histories, 5.0, 0.25, 0.5, seed=0)
    scores, slow = (factors.users_UD @ factors.items_ID.T).numpy(), expected(histories, "items")
    np.testing.assert_allclose(scores, slow, rtol=0.03, atol=0.03)
    again = ease_factors(histories, 5.0, 0.25, 0.5, seed=0)
    assert torch.equal(factors.items_ID, again.items_ID)


def test_scores_are_the_sums_of_the_weights_of_the_history() -> None:
    train = planted().seen_in_training
    weights = torch.from_numpy(ease_scores(sparse_rows(train, 120), 20.0).weights_between_items())
    model = BASELINES["ease"].fit(train, 120, {"l2": 20}, 0, Workers(1))
    torch.testing.assert_close(model.catalogue(torch.arange(300)), dense() @ weights, rtol=1e-4, atol=1e-5)


def test_beyond_the_exact_limit_the_baseline_is_of_low_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "EXACT_LIMIT", 20)
    train = planted().seen_in_training
    model = BASELINES["ease"].fit(train, 120, {"l2": 20}, 0, Workers(1))
    scores = model.catalogue(torch.arange(300))
    slow = torch.from_numpy(ease_scores(sparse_rows(train, 120), 20.0).rows(slice(0, 300)))
    assert torch.corrcoef(torch.stack([scores.flatten(), slow.flatten()]))[0, 1] > 0.98


def test_what_has_no_solution_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"EASE has no solution with l2 = 0 on these data: raise l2"):
        BASELINES["ease"].fit(csr_of([[0, 1], [1, 2]]), 5, {"l2": 0}, 0, Workers(1))
