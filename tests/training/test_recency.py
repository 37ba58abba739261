"""Training with a half-life: gradients, parts, a stop, refusals, and that it finds what an order tells."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fits import run, same
from histories import KINDS, check_gradients, half_of
from ncf import experiment
from ncf.config import Experiment
from ncf.data import Dataset, Interactions
from ncf.errors import ConfigError
from ncf.models import Model, history_of
from ncf.runtime import Workers, generator
from ncf.training.kernels.batch import Batch, Rows
from ncf.training.kernels.branch import Objective, StepParts
from ncf.training.kernels.recency import RecentTable
from ncf.training.kernels.step import loss_and_gradients
from ncf.training.losses import LOSSES
from support import dataset_of, model_of, planted
from support import experiment as small_experiment


def with_times(dataset: Dataset, seed: int = 0) -> Dataset:
    """The data set with made-up times, some of them equal."""
    times = np.random.default_rng(seed).integers(0, 200, len(dataset.train))
    train = Interactions(dataset.train.user_rows, dataset.train.item_rows, times)
    return replace(dataset, train=train, digest="")


def settings(kind: str, half_life: float = 3.0, **train: Any) -> Experiment:
    recipe = small_experiment(kind, **{"epochs": 3, "batch_size": 64} | train)
    model = recipe.model.model_copy(update={"history_half_life": half_life})
    return recipe.model_copy(update={"model": model})


def recent(kind: str) -> tuple[Model, Batch, torch.Tensor, torch.Tensor]:
    """A small model that looks at four items before a positive, and groups for it."""
    dataset = with_times(planted(50, 60))
    model = model_of(kind, 50, 60, history_half_life=0.5)
    half_of(model).attach(history_of(dataset, 0.5))
    random = generator(5, "batch")
    chosen = torch.randint(len(dataset.train), (23,), generator=random).numpy()
    users = torch.from_numpy(dataset.train.user_rows[chosen].astype(np.int64))
    items = torch.randint(60, (23, 5), generator=random)
    items[:, 0] = torch.from_numpy(dataset.train.item_rows[chosen].astype(np.int64))
    return model, Batch(Rows.whole(users, 50), Rows.whole(items, 60)), users, items


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("threads", "chunk"), [(1, 512), (1, 4), (3, 5)])
def test_gradients_equal_autograd(kind: str, threads: int, chunk: int) -> None:
    model, batch, users, items = recent(kind)
    objective = Objective(LOSSES["bce"], l2_gmf=0.02, l2_mlp=0.01, chunk=chunk)
    workers = Workers(threads)
    gradients = RecentTable(half_of(model), 0.03).gather(
        loss_and_gradients(model, batch, objective, workers)[1]
    )
    workers.close()
    check_gradients(gradients, model, users, items, objective, 0.03)


def test_parts_give_the_same_to_the_bit_for_any_number_of_threads() -> None:
    runs = []
    for threads in (1, 4):
        model, batch, _, _ = recent("history-gmf")
        workers, parts = (
            Workers(threads),
            StepParts([slice(0, 6), slice(6, 11), slice(11, 17), slice(17, 23)], 4),
        )
        gradients = loss_and_gradients(model, batch, Objective(LOSSES["bce"]), workers, None, parts)[1]
        runs.append([gradients[parameter].values for parameter in model.parameters()])
        workers.close()
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop_at", [40, 41, 100])
def test_a_stopped_run_resumes_to_the_same_bits(kind: str, stop_at: int, tmp_path: Path) -> None:
    recipe, dataset = settings(kind), with_times(planted())
    whole, _, _ = run(recipe, dataset)
    run(recipe, dataset, tmp_path, stop_at=stop_at)
    assert same(run(recipe, dataset, tmp_path, resume=True)[0], whole)


def test_it_finds_that_each_item_follows_another(tmp_path: Path) -> None:
    """Users go round a circle of items, each from its own start, and the next item is held out."""
    random = np.random.default_rng(0)
    train, test, times = [], [], {}
    for user, start in enumerate(random.integers(0, 60, 400).tolist()):
        walk = [(start + step) % 60 for step in range(9)]
        train += [(user, item) for item in walk[:-1]]
        times |= {(user, item): time for time, item in enumerate(walk)}
        others = random.choice([item for item in range(60) if item not in walk], 30, replace=False)
        test.append((user, [walk[-1], *others.tolist()]))
    dataset = dataset_of(train, 400, 60, test)
    pairs = zip(dataset.train.user_rows.tolist(), dataset.train.item_rows.tolist(), strict=True)
    dated = replace(dataset.train, timestamps=np.array([times[pair] for pair in pairs], np.int64))
    dataset, hits = replace(dataset, train=dated, digest=""), {}
    for half_life in (0.0, 1.0):
        recipe = settings("history-gmf", half_life, epochs=15, l2_history=0.0)
        metrics = experiment.train(
            dataset, recipe, tmp_path / str(half_life), options=experiment.RunOptions(serves=False)
        ).metrics
        hits[half_life] = metrics["test"]["metrics"]["hr@1"]
    assert hits[1.0] > hits[0.0] + 0.1


def test_data_without_times_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="history_half_life = 3 needs the times"):
        experiment.train(planted(), settings("history-gmf"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_dropout_of_shared_sums_is_refused() -> None:
    with pytest.raises(ConfigError, match="history_dropout needs equal weights in the history"):
        Experiment.parse({"model": {"history_half_life": 3, "history_dropout": 0.1}})
