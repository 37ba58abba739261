"""Settings that sharded tables do not allow are refused before anything is written, without TorchRec too."""

import sys
from pathlib import Path

import pytest

from ncf.config import Experiment
from ncf.errors import ConfigError
from ncf.experiment import train
from ncf.training.parallel import sharding
from ncf.training.parallel.communicator import SingleProcess
from support import checkerboard

HALVES = ["pretraining.gmf.model.kind=gmf", "pretraining.mlp.model.kind=mlp"]


def test_without_torchrec_the_script_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchrec", None)
    with pytest.raises(ConfigError, match="scripts/install-torchrec"):
        train(checkerboard(), Experiment.parse({}, ["train.tables=sharded"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        (["train.averaging=0.9"], "train.averaging = 0"),
        (["train.optimizer=dense"], "train.optimizer = 'auto'"),
        (HALVES, "without \\[pretraining\\]"),
    ],
)
def test_settings_that_need_whole_tables(
    monkeypatch: pytest.MonkeyPatch, settings: list[str], remedy: str
) -> None:
    monkeypatch.setattr(sharding, "need_torchrec", lambda: None)
    with pytest.raises(ConfigError, match=remedy):
        sharding.refuse_what_shards_cannot(Experiment.parse({}, settings), SingleProcess())


def test_processes_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "need_torchrec", lambda: None)
    several = SingleProcess()
    several.size = 2
    with pytest.raises(ConfigError, match="--nproc or torchrun"):
        sharding.refuse_what_shards_cannot(Experiment.parse({}, ["model.kind=gmf"]), several)
