"""The three architectures against the paper's equations, written out pair by pair."""

import numpy as np
import pytest
import torch

from ncf.models import GMF, MLP, HistoryGMF, NeuMF, parameter_count
from ncf.models.sequences import SequenceModel
from support import KINDS, model_of


def draws(users: int = 20, items: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(3)
    return torch.randint(users, (7,), generator=random), torch.randint(items, (7, 5), generator=random)


def gmf_logit(model: GMF, user: int, item: int) -> float:
    vector = model.users()[user] if isinstance(model, SequenceModel) else model.user_table[user]
    if isinstance(model, HistoryGMF):
        history = model.attached
        used = history.items[history.offsets[user] : history.offsets[user + 1]].tolist()
        for each in used:
            vector = vector + model.history_table[each] / len(used) ** model.exponent
    own = 0.0 if model.item_bias is None else model.item_bias[item]
    return (model.output @ (vector * model.item_table[item]) + own + model.bias).item()


def mlp_logit(model: MLP, user: int, item: int) -> float:
    z = torch.cat([model.user_table[user], model.item_table[item]])
    weight = torch.cat([model.first.user_weight, model.first.item_weight], dim=1)
    hidden = torch.relu(weight @ z + model.first.bias)
    for layer in model.tower.linears():
        hidden = torch.relu(layer.weight @ hidden + layer.bias)
    return (model.output @ hidden + model.bias).item()


def logit(model: torch.nn.Module, user: int, item: int) -> float:
    if isinstance(model, GMF):
        return gmf_logit(model, user, item)
    if isinstance(model, MLP):
        return mlp_logit(model, user, item)
    assert isinstance(model, NeuMF)
    return gmf_logit(model.gmf, user, item) + mlp_logit(model.mlp, user, item)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_have_the_shape_of_the_candidates_and_are_float32(kind: str) -> None:
    users, items = draws()
    logits = model_of(kind)(users, items)
    assert logits.shape == (7, 5)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_papers_equations(kind: str) -> None:
    model, (users, items) = model_of(kind), draws()
    slow = [[logit(model, int(u), int(i)) for i in row] for u, row in zip(users, items, strict=True)]
    np.testing.assert_allclose(model(users, items).detach().numpy(), slow, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_catalogue_is_every_pair(kind: str) -> None:
    model, (users, _) = model_of(kind), draws()
    every = torch.arange(30).expand(len(users), 30)
    torch.testing.assert_close(model.catalogue(users), model(users, every))


@pytest.mark.parametrize("kind", KINDS)
def test_no_users_give_no_logits(kind: str) -> None:
    model, nobody = model_of(kind), torch.zeros(0, dtype=torch.long)
    assert model(nobody, torch.zeros(0, 5, dtype=torch.long)).shape == (0, 5)
    assert model.catalogue(nobody).shape == (0, 30)


@pytest.mark.parametrize("kind", KINDS)
def test_first_values_follow_from_the_seed(kind: str) -> None:
    first, again, other = model_of(kind), model_of(kind), model_of(kind, seed=1)
    users, items = draws()
    assert torch.equal(first(users, items), again(users, items))
    assert not torch.equal(first(users, items), other(users, items))


@pytest.mark.parametrize("kind", KINDS)
def test_item_vectors_have_a_row_an_item(kind: str) -> None:
    vectors = model_of(kind).item_vectors()
    assert vectors.shape[0] == 30
    assert torch.isfinite(vectors).all()


def test_dropout_is_of_training_only() -> None:
    model, (users, items) = model_of("mlp", dropout=0.5), draws()
    assert torch.equal(model.eval()(users, items), model(users, items))
    torch.manual_seed(0)
    assert not torch.equal(model.train()(users, items), model.eval()(users, items))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_fusing_mixes_the_pretrained_logits_by_alpha(alpha: float) -> None:
    gmf, mlp, fused = model_of("gmf", seed=1), model_of("mlp", seed=2), model_of("neumf", seed=3)
    assert isinstance(gmf, GMF)
    assert isinstance(mlp, MLP)
    assert isinstance(fused, NeuMF)
    fused.load_pretrained(gmf, mlp, alpha)
    users, items = draws()
    torch.testing.assert_close(
        fused(users, items), alpha * gmf(users, items) + (1 - alpha) * mlp(users, items)
    )


def test_parameters_are_counted() -> None:
    assert parameter_count(model_of("gmf", 20, 30)) == (20 + 30) * 8 + 8 + 1
