"""A step as a GPU takes it, recorded or not, against the CPU's trainer. The CPU plays the device."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from devices import Replayed, Waits
from ncf.config import TrainConfig
from ncf.models import build_model
from ncf.runtime import Workers, generator
from ncf.training import Trainer
from ncf.training.checkpoint import Checkpoint
from ncf.training.gpu.graphs import Recorder
from ncf.training.gpu.optimizer import DeviceLazyAdam, DeviceOptimizer
from ncf.training.gpu.step import DeviceRows, GpuRunner
from ncf.training.kernels.batch import Gradients, RowGradient, Rows
from ncf.training.optimizers import LazyAdam, Optimizer
from ncf.training.parallel.communicator import Collective, Communicator, SingleProcess
from support import experiment, model_of, planted

DRAWS = st.lists(st.integers(0, 11), min_size=1, max_size=30)
RECORDERS = pytest.mark.parametrize("recorder", [None, Replayed], ids=["as it is", "recorded"])


@given(draws=DRAWS)
def test_padded_rows_mean_what_was_drawn(draws: list[int]) -> None:
    drawn = torch.tensor(draws)
    rows, used = DeviceRows.used(drawn), Rows.used(drawn)
    assert rows.rows is not None
    assert used.rows is not None
    assert (rows.rows.shape, rows.rows.dtype, rows.count) == (drawn.shape, torch.int64, len(draws))
    assert torch.equal(rows.rows[rows.index], drawn)
    assert torch.equal(rows.rows[: used.count], used.rows)
    assert torch.equal(rows.times_drawn[: used.count], used.times_drawn)
    assert rows.times_drawn[used.count :].sum() == 0


@given(draws=DRAWS, seed=st.integers(0, 9))
def test_padding_moves_nothing(draws: list[int], seed: int) -> None:
    first = torch.randn(12, 3, generator=generator(seed, "table"))
    ours, theirs = torch.nn.Parameter(first.clone()), torch.nn.Parameter(first.clone())
    padded, lazy = DeviceLazyAdam(ours), LazyAdam(theirs)
    for step in range(4):
        drawn = torch.tensor(draws[step:] + draws[:step][: step + 1])
        rows, used = DeviceRows.used(drawn), Rows.used(drawn)
        assert rows.rows is not None
        assert used.rows is not None
        values = torch.randn(len(drawn), 3, generator=generator(seed, "gradient", step))
        gradient = torch.zeros(rows.count, 3).index_add_(0, rows.index, values)
        padded.move(rows.rows, gradient, torch.tensor(0.1))
        lazy.step(used.rows, gradient[: used.count], 0.1)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    for name, value in padded.state().items():
        torch.testing.assert_close(value, lazy.state()[name])


@pytest.mark.parametrize("lazy", [set(), {"user_table"}])
def test_the_optimiser_moves_as_the_cpus_does_and_takes_its_state(lazy: set[str]) -> None:
    config = TrainConfig(weight_decay=0.1)

    def gradients(model: torch.nn.Module, seed: int) -> Gradients:
        random = torch.Generator().manual_seed(seed)
        return {p: RowGradient(None, torch.randn(p.shape, generator=random)) for p in model.parameters()}

    models = [model_of("mlp"), model_of("mlp")]
    theirs, ours = Optimizer(models[0], config, lazy), DeviceOptimizer(models[1], config, lazy)
    ours.set_rate(0.1)
    for seed in range(3):
        theirs.step(gradients(models[0], seed), 0.1, Workers(1))
        ours.move(gradients(models[1], seed))
    close(*models)
    assert ours.state().keys() == theirs.state().keys()
    for name, value in theirs.state().items():
        torch.testing.assert_close(ours.state()[name], value)
    moved = DeviceOptimizer(models[1], config, lazy)
    moved.load_state(theirs.state())
    moved.set_rate(0.1)
    moved.move(gradients(models[1], 7))
    theirs.step(gradients(models[0], 7), 0.1, Workers(1))
    close(*models)


def test_a_state_from_before_the_first_step_is_zero() -> None:
    optimizer = DeviceOptimizer(model_of("gmf"), TrainConfig(), set())
    optimizer.state()["bias.step"].fill_(3.0)
    optimizer.load_state({})
    assert all(not value.any() for value in optimizer.state().values())


def close(first: torch.nn.Module, second: torch.nn.Module) -> None:
    for (name, ours), theirs in zip(first.named_parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(
            ours, theirs, atol=1e-5, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )


def trainer_of(
    kind: str,
    device: bool,
    recorder: Recorder | None,
    communicator: Communicator = SingleProcess(),  # noqa: B008 - it has no state
    **settings: Any,
) -> Trainer:
    """On the made-up data; with `device` the trainer takes a GPU's way, on the CPU."""
    settings = {
        "batch_size": 700,
        "epochs": 2,
        "l2_gmf": 0.01,
        "l2_mlp": 0.02,
        "weight_decay": 0.01,
    } | settings
    dropout = settings.pop("dropout", 0.0)
    recipe = experiment(kind, **settings)
    sizes = recipe.model.model_copy(update={"dropout": dropout})
    model = build_model(sizes, 300, 120, generator(3, "init"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncf.training.step_runner._has_graphs", lambda _: device)
        patch.setattr("ncf.training.step_runner.recorder_of", lambda _: recorder)
        return Trainer(planted(), model, recipe.train, Workers(1), communicator)


@RECORDERS
@pytest.mark.parametrize("kind", ["gmf", "mlp", "neumf"])
@pytest.mark.parametrize("optimizer", ["dense", "lazy"])
def test_an_epoch_is_the_cpus(kind: str, optimizer: str, recorder: Recorder | None) -> None:
    theirs = trainer_of(kind, False, None, optimizer=optimizer)
    ours = trainer_of(kind, True, recorder, optimizer=optimizer)
    assert isinstance(ours.runner, GpuRunner)
    for _ in range(2):
        expected, result = theirs.train_epoch(), ours.train_epoch()
        assert expected is not None
        assert result is not None
        assert result.loss == pytest.approx(expected.loss, rel=1e-5)
        assert result.samples == expected.samples
    close(ours.model, theirs.model)


@RECORDERS
@pytest.mark.parametrize(
    "changes", [{"averaging": 0.9}, {"loss": "bpr"}, {"loss": "softmax"}, {"dropout": 0.3}]
)
def test_an_epoch_is_the_cpus_with(changes: dict[str, Any], recorder: Recorder | None) -> None:
    theirs, ours = (
        trainer_of("neumf", False, None, parts=1, **changes),
        trainer_of("neumf", True, recorder, **changes),
    )
    for trainer in (theirs, ours):
        trainer.train_epoch()
    close(ours.evaluated_model, theirs.evaluated_model)


def test_bfloat16_stays_near() -> None:
    exact, rough = trainer_of("mlp", True, None), trainer_of("mlp", True, None, precision="bfloat16")
    losses = [trainer.train_epoch() for trainer in (exact, rough)]
    assert all(loss is not None for loss in losses)
    assert losses[0].loss == pytest.approx(losses[1].loss, rel=0.01)  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["gmf", "neumf"])
@pytest.mark.parametrize("optimizer", ["dense", "lazy"])
def test_nothing_in_a_step_waits_for_the_device(kind: str, optimizer: str) -> None:
    trainer = trainer_of(kind, True, None, optimizer=optimizer)
    steps, waits = list(trainer.sampler.epoch(0, Workers(1))), Waits()
    with waits:
        for step in steps[:2]:
            trainer._step(step, lambda: False)
    assert not waits.counts
    with waits:  # the CPU asks how many rows are in use, and the watch sees it
        trainer_of(kind, False, None, optimizer="lazy")._step(steps[0], lambda: False)
    assert waits.counts["_unique2"]


def test_an_epoch_is_recorded_once_for_each_size_of_step() -> None:
    trainer, before = trainer_of("gmf", True, Replayed), Replayed.made
    trainer.train_epoch()
    sizes = {len(step.users) for step in trainer.sampler.epoch(0, Workers(1))}
    assert Replayed.made - before == len(sizes)
    trainer.train_epoch()
    assert Replayed.made - before == len(sizes)


@RECORDERS
@pytest.mark.parametrize("optimizer", ["dense", "lazy"])
def test_a_restored_run_goes_on_as_if_nothing_had_been(optimizer: str, recorder: Recorder | None) -> None:
    whole, first = (trainer_of("neumf", True, recorder, optimizer=optimizer) for _ in range(2))
    whole.train_epoch()
    first.train_epoch(stop=lambda: first.position.step == 4)
    assert first.position.step == 5
    saved = {name: value.clone() for name, value in first.tensors().items()}
    second = trainer_of("neumf", True, recorder, optimizer=optimizer)
    second.train_epoch()
    second.restore(Checkpoint(saved, {"position": asdict(first.position)}))
    second.train_epoch()
    close(second.model, whole.model)


class Threads(Collective):
    """Processes played by threads: each waits for what the others have to add."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, table: list[Any]) -> None:
        self.rank, self.size, self._barrier, self._table = rank, size, barrier, table

    def _gather(self, rows: torch.Tensor) -> list[torch.Tensor]:
        self._table[self.rank] = rows.clone()
        self._barrier.wait()
        gathered = list(self._table)
        self._barrier.wait()
        return gathered

    def _sum(self, flat: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._gather(flat)).sum(0)

    def phase(self, words: str) -> None:
        """Nobody asks."""


@RECORDERS
@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (2, {"optimizer": "dense"}),
        (2, {"optimizer": "lazy"}),
        (3, {"optimizer": "dense", "batch_size": 2, "epochs": 1, "part": 15}),
    ],
)
def test_processes_train_together_what_one_trains(
    size: int, settings: dict[str, Any], recorder: Recorder | None
) -> None:
    settings = dict(settings)
    last = settings.pop("part", None)
    barrier, table = threading.Barrier(size, timeout=60), [None] * size
    one = trainer_of("neumf", False, None, **settings)
    many = [
        trainer_of("neumf", True, recorder, Threads(rank, size, barrier, table), **settings)  # type: ignore[abstract]
        for rank in range(size)
    ]

    def epoch(trainer: Trainer) -> float:
        trainer.train_epoch(stop=lambda: trainer.position.step + 1 == last)
        return trainer.position.loss

    with ThreadPoolExecutor(size) as pool:
        losses = list(pool.map(epoch, many))
    expected = epoch(one)
    assert losses == pytest.approx([expected] * size, rel=1e-5)
    assert {trainer.position.step for trainer in many} == {one.position.step}
    for trainer in many:
        close(trainer.model, one.model)
