"""EASE against its closed form, the factorisation against a full one, and what the start is worth."""

import numpy as np
import pytest
import torch

from ncf.baselines import ease
from ncf.config import EvaluationConfig
from ncf.evaluation import evaluate_sampled
from ncf.models import ModelScorer, NeuMF, build_model
from ncf.runtime import Workers, generator
from ncf.training import decomposition, spectral_init
from ncf.training.decomposition import Logits, LowRankLogits
from ncf.training.spectral_init import ClosedForm, ignore, init_spectral
from support import checkerboard, dense_rows, experiment, model_of, planted, weighed


def dense(users: int = 300, items: int = 120) -> torch.Tensor:
    return dense_rows(planted().seen_in_training, items, slice(0, users))


def decomposed(logits: Logits, *widths: tuple[int, bool]) -> tuple[list[torch.Tensor], float]:
    tables, mean = logits.decompose(widths, generator(1, "sketch"), Workers(2), ignore)
    return [users @ items.T for users, items in tables], mean


def held(matrix: torch.Tensor) -> Logits:
    """Logits that are at hand, with a guess at random."""

    def guess(size: int, random: torch.Generator) -> torch.Tensor:
        return torch.linalg.qr(torch.randn(matrix.shape[1], size, generator=random)).Q

    return Logits(*matrix.shape, lambda part: matrix[part].clone(), guess)


