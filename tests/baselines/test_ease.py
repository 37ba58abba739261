"""EASE against its closed form, and its scores against a product of dense matrices."""

import pytest
import torch

from ncf.baselines import BASELINES, ease
from ncf.baselines.base import dense_rows, users_by_item
from ncf.baselines.ease import ease_weights, user_side_scores
from ncf.errors import ConfigError
from ncf.runtime import Workers
from support import csr_of, planted


def dense() -> torch.Tensor:
    return dense_rows(planted().seen_in_training, 120, slice(0, 300))


@pytest.mark.parametrize("threads", [1, 3])
def test_ease_is_the_closed_form(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "_USERS_AT_ONCE", 37)
    workers = Workers(threads)
    weights = ease_weights(planted().seen_in_training, 120, workers, l2=5.0, dropout=0.25, user_exponent=0.5)
    workers.close()
    assert weights.shape == (120, 120)
    assert weights.dtype == torch.float32
    x = dense().double()
    counts = x.sum(1)
    gram = x.T @ (x * (counts / counts.mean()).pow(-0.5)[:, None])
    inverse = torch.linalg.inv(gram + torch.diag(5.0 + gram.diagonal() / 3.0))
    expected = -inverse / inverse.diagonal()
    expected.diagonal().zero_()
    torch.testing.assert_close(weights.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_user_side_is_ease_of_the_transpose(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "_USERS_AT_ONCE", 37)
    train = csr_of([*[sorted({(7 * u + k * k) % 40 for k in range(1 + u % 9)}) for u in range(90)], []])
    workers = Workers(threads)
    scores = user_side_scores(train, 45, workers, l2=5.0, dropout=0.25, item_exponent=0.5)
    workers.close()
    assert (scores.shape, scores.dtype) == ((91, 45), torch.float32)
    transposed = users_by_item(train, 45)
    weights = ease_weights(transposed, 91, Workers(1), l2=5.0, dropout=0.25, user_exponent=0.5)
    expected = (dense_rows(transposed, 91, slice(0, 45)) @ weights).T
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-4)


def test_scores_are_the_sums_of_the_weights_of_the_history() -> None:
    train = planted().seen_in_training
    weights = ease_weights(train, 120, Workers(1), l2=20.0)
    model = BASELINES["ease"].fit(train, 120, {"l2": 20}, 0, Workers(1))
    torch.testing.assert_close(model.catalogue(torch.arange(300)), dense() @ weights, rtol=1e-4, atol=1e-5)


def test_catalogues_too_large_for_a_closed_form_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "ITEMS_LIMIT", 20)
    with pytest.raises(ConfigError, match=r"120 items are too many for that \(at most 20\): leave it out"):
        BASELINES["ease"].fit(planted().seen_in_training, 120, {}, 0, Workers(1))


def test_what_has_no_solution_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"EASE has no solution with l2 = 0 on these data: raise l2"):
        BASELINES["ease"].fit(csr_of([[0, 1], [1, 2]]), 5, {"l2": 0}, 0, Workers(1))
