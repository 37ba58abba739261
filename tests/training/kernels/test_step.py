"""The written-out step equals autograd on the same objective, in every arrangement."""

import pytest
import torch
from torch import Tensor

from ncf.models import GMF, Model, branches
from ncf.runtime import Workers, generator
from ncf.training.kernels.batch import Batch, Gradients, Rows
from ncf.training.kernels.branch import Objective
from ncf.training.kernels.step import loss_and_gradients
from ncf.training.losses import LOSSES
from support import model_of

KINDS = ["gmf", "mlp", "neumf"]
USERS, ITEMS = 20, 30


def batch(lazy: bool, groups: int = 23) -> tuple[Batch, Tensor, Tensor]:
    random = generator(5, "batch")
    users = torch.randint(USERS, (groups,), generator=random)
    items = torch.randint(ITEMS, (groups, 5), generator=random)
    if lazy:
        return Batch(Rows.used(users), Rows.used(items)), users, items
    return Batch(Rows.whole(users, USERS), Rows.whole(items, ITEMS)), users, items


def by_autograd(model: Model, users: Tensor, items: Tensor, objective: Objective) -> dict[str, Tensor]:
    logits = model(users, items)
    labels = torch.zeros_like(logits)
    labels[:, 0] = 1.0
    if objective.loss.name == "bce":
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    elif objective.loss.name == "bpr":
        loss = -torch.nn.functional.logsigmoid(logits[:, :1] - logits[:, 1:]).mean()
    else:
        loss = torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
    for branch in branches(model):
        strength = objective.l2_gmf if isinstance(branch, GMF) else objective.l2_mlp
        of_users = branch.user_table[users].pow(2).sum(1).mean()
        loss = loss + strength * (of_users + branch.item_table[items].pow(2).sum(2).mean())
    model.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def dense(model: Model, gradients: Gradients) -> dict[str, Tensor]:
    by_name = {}
    for name, parameter in model.named_parameters():
        gradient = gradients[parameter]
        whole = torch.zeros_like(parameter)
        whole[slice(None) if gradient.rows is None else gradient.rows] = gradient.values
        by_name[name] = whole.detach()
    return by_name


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_has_a_gradient_of_its_shape(kind: str) -> None:
    model = model_of(kind)
    loss, gradients = loss_and_gradients(model, batch(lazy=False)[0], Objective(LOSSES["bce"]), Workers(1))
    assert loss.shape == ()
    assert len(gradients) == len(list(model.parameters()))
    for parameter in model.parameters():
        assert gradients[parameter].values.shape == parameter.shape
        assert gradients[parameter].values.dtype == torch.float32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(("threads", "chunk"), [(1, 512), (1, 4), (3, 5)])
@pytest.mark.parametrize("groups", [13, 23], ids=["fewer groups than users", "more"])
def test_gradients_equal_autograd(
    kind: str, loss: str, lazy: bool, threads: int, chunk: int, groups: int
) -> None:
    model = model_of(kind)
    some, users, items = batch(lazy, groups)
    objective = Objective(LOSSES[loss], l2_gmf=0.02, l2_mlp=0.01, chunk=chunk)
    workers = Workers(threads)
    _, gradients = loss_and_gradients(model, some, objective, workers)
    workers.close()
    expected = by_autograd(model, users, items, objective)
    for name, gradient in dense(model, gradients).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_the_sum_over_the_batch(kind: str) -> None:
    model, (some, users, items) = model_of(kind), batch(lazy=False)
    loss, _ = loss_and_gradients(model, some, Objective(LOSSES["bce"], chunk=4), Workers(1))
    expected, _ = LOSSES["bce"].sum_and_gradient(model(users, items).detach())
    torch.testing.assert_close(loss, expected)


def test_bfloat16_is_near_float32() -> None:
    model, some = model_of("mlp"), batch(lazy=False, groups=200)[0]
    exact = dense(model, loss_and_gradients(model, some, Objective(LOSSES["bce"]), Workers(1))[1])
    rough = Objective(LOSSES["bce"], precision=torch.bfloat16)
    for name, gradient in dense(model, loss_and_gradients(model, some, rough, Workers(1))[1]).items():
        cosine = torch.nn.functional.cosine_similarity(gradient.ravel(), exact[name].ravel(), dim=0)
        assert cosine > 0.995, name


def test_results_do_not_depend_on_which_thread_is_faster() -> None:
    model, some = model_of("neumf"), batch(lazy=False, groups=300)[0]
    workers = Workers(3)
    objective = Objective(LOSSES["bce"], chunk=16)
    runs = [dense(model, loss_and_gradients(model, some, objective, workers)[1]) for _ in range(5)]
    workers.close()
    assert all(torch.equal(run[name], runs[0][name]) for run in runs for name in run)


def test_dropout_repeats_with_its_generator_and_only_then() -> None:
    model, some = model_of("mlp", dropout=0.3), batch(lazy=False, groups=400)[0]
    objective = Objective(LOSSES["bce"])

    def gradient(seed: int) -> Tensor:
        gradients = loss_and_gradients(model, some, objective, Workers(1), [generator(seed, "dropout")])[1]
        return dense(model, gradients)["tower.layers.0.weight"]

    assert torch.equal(gradient(1), gradient(1))
    assert not torch.equal(gradient(1), gradient(2))


def test_dropout_gradient_is_the_derivative_of_the_dropped_loss() -> None:
    """By finite differences, with the same masks on both sides."""
    model, some = model_of("mlp", dropout=0.4), batch(lazy=False, groups=40)[0]
    objective, weight = Objective(LOSSES["bce"]), model.tower.layers[0].weight  # type: ignore[union-attr]

    def loss() -> float:
        total = loss_and_gradients(model, some, objective, Workers(1), [generator(9, "dropout")])[0]
        return float(total) / 200

    gradients = loss_and_gradients(model, some, objective, Workers(1), [generator(9, "dropout")])[1]
    direction = torch.randn(weight.shape, generator=generator(0, "direction"))
    with torch.no_grad():
        step = 2e-4
        weight.add_(direction, alpha=step)
        above = loss()
        weight.add_(direction, alpha=-2 * step)
        below = loss()
    expected = (above - below) / (2 * step)
    assert float((gradients[weight].values * direction).sum()) == pytest.approx(expected, rel=0.05)
