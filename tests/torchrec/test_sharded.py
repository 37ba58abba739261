"""Tables over several processes with TorchRec: any number of them makes what one makes, and what plain
Adagrad makes.

The processes run in the environment of scripts/install-torchrec, whose folder NCF_TEST_TORCHREC names; what
they write is read here, where TorchRec is not.
"""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from ncf.config import Experiment
from ncf.models import GMF, Model, branches, build_model
from ncf.runtime import generator, workers
from ncf.serving.artifact import open_artifact
from ncf.serving.recommender import Recommender
from ncf.training.kernels.batch import Batch, Rows
from ncf.training.kernels.branch import Objective
from ncf.training.kernels.step import loss_and_gradients
from ncf.training.losses import LOSSES
from ncf.training.optimizers import Optimizer, learning_rate, tables
from ncf.training.parallel.sharding import rate_factor
from ncf.training.sampling import GroupSampler
from support import planted

pytestmark = [pytest.mark.torchrec, pytest.mark.xdist_group("torchrec")]

HERE = Path(__file__).parent
BASE = [
    "model.kind=neumf",
    "model.factors=4",
    "model.embedding=6",
    "model.tower=[6,3]",
    "train.epochs=1",
    "train.batch_size=700",
    "train.threads=1",
    "train.precision=float32",
    "train.device=cpu",
    "train.tables=sharded",
    "evaluation.bootstrap=0",
]
USERS, ITEMS = 301, 121


