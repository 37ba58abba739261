"""Real processes over gloo: what they make together is what one process makes alone."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch

from ncf.errors import ConfigError
from ncf.training.kernels.batch import RowGradient
from ncf.training.parallel.communicator import SingleProcess
from ncf.training.parallel.connect import processes
from together import losses, run, weights


@pytest.mark.parametrize("optimizer", ["dense", "lazy"])
def test_two_processes_make_the_update_of_one(tmp_path: Path, optimizer: str) -> None:
    choice = f"train.optimizer={optimizer}"
    for size in (1, 2):
        assert all(p.returncode == 0 for p in run(size, tmp_path / str(size), choice))
    alone, first, second = weights(tmp_path / "1", 0), weights(tmp_path / "2", 0), weights(tmp_path / "2", 1)
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-4)
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=2e-2, atol=2e-4)


def test_three_processes_and_steps_of_two_groups(tmp_path: Path) -> None:
    tiny = ["train.batch_size=2", "train.epochs=1", "model.kind=gmf"]
    assert all(p.returncode == 0 for p in run(3, tmp_path, *tiny))
    assert all(
        torch.equal(value, weights(tmp_path, rank)[name])
        for name, value in weights(tmp_path, 0).items()
        for rank in (1, 2)
    )


def test_a_stop_that_one_is_asked_for_stops_all_and_all_resume_from_the_first_ones_checkpoint(
    tmp_path: Path,
) -> None:
    assert all(p.returncode == 0 for p in run(2, tmp_path / "whole"))
    stopped = run(2, tmp_path / "stopped", stopper=1, steps=5)
    assert [(p.returncode, p.stdout.strip()) for p in stopped] == [(0, "stopped")] * 2
    assert [path.name for path in tmp_path.glob("stopped/run*")] == ["run"]
    assert all(p.returncode == 0 for p in run(2, tmp_path / "stopped"))
    for rank in (0, 1):
        for name, value in weights(tmp_path / "whole", rank).items():
            assert torch.equal(weights(tmp_path / "stopped", rank)[name], value), name
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")


def test_the_halves_of_a_pretrained_model_are_trained_together_too(tmp_path: Path) -> None:
    halves = [
        "pretraining.gmf.model.kind=gmf", "pretraining.gmf.model.factors=4", "pretraining.gmf.train.epochs=1",
        "pretraining.gmf.train.threads=1", "pretraining.mlp.model.kind=mlp", "pretraining.mlp.model.embedding=6",
        "pretraining.mlp.model.tower=[6,3]", "pretraining.mlp.train.epochs=1", "pretraining.mlp.train.threads=1",
        "pretraining.gmf.evaluation.bootstrap=0", "pretraining.mlp.evaluation.bootstrap=0", "train.epochs=1",
    ]  # fmt: skip
    for _ in range(2):  # the second time the halves are there, on process 0 only
        assert [p.returncode for p in run(2, tmp_path, *halves)] == [0, 0]
        assert torch.equal(weights(tmp_path, 0)["gmf.user_table"], weights(tmp_path, 1)["gmf.user_table"])


def test_others_that_never_come_are_named() -> None:
    meeting = timedelta(seconds=1)
    with (
        pytest.raises(ConfigError, match="could not meet"),
        processes("127.0.0.1", 1, 1, 2, meeting=meeting),
    ):
        pass


def test_alone_exchanges_nothing() -> None:
    gradient = {torch.zeros(1): RowGradient(None, torch.ones(1))}
    with processes("nowhere", 1, 0, 1) as communicator:
        assert isinstance(communicator, SingleProcess)
        assert communicator.add(gradient) == gradient
