"""EASE against its closed form, the factorisation against a full one, and what the start is worth."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ncf.baselines.base import dense_rows
from ncf.config import EvaluationConfig
from ncf.errors import ConfigError
from ncf.evaluation import evaluate_sampled
from ncf.experiment import RunOptions, train
from ncf.models import ModelScorer, build_model
from ncf.runtime import Workers, generator
from ncf.tracking.tracker import Silent
from ncf.training import spectral_init
from ncf.training.spectral_init import closed_form_logits, factorise, init_spectral
from support import checkerboard, experiment, model_of, planted


def dense(users: int = 300, items: int = 120) -> torch.Tensor:
    return dense_rows(planted().seen_in_training, items, slice(0, users))


def test_logits_are_centred_and_tell_positives_from_negatives() -> None:
    logits = closed_form_logits(planted().seen_in_training, 120, 4, 0, Workers(1))
    assert logits.centred.shape == (300, 120)
    assert abs(float(logits.centred.mean())) < 1e-4
    used = dense().bool()
    assert logits.centred[used].mean() > logits.centred[~used].mean() + 1.0


def test_factorising_is_the_best_approximation_of_its_rank() -> None:
    matrix = torch.randn(50, 12, generator=generator(0, "a")) @ torch.randn(
        12, 40, generator=generator(0, "b")
    )
    users, items = factorise(matrix, 12, generator(1, "sketch"))
    assert (users.shape, items.shape) == ((50, 12), (40, 12))
    torch.testing.assert_close(users @ items.T, matrix, rtol=1e-3, atol=1e-3)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    users, items = factorise(matrix, 5, generator(1, "sketch"))
    best = (left[:, :5] * values[:5]) @ right[:5]
    assert torch.dist(users @ items.T, matrix) < 1.01 * torch.dist(best, matrix)


def test_a_table_wider_than_the_matrix_is_filled_up() -> None:
    matrix = torch.randn(6, 4, generator=generator(0, "a"))
    users, items = factorise(matrix, 9, generator(1, "sketch"))
    assert (users.shape, items.shape) == ((6, 9), (4, 9))
    torch.testing.assert_close(users @ items.T, matrix, rtol=1e-4, atol=1e-4)


def test_gmf_starts_as_good_as_a_trained_model() -> None:
    dataset, rules = planted(), EvaluationConfig(cutoffs=(10,), bootstrap=0)
    model = build_model(experiment("gmf").model, 300, 120, generator(0, "init"))
    before = evaluate_sampled(ModelScorer(model), dataset.test, rules, Workers(1)).means["ndcg@10"]
    init_spectral(model, dataset.seen_in_training, 120, 4, 0, Workers(1))
    after = evaluate_sampled(ModelScorer(model), dataset.test, rules, Workers(1)).means["ndcg@10"]
    assert after > before + 0.2


@pytest.mark.parametrize("kind", ["gmf", "mlp", "neumf"])
def test_the_start_follows_from_the_seed_and_from_training_only(kind: str) -> None:
    models = [model_of(kind, 40, 30) for _ in range(3)]
    plain = checkerboard()
    for model, seed in zip(models, (0, 0, 1), strict=True):
        init_spectral(model, plain.seen_in_training, 30, 4, seed, Workers(1))
    first, again, other = (next(model.parameters()) for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_data_too_large_for_a_closed_form_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral_init, "ITEMS_LIMIT", 20)
    with pytest.raises(ConfigError, match=r"40 users and 30 items is too much: set train.init = 'random'"):
        init_spectral(model_of("gmf", 40, 30), checkerboard().seen_in_training, 30, 4, 0, Workers(1))


def test_an_automatic_start_is_spectral_where_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Notes(Silent):
        def __init__(self) -> None:
            self.messages: list[str] = []

        def log(self, sentence: str) -> None:
            self.messages.append(sentence)

    for limit, expected in ((20_000, "Spectral start"), (20, "Random start: the data are too large")):
        monkeypatch.setattr(spectral_init, "ITEMS_LIMIT", limit)
        notes = Notes()
        settings = experiment("gmf", init="auto", epochs=1)
        train(checkerboard(), settings, tmp_path / str(limit), options=RunOptions(tracker=notes))
        assert notes.messages[0].startswith(expected)


def test_the_start_is_the_mean_of_an_item_side_and_a_user_side() -> None:
    """Against dense algebra: user-user scores are those of the transposed interactions, transposed back."""
    train_csr, used = (
        checkerboard().seen_in_training,
        dense_rows(checkerboard().seen_in_training, 30, slice(0, 40)),
    )
    sides = []
    for matrix, l2 in ((used, spectral_init._EASE_L2), (used.T, spectral_init._USER_SIDE_L2)):
        weigh = (matrix.sum(1) / matrix.sum(1).mean()) ** -0.5
        gram = matrix.T @ (matrix * weigh[:, None])
        gram.diagonal().mul_(1.0 + 0.33 / 0.67).add_(l2)
        inverse = torch.linalg.inv(gram)
        weights = inverse / -inverse.diagonal()
        weights.diagonal().zero_()
        sides.append(matrix @ weights)
    logits = [sides[0].clone(), sides[1].T.contiguous()]
    for scores in logits:
        spectral_init._calibrate(scores, train_csr, 30, 4, 0, Workers(1))
    logits_of_both = closed_form_logits(train_csr, 30, 4, 0, Workers(2))
    assert (logits_of_both.centred.shape, logits_of_both.centred.dtype) == ((40, 30), torch.float32)
    torch.testing.assert_close(
        logits_of_both.centred + logits_of_both.mean, (logits[0] + logits[1]) / 2, rtol=1e-2, atol=1e-2
    )


def test_where_both_sides_take_too_much_memory_the_item_side_stands_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train_csr = checkerboard().seen_in_training
    both = closed_form_logits(train_csr, 30, 4, 0, Workers(1))
    monkeypatch.setattr(spectral_init, "_LOGITS_LIMIT", 2 * 40 * 30 - 1)
    alone = closed_form_logits(train_csr, 30, 4, 0, Workers(1))
    assert not torch.allclose(both.centred, alone.centred)
    expected = dense_rows(train_csr, 30, slice(0, 40)) @ spectral_init.start_weights(
        train_csr, 30, Workers(1)
    )
    spectral_init._calibrate(expected, train_csr, 30, 4, 0, Workers(1))
    torch.testing.assert_close(alone.centred + alone.mean, expected, rtol=1e-4, atol=1e-4)


def test_negatives_by_popularity_take_their_likelihood_off_the_logits() -> None:
    """An item that is drawn r times as often as uniformly has logits lower by log r."""
    train_csr = planted().seen_in_training
    plain, adjusted = (
        closed_form_logits(train_csr, 120, 4, 0, Workers(1), exponent) for exponent in (0.0, 0.5)
    )
    drawn = np.sqrt(1.0 + np.bincount(train_csr.columns, minlength=120))
    expected = torch.from_numpy(np.log(drawn * 120 / drawn.sum())).float().expand(300, 120)
    taken_off = (plain.centred + plain.mean) - (adjusted.centred + adjusted.mean)
    torch.testing.assert_close(taken_off, expected, rtol=1e-4, atol=1e-4)
