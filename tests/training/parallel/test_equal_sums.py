"""One global batch means the same everywhere: 1, 2, 3 and 4 processes, and threads, end with the same
bits."""

from pathlib import Path

import pytest
import torch

from ncf.config import ModelConfig, TrainConfig
from ncf.errors import ConfigError
from ncf.models import build_model
from ncf.training.kernels.branch import add_in_pairs
from ncf.training.step_runner import choose_parts
from together import losses, run, weights

MODEL = ModelConfig(kind="gmf", factors=4)


@pytest.mark.parametrize(
    "more",
    [
        ["train.parts=4", "train.l2_mlp=0.01", "model.dropout=0.2"],
        ["train.parts=4", "train.batch_size=1100", "train.precision=bfloat16"],
    ],
    ids=["with dropout and L2", "bfloat16"],
)
def test_any_number_of_processes_and_threads_gives_the_same_weights(tmp_path: Path, more: list[str]) -> None:
    runs = {"alone": (1, 1), "threads": (1, 3), "two with threads": (2, 2), "four": (4, 1)}
    for name, (size, threads) in runs.items():
        ended = run(size, tmp_path / name, "train.epochs=1", *more, f"train.threads={threads}")
        assert [p.returncode for p in ended] == [0] * size, [p.stderr for p in ended]
    alone = weights(tmp_path / "alone", 0)
    for name, (size, _) in runs.items():
        assert losses(tmp_path / name) == losses(tmp_path / "alone"), name
        for rank in range(size):
            for key, value in weights(tmp_path / name, rank).items():
                assert torch.equal(value, alone[key]), (name, rank, key)


def test_three_processes_share_six_parts_out(tmp_path: Path) -> None:
    for size in (1, 3):
        assert all(
            p.returncode == 0 for p in run(size, tmp_path / str(size), "train.parts=6", "train.epochs=1")
        )
    for key, value in weights(tmp_path / "1", 0).items():
        torch.testing.assert_close(weights(tmp_path / "3", 2)[key], value, rtol=0, atol=1e-5)


def test_parts_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(ConfigError, match="parts = 4 cannot be shared out among 3 .* multiple"):
        choose_parts(build_model(MODEL, 5, 5), TrainConfig(parts=4), False, 3)


@pytest.mark.parametrize(
    ("batch_size", "by_rows", "processes", "parts"),
    [
        (16384, False, 1, 4),
        (16384, False, 4, 4),
        (16384, False, 3, 0),
        (4096, False, 1, 0),
        (16384, True, 1, 0),
    ],
)
def test_parts_are_chosen_where_they_cost_little(
    batch_size: int, by_rows: bool, processes: int, parts: int
) -> None:
    config = TrainConfig(batch_size=batch_size)
    assert choose_parts(build_model(MODEL, 5, 5), config, by_rows, processes) == parts


def test_large_tables_are_not_summed_part_by_part() -> None:
    assert choose_parts(build_model(MODEL, 2_000_000, 5), TrainConfig(batch_size=16384), False, 1) == 0


def test_sums_in_pairs_are_sums_in_this_order() -> None:
    values = [torch.tensor([float(n)]) / 3 for n in range(1, 8)]
    a, b, c, d, e, f, g = (value.clone() for value in values)
    assert torch.equal(add_in_pairs(values), ((a + b) + (c + d)) + ((e + f) + g))
