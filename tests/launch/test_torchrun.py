"""The same under torchrun itself, as on several machines."""

import os
import signal
from pathlib import Path

from launch.conftest import assert_equal, metrics
from launch.groups import TORCHRUN, group, hold

TRAIN = ["-m", "ncf", "train", "small.toml", "--data", "data"]


def test_torchrun_restarts_all_from_the_last_checkpoint(folder: Path, pair: Path) -> None:
    command = [
        *TORCHRUN,
        "--nproc-per-node",
        2,
        "--max-restarts",
        1,
        "--standalone",
        *TRAIN,
        "--output",
        "torchrun",
    ]
    with group(command, folder, **hold(1)) as started:
        os.kill(started.held(), signal.SIGKILL)
        errors = started.ended()
    assert errors.count("Resumed after 2 epochs and 0 steps.") == 1
    assert_equal(folder / "torchrun", pair)


def test_a_run_that_is_there_stays_whatever_torchrun_tries_again(folder: Path, pair: Path) -> None:
    before = metrics(pair)
    command = [
        *TORCHRUN,
        "--nproc-per-node",
        2,
        "--max-restarts",
        1,
        "--standalone",
        *TRAIN,
        "--output",
        "pair",
    ]
    with group(command, folder) as started:
        errors = started.ended(1)
    assert "ncf: pair holds a run already" in errors
    assert "Resumed" not in errors
    assert metrics(pair) == before


def test_a_restart_needs_an_output_to_go_on_with(folder: Path) -> None:
    with group([*TORCHRUN, "--nproc-per-node", 1, "--max-restarts", 1, *TRAIN], folder) as started:
        assert "ncf: torchrun with --max-restarts needs --output" in started.ended(1)