@pytest.mark.parametrize("kept", [0, 2**26])
def test_the_decomposition_is_the_best_of_its_rank(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decomposition, "_KEPT_PAIRS", kept)
    monkeypatch.setattr(decomposition, "_BLOCK_PAIRS", 90)
    noise = [generator(0, name) for name in "abc"]
    matrix = torch.randn(50, 12, generator=noise[0]) @ torch.randn(12, 40, generator=noise[1]) - 3.0
    matrix += 0.01 * torch.randn(50, 40, generator=noise[2])
    (whole, by_item, narrow), mean = decomposed(held(matrix), (40, False), (40, True), (5, False))
    assert mean == pytest.approx(float(matrix.mean()), abs=1e-5)
    torch.testing.assert_close(whole, matrix - matrix.mean(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(by_item, matrix - matrix.mean(0), rtol=1e-3, atol=1e-3)
    left, values, right = torch.linalg.svd(matrix - matrix.mean(), full_matrices=False)
    best = (left[:, :5] * values[:5]) @ right[:5]
    assert torch.dist(narrow, matrix - matrix.mean()) < 1.01 * torch.dist(best, matrix - matrix.mean())


def test_a_product_of_tables_decomposes_as_its_matrix_does() -> None:
    left, right = (
        torch.randn(30, 6, generator=generator(0, "a")),
        torch.randn(25, 6, generator=generator(0, "b")),
    )
    product = LowRankLogits.of(left, right)
    torch.testing.assert_close(product.rows(slice(3, 9)), (left @ right.T)[3:9])
    for width in ((9, False), (9, True), (3, False)):
        (exact,), mean = decomposed(product, width)
        (expected,), _ = decomposed(held(left @ right.T), width)
        assert mean == pytest.approx(float((left @ right.T).mean()), abs=1e-5)
        torch.testing.assert_close(exact, expected, rtol=1e-3, atol=1e-3)


def test_the_logistic_regression_counts_rows_as_if_they_were_repeated() -> None:
    random = generator(0, "features")
    features, labels = torch.randn(90, 3, generator=random), (torch.rand(90, generator=random) < 0.5).double()
    counts = torch.randint(0, 4, (90,), generator=random)
    repeated = torch.repeat_interleave(torch.arange(90), counts)
    once = torch.ones(len(repeated), dtype=torch.float64)
    assert spectral_init._logistic_regression(features, labels, counts.double()) == pytest.approx(
        spectral_init._logistic_regression(features[repeated], labels[repeated], once), rel=1e-6
    )


def test_logits_tell_positives_from_negatives() -> None:
    logits = ClosedForm(planted().seen_in_training, 120, 4, 0).logits().rows(slice(0, 300))
    used = dense().bool()
    assert logits[used].mean() > logits[~used].mean() + 1.0


def test_gmf_starts_as_good_as_a_trained_model() -> None:
    dataset, rules = planted(), EvaluationConfig(cutoffs=(10,), bootstrap=0)
    model = build_model(experiment("gmf").model, 300, 120, generator(0, "init"))
    before = evaluate_sampled(ModelScorer(model), dataset.test, rules, Workers(1)).means["ndcg@10"]
    init_spectral(model, ClosedForm(dataset.seen_in_training, 120, 4, 0), Workers(1))
    after = evaluate_sampled(ModelScorer(model), dataset.test, rules, Workers(1)).means["ndcg@10"]
    assert after > before + 0.2


def test_a_neumf_starts_as_its_gmf_does() -> None:
    train_csr = planted().seen_in_training
    model = model_of("neumf", 300, 120)
    init_spectral(model, ClosedForm(train_csr, 120, 4, 0), Workers(1))
    assert isinstance(model, NeuMF)
    everyone = torch.arange(300)
    torch.testing.assert_close(model.catalogue(everyone), model.gmf.catalogue(everyone))


@pytest.mark.parametrize("kind", ["gmf", "mlp", "neumf"])
def test_the_start_follows_from_the_seed_and_from_training_only(kind: str) -> None:
    models = [model_of(kind, 40, 30) for _ in range(3)]
    plain = checkerboard()
    for model, seed in zip(models, (0, 0, 1), strict=True):
        init_spectral(model, ClosedForm(plain.seen_in_training, 30, 4, seed), Workers(1))
    first, again, other = (next(model.parameters()) for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_beyond_the_exact_solution_the_start_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, rules = planted(), EvaluationConfig(cutoffs=(10,), bootstrap=0)
    found = []
    for limit in (20_000, 20):
        monkeypatch.setattr(ease, "EXACT_LIMIT", limit)
        model = build_model(experiment("gmf").model, 300, 120, generator(0, "init"))
        init_spectral(model, ClosedForm(dataset.seen_in_training, 120, 4, 0), Workers(1))
        found.append(evaluate_sampled(ModelScorer(model), dataset.test, rules, Workers(1)).means["ndcg@10"])
    assert found[1] > found[0] - 0.05


@pytest.mark.parametrize("weighted", [False, True])
def test_the_start_is_the_mean_of_an_item_side_and_a_user_side(weighted: bool) -> None:
    """Against dense algebra: user-user scores are those of the transposed interactions, transposed back."""
    train_csr = checkerboard().seen_in_training
    train_csr = weighed(train_csr) if weighted else train_csr
    used = dense_rows(train_csr, 30, slice(0, 40))
    sides = []
    for matrix, l2 in ((used, spectral_init._ITEM_L2), (used.T, spectral_init._USER_L2)):
        weigh = (matrix.sum(1) / matrix.sum(1).mean()) ** -0.5
        gram = matrix.T @ (matrix * weigh[:, None])
        gram.diagonal().mul_(1.0 + 0.33 / 0.67).add_(l2)  # the noise is of the squares of what X holds
        inverse = torch.linalg.inv(gram)
        weights = inverse / -inverse.diagonal()
        weights.diagonal().zero_()
        sides.append(matrix @ weights)
    logits = [sides[0].clone(), sides[1].T.contiguous()]
    # As in the docstring: the logistic regression on sampled pairs, with the score, its logarithm and one.
    users, columns, labels, counts = ClosedForm(train_csr, 30, 4, 0).sampled_pairs()
    for scores in logits:
        features = [scores, (scores.clamp(min=0.0) + 0.01).log(), torch.ones_like(scores)]
        sampled = torch.stack([values[users, columns] for values in features], 1)
        weights = spectral_init._logistic_regression(sampled, labels, counts)
        total = sum(weight * values for weight, values in zip(weights, features, strict=True))
        scores.copy_(torch.as_tensor(total).clamp(-9.2, 9.2))
    both = ClosedForm(train_csr, 30, 4, 0).logits().rows(slice(0, 40))
    assert (both.shape, both.dtype) == ((40, 30), torch.float32)
    torch.testing.assert_close(both, (logits[0] + logits[1]) / 2, rtol=1e-2, atol=1e-2)


def test_sampled_pairs_are_labelled_right() -> None:
    train_csr = planted().seen_in_training
    users, items, labels, counts = ClosedForm(weighed(train_csr), 120, 4, 0).sampled_pairs()
    np.testing.assert_allclose(counts[labels == 1.0], weighed(train_csr).values)
    # Each of its four negatives weighs as a positive does; few are drawn that are positives.
    assert counts[labels == 0.0].sum() == pytest.approx(4 * len(train_csr.columns) * 102 / 120, rel=0.02)
    assert np.array_equal(train_csr.contains(users.numpy(), items.numpy()), labels.numpy() == 1.0)
    assert labels.sum() == len(train_csr.columns)


def test_negatives_by_popularity_take_their_likelihood_off_the_logits() -> None:
    """An item that is drawn r times as often as uniformly has logits lower by log r."""
    train_csr = planted().seen_in_training
    plain, adjusted = (
        ClosedForm(train_csr, 120, 4, 0, exponent).logits().rows(slice(0, 300)) for exponent in (0.0, 0.5)
    )
    drawn = np.sqrt(1.0 + np.bincount(train_csr.columns, minlength=120))
    expected = torch.from_numpy(np.log(drawn * 120 / drawn.sum())).float().expand(300, 120)
    torch.testing.assert_close(plain - adjusted, expected, rtol=1e-4, atol=1e-4)
