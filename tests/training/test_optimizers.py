"""The lazy Adam against torch's, the choice of what is lazy, and the schedule."""

import pytest
import torch

from ncf.config import TrainConfig
from ncf.runtime import Workers
from ncf.training import optimizers
from ncf.training.kernels.batch import RowGradient
from ncf.training.optimizers import LazyAdam, Optimizer, lazy_tables, learning_rate, tables
from support import experiment, model_of


def table(rows: int = 6, width: int = 3) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(rows, width, generator=torch.Generator().manual_seed(0)))


def test_lazy_adam_with_every_row_is_adam() -> None:
    ours, theirs = table(), table()
    lazy, adam = LazyAdam(ours), torch.optim.Adam([theirs], lr=0.1)
    for step in range(5):
        gradient = torch.randn(6, 3, generator=torch.Generator().manual_seed(step))
        lazy.step(torch.arange(6), gradient, 0.1)
        theirs.grad = gradient
        adam.step()
    torch.testing.assert_close(ours, theirs)


def test_lazy_adam_leaves_other_rows_and_treats_a_late_row_like_an_early_one() -> None:
    ours = table()
    start = ours.detach().clone()
    lazy, gradient = LazyAdam(ours), torch.ones(1, 3)
    for _ in range(50):
        lazy.step(torch.tensor([0]), gradient, 0.1)
    lazy.step(torch.tensor([4]), gradient, 0.1)
    untouched = [1, 2, 3, 5]
    assert torch.equal(ours[untouched], start[untouched])
    torch.testing.assert_close(start[4] - ours[4], torch.full((3,), 0.1))


def test_large_tables_are_lazy_by_choice_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("neumf", users=100, items=10)
    assert lazy_tables(model, "dense", 10, 50) == set()
    assert lazy_tables(model, "lazy", 10, 50) == set(tables(model))
    assert lazy_tables(model, "auto", 10, 50) == set()
    monkeypatch.setattr(optimizers, "_LAZY_FROM_BYTES", 100 * 8 * 4)
    assert lazy_tables(model, "auto", 10, 50) == {"gmf.user_table", "mlp.user_table"}
    assert lazy_tables(model, "auto", 100, 50) == set()


@pytest.mark.parametrize("lazy", [set(), {"user_table"}])
def test_state_restores_to_the_same_next_step(lazy: set[str]) -> None:
    config = TrainConfig()

    def gradients(model: torch.nn.Module, seed: int) -> dict[torch.Tensor, RowGradient]:
        random = torch.Generator().manual_seed(seed)
        return {p: RowGradient(None, torch.randn(p.shape, generator=random)) for p in model.parameters()}

    first = model_of("gmf")
    optimizer = Optimizer(first, config, lazy)
    optimizer.step(gradients(first, 0), 0.1, Workers(1))
    saved = {name: value.clone() for name, value in optimizer.state().items()}
    second = model_of("gmf")
    second.load_state_dict(first.state_dict())
    restored = Optimizer(second, config, lazy)
    restored.load_state(saved)
    optimizer.step(gradients(first, 1), 0.1, Workers(1))
    restored.step(gradients(second, 1), 0.1, Workers(1))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_schedule_warms_up_and_ends_near_zero() -> None:
    config = experiment().train.model_copy(update={"learning_rate": 1.0, "warmup": 0.1})
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001
    constant = config.model_copy(update={"schedule": "constant"})
    assert learning_rate(constant, 99, 100) == 1.0
