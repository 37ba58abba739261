"""/opt/ml as a `Job`, over folders of this machine."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ncf.errors import ConfigError, DataError
from ncf.sagemaker.container.environment import read_job


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The least that a job has."""
    (tmp_path / "input" / "config").mkdir(parents=True)
    _prepared(tmp_path / "input" / "data" / "train")
    return tmp_path


def _prepared(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text("{}", "utf-8")


def _config(root: Path, name: str, value: object) -> None:
    (root / "input" / "config" / name).write_text(json.dumps(value), "utf-8")


def test_without_any_file_it_is_the_default_experiment_on_one_host(root: Path) -> None:
    job = read_job(root)
    assert job.experiment.train.epochs == 16
    assert (job.host, job.hosts) == ("algo-1", ("algo-1",))
    assert (job.gmf, job.mlp) == (None, None)
    assert job.run == root / "checkpoints" / "run"
    assert (job.model, job.output) == (root / "model", root / "output" / "data")


def test_hyperparameters_and_hosts_are_read(root: Path) -> None:
    _config(root, "hyperparameters.json", {"train.epochs": "3", "model.tower": "[8, 4]"})
    _config(root, "resourceconfig.json", {"current_host": "algo-2", "hosts": ["algo-2", "algo-1"]})
    job = read_job(root)
    assert (job.experiment.train.epochs, job.experiment.model.tower) == (3, (8, 4))
    assert (job.host, job.hosts) == ("algo-2", ("algo-1", "algo-2"))


def test_arguments_count_for_what_the_file_does_not_name(root: Path) -> None:
    _config(root, "hyperparameters.json", {"train.epochs": "3"})
    job = read_job(root, ["--model.tower", "[8, 4]", "--train.epochs", "5"])
    assert (job.experiment.train.epochs, job.experiment.model.tower) == (3, (8, 4))


@pytest.mark.parametrize("arguments", [["--train.epochs"], ["train.epochs", "5"], ["--a", "1", "b", "2"]])
def test_arguments_that_are_no_pairs_are_refused(root: Path, arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="--name value"):
        read_job(root, arguments)


def test_the_data_may_lie_in_a_folder_of_the_channel(root: Path) -> None:
    train = root / "input" / "data" / "train"
    (train / "dataset.json").unlink()
    _prepared(train / "ml-100k")
    assert read_job(root).data == train / "ml-100k"


def _two(train: Path) -> None:
    _prepared(train / "another")


def _none(train: Path) -> None:
    (train / "dataset.json").unlink()


def _missing(train: Path) -> None:
    _none(train)
    train.rmdir()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [(_two, "holds 2 prepared data folders"), (_none, "holds no prepared data"), (_missing, "is missing")],
)
def test_a_channel_without_one_data_set_is_refused(
    root: Path, change: Callable[[Path], None], sentence: str
) -> None:
    change(root / "input" / "data" / "train")
    with pytest.raises(DataError, match=f"channel 'train' {sentence}"):
        read_job(root)


def test_a_config_that_is_no_json_is_refused(root: Path) -> None:
    (root / "input" / "config" / "hyperparameters.json").write_text("{", "utf-8")
    with pytest.raises(ConfigError, match=r"hyperparameters\.json cannot be read"):
        read_job(root)


def test_pretrained_halves_and_local_checkpoints_are_channels(root: Path) -> None:
    channels = root / "input" / "data"
    for folder in ("pretrained/gmf", "pretrained/mlp", "checkpoints"):
        (channels / folder).mkdir(parents=True)
    job = read_job(root)
    assert (job.gmf, job.mlp) == (channels / "pretrained" / "gmf", channels / "pretrained" / "mlp")
    assert job.run == channels / "checkpoints" / "run"
