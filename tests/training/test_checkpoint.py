"""Checkpoints are whole or absent, few, and only for the experiment and data that made them."""

from pathlib import Path

import pytest
import torch

from ncf.errors import CheckpointError
from ncf.training.checkpoint import Checkpoint, Checkpoints, part

STATE = {"position": {"epoch": 1, "step": 0, "loss": 0.5, "terms": 2}}


def tensors() -> dict[str, torch.Tensor]:
    return {"model.a": torch.arange(6.0).view(2, 3), "optimizer.a.step": torch.tensor(3.0)}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "experiment", "data")
    checkpoints.save(1, 0, Checkpoint(tensors(), STATE))
    loaded = checkpoints.latest()
    assert loaded is not None
    assert loaded.state["position"] == STATE["position"]
    assert torch.equal(part(loaded.tensors, "model")["a"], tensors()["model.a"])
    assert list(part(loaded.tensors, "optimizer")) == ["a.step"]


def test_the_newest_stay_and_the_newest_is_loaded(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "experiment", "data", keep=2)
    for epoch, step in ((1, 0), (1, 900), (2, 0), (10, 0)):
        checkpoints.save(epoch, step, Checkpoint(tensors(), {"at": [epoch, step]}))
    assert len(list(tmp_path.iterdir())) == 2
    latest = checkpoints.latest()
    assert latest is not None
    assert latest.state["at"] == [10, 0]


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    (tmp_path / ".epoch-00001-step-000000000.x1.part").mkdir()
    checkpoints = Checkpoints(tmp_path, "experiment", "data")
    assert not checkpoints.exist()
    checkpoints.save(1, 0, Checkpoint(tensors(), STATE))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00001-step-000000000"]


def test_none_at_all(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "absent", "experiment", "data").latest() is None


@pytest.mark.parametrize(
    ("experiment", "data", "sentence"),
    [
        ("other", "data", "belongs to another experiment"),
        ("experiment", "other", "was trained on other data"),
    ],
)
def test_foreign_checkpoints_are_refused(tmp_path: Path, experiment: str, data: str, sentence: str) -> None:
    Checkpoints(tmp_path, "experiment", "data").save(1, 0, Checkpoint(tensors(), STATE))
    with pytest.raises(CheckpointError, match=sentence):
        Checkpoints(tmp_path, experiment, data).latest()


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_damaged_checkpoints_are_refused(tmp_path: Path, name: str, how: str) -> None:
    checkpoints = Checkpoints(tmp_path, "experiment", "data")
    file = checkpoints.save(1, 0, Checkpoint(tensors(), STATE)) / name
    content = bytearray(file.read_bytes())
    if how == "gone":
        file.unlink()
    else:
        content[-5] ^= 0x40
        file.write_bytes(content if how == "flipped" else content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="is damaged: remove it|of another|differ"):
        checkpoints.latest()
