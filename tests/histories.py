"""History-aware models in tests: groups as training draws them, and gradients that equal autograd's."""

import torch
from torch import Tensor

from ncf.models import GMF, HistoryGMF, Model, NeuMF, branches, history_branch
from ncf.runtime import generator
from ncf.training.kernels.batch import Batch, Gradients, Rows
from ncf.training.kernels.branch import Objective

USERS, ITEMS = 20, 30
KINDS = ["history-gmf", "history-neumf"]


def half_of(model: Model) -> HistoryGMF:
    half = history_branch(model)
    assert half is not None
    return half


def groups(model: Model, count: int = 23) -> tuple[Batch, Tensor, Tensor]:
    """Groups whose positive is in the user's history, as in training."""
    history, random = half_of(model).attached, generator(5, "batch")
    places = torch.randint(len(history.items), (count,), generator=random)
    users = torch.searchsorted(history.offsets, places, right=True) - 1
    items = torch.randint(ITEMS, (count, 5), generator=random)
    items[:, 0] = history.items[places]
    return Batch(Rows.whole(users, USERS), Rows.whole(items, ITEMS)), users, items


def logits(model: Model, users: Tensor, items: Tensor) -> Tensor:
    gmf_logits = half_of(model).without_positive(users, items)
    return gmf_logits + model.mlp(users, items) if isinstance(model, NeuMF) else gmf_logits


def by_autograd(
    model: Model, users: Tensor, items: Tensor, objective: Objective, l2: float
) -> dict[str, Tensor]:
    half = half_of(model)
    predicted = logits(model, users, items)
    labels = torch.zeros_like(predicted)
    labels[:, 0] = 1.0
    loss = torch.nn.functional.binary_cross_entropy_with_logits(predicted, labels)
    for each in branches(model):
        strength = objective.l2_gmf if isinstance(each, GMF) else objective.l2_mlp
        loss = loss + strength * each.user_table[users].pow(2).sum(1).mean()
        loss = loss + strength * each.item_table[items].pow(2).sum(2).mean()
    assert half.item_bias is not None
    loss = loss + objective.l2_gmf * half.item_bias[items].pow(2).mean()
    loss = loss + l2 * half.history_table[half.attached.items].pow(2).sum(1).mean()
    model.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def check_gradients(
    gradients: Gradients, model: Model, users: Tensor, items: Tensor, objective: Objective, l2: float
) -> None:
    """Every parameter has a gradient of its shape in float32, and it is the one that autograd finds."""
    expected = by_autograd(model, users, items, objective, l2)
    assert set(expected) == {name for name, _ in model.named_parameters()}
    for name, parameter in model.named_parameters():
        values = gradients[parameter].values
        assert values.shape == parameter.shape
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, expected[name], rtol=1e-4, atol=1e-6, msg=name)