def run(size: int, output: Path, *more: str, **settings: Any) -> list[str]:
    """Start `size` processes, wait for all; what each printed."""
    output.mkdir(exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = json.dumps({"overrides": [*BASE, *more], "users": USERS, "items": ITEMS, **settings})
    python = str(Path(os.environ["NCF_TEST_TORCHREC"]) / "bin" / "python")
    started = [
        subprocess.Popen(
            [python, str(HERE / "one_of_shards.py"), str(rank), str(size), str(port), words, str(output)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": f"{HERE.parents[1] / 'src'}:{HERE.parent}"},
        )
        for rank in range(size)
    ]  # fmt: skip
    ended = [(process, *process.communicate()) for process in started]
    for process, _, errors in ended:
        assert process.returncode == 0, errors
    return [printed.strip() for _, printed, _ in ended]


def weights(output: Path) -> dict[str, np.ndarray]:
    return load_file(output / "run" / "artifact" / "model.safetensors")


def close(first: dict[str, np.ndarray], other: dict[str, np.ndarray], tolerance: float = 1e-5) -> None:
    assert first.keys() == other.keys()
    for name, value in first.items():
        np.testing.assert_allclose(other[name], value, rtol=0, atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process, one epoch."""
    output = tmp_path_factory.mktemp("alone")
    run(1, output)
    return output


@pytest.mark.parametrize("size", [2, 3])
def test_several_processes_make_what_one_makes(alone: Path, tmp_path: Path, size: int) -> None:
    run(size, tmp_path)
    close(weights(alone), weights(tmp_path))
    one, several = (
        json.loads((path / "run" / "artifact" / "metrics.json").read_text()) for path in (alone, tmp_path)
    )
    assert several["test"]["rows"] == one["test"]["rows"] == USERS
    assert several["test"]["metrics"] == pytest.approx(one["test"]["metrics"], abs=0.02)
    assert several["history"][0]["loss"] == pytest.approx(one["history"][0]["loss"], rel=1e-5)


def test_it_is_row_wise_adagrad_on_the_tables_and_adamw_on_the_layers(alone: Path, tmp_path: Path) -> None:
    run(1, tmp_path, what="start")
    recipe = Experiment.parse({}, BASE)
    config = recipe.train
    model = build_model(recipe.model, USERS, ITEMS)
    started = load_file(tmp_path / "start.safetensors")
    model.load_state_dict({name: torch.from_numpy(value) for name, value in started.items()})
    hollow = build_model(recipe.model, 0, 0, generator(config.seed, "init"))
    layers = {n: v for n, v in hollow.state_dict().items() if not n.endswith("_table")}
    model.load_state_dict(layers, strict=False)
    train_plainly(model, recipe)
    trained = {name: value.numpy() for name, value in model.state_dict().items()}
    close(trained, weights(alone))


def train_plainly(model: Model, recipe: Experiment) -> None:
    """One epoch over whole tables, a row's sum of squares over all branches of its side."""
    config = recipe.train
    data = planted(USERS, ITEMS)
    sampler = GroupSampler(data, batch_size=config.batch_size, negatives=config.negatives, seed=config.seed)
    objective = Objective(LOSSES[config.loss], config.l2_gmf, config.l2_mlp)
    adamw = Optimizer(model, config, set(), tables(model))
    sides = [
        [branch.user_table for branch in branches(model)],
        [branch.item_table for branch in branches(model)],
    ]
    factor = rate_factor(config, len(data.train), USERS)
    sums = [torch.zeros(len(side[0])) for side in sides]
    with workers(1) as pool:
        for step in sampler.epoch(0, pool):
            batch = Batch(Rows.whole(step.users, USERS), Rows.whole(step.items, ITEMS))
            _, gradients = loss_and_gradients(model, batch, objective, pool)
            rate = learning_rate(config, step.number, sampler.steps)
            for side, total in zip(sides, sums, strict=True):
                width = -(-sum(table.shape[1] for table in side) // 4) * 4
                total += sum(gradients[table].values.square().sum(1) for table in side) / width
                for table in side:
                    change = gradients[table].values / (total.sqrt() + 1e-12)[:, None]
                    table.data.sub_(change, alpha=rate * factor)
            adamw.step(gradients, rate, pool)


@pytest.mark.parametrize("users", [4, 301])
def test_first_values_do_not_depend_on_the_number_of_processes(tmp_path: Path, users: int) -> None:
    """Nor does it matter that some processes hold no row."""
    starts = []
    for size in (1, 3):
        run(size, tmp_path / str(size), what="start", users=users, items=1)
        starts.append(load_file(tmp_path / str(size) / "start.safetensors"))
    close(*starts, tolerance=0)
    gmf = starts[0]["gmf.user_table"]
    assert (gmf.shape, gmf.dtype) == ((users, 4), np.float32)
    assert len(np.unique(gmf)) == gmf.size
    if users > 100:
        assert abs(gmf.std() - 0.1) < 0.01
        assert abs(starts[0]["mlp.user_table"].std() - 0.01) < 0.001


def test_the_artifact_opens_and_serves_without_torchrec(alone: Path) -> None:
    artifact = open_artifact(alone / "run")
    assert {name: value.shape for name, value in artifact.weights.items()} == {
        name: tuple(value.shape)
        for name, value in build_model(artifact.experiment.model, USERS, ITEMS).state_dict().items()
    }
    assert isinstance(artifact.model.gmf, GMF)
    assert Recommender.open(alone / "run") is not None


@pytest.mark.parametrize(("first", "then"), [(2, 3), (3, 1)])
def test_another_number_of_processes_goes_on_from_the_checkpoint(
    tmp_path: Path, first: int, then: int
) -> None:
    """In the third epoch; the rows of the best so far are in the checkpoint too."""
    longer = ["train.epochs=3", "train.patience=3", "train.schedule=constant", "train.init=spectral"]
    longer.append("train.learning_rate=0.1")
    run(1, tmp_path / "whole", *longer)
    assert run(first, tmp_path / "parts", *longer, stopper=first - 1, steps=19) == ["stopped"] * first
    checkpoints = tmp_path / "parts" / "run" / "checkpoints"
    names = {path.name for path in checkpoints.glob("epoch-*")}
    assert {path.name for path in checkpoints.glob("tables/*")} == names
    assert len(list(next(checkpoints.glob("tables/*")).glob("shard-*"))) == first
    run(then, tmp_path / "parts", *longer)
    selected = [
        json.loads((tmp_path / name / "run" / "artifact" / "metrics.json").read_text())["selected"]
        for name in ("whole", "parts")
    ]
    assert selected[0] == selected[1]
    close(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_tables_that_were_changed_are_refused(tmp_path: Path) -> None:
    longer = ["train.epochs=2"]
    run(1, tmp_path, *longer, stopper=0, steps=11)
    newest = sorted((tmp_path / "run" / "checkpoints" / "tables").glob("*"))[-1]
    shard = next(newest.glob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    [message] = run(1, tmp_path, *longer)
    assert "is missing or changed" in message
    assert shard.name in message
    shutil.rmtree(newest)
    [message] = run(1, tmp_path, *longer)
    assert "is missing or changed" in message


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    run(2, tmp_path, "train.epochs=6", "train.patience=1", "train.learning_rate=0.02")
    metrics = json.loads((tmp_path / "run" / "artifact" / "metrics.json").read_text())
    figures = [row["validation_ndcg@10"] for row in metrics["history"]]
    best = max(range(len(figures)), key=figures.__getitem__)
    assert metrics["selected"] == f"epoch {best + 1}, the best on validation"
    assert metrics["validation"]["metrics"]["ndcg@10"] == pytest.approx(figures[best], abs=1e-12)


@pytest.mark.parametrize("kind", ["gmf", "mlp"])
def test_a_spectral_start_is_spread(tmp_path: Path, kind: str) -> None:
    run(2, tmp_path, f"model.kind={kind}", "train.init=spectral", "train.learning_rate=0.0001")
    metrics = json.loads((tmp_path / "run" / "artifact" / "metrics.json").read_text())
    if kind == "gmf":
        assert metrics["test"]["metrics"]["hr@10"] > 0.6
    assert weights(tmp_path)["user_table"].std() > 0.1
