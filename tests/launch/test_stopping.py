"""Ctrl-C, and going on with another number of processes."""

from pathlib import Path

import pytest

from launch.conftest import assert_close, single, train
from launch.groups import asked_to_stop, group, hold
from ncf.errors import Interrupted
from ncf.tracking.tracker import Silent
from processes import wait_until


def test_ctrl_c_saves_a_checkpoint_and_one_process_goes_on(folder: Path, alone: Path) -> None:
    command = [*train(), "--output", "stopped", "--nproc", 2]
    with group(command, folder, **hold(1)) as started:
        rank = started.held()
        started.interrupt()
        wait_until(lambda: asked_to_stop(rank))
        started.go()
        errors = started.ended(130)
    assert errors.splitlines()[-1] == (
        "ncf: Stopped after 2 epochs and 8 steps of the next; the checkpoint is in stopped/checkpoints: run the same "
        "command with --resume to continue."
    )
    assert errors.count("Stopped") == 1
    assert "signal" not in errors
    assert_close(single(folder, "stopped", resume=True), alone)


class StopAt(Silent):
    def __init__(self, epoch: int, step: int) -> None:
        self.place, self.there = (epoch, step), False

    def progress(self, epoch: int, done: int, total: int) -> None:
        self.there = self.there or (epoch, done) >= self.place


def test_one_process_stops_four_go_on_and_stop_and_two_end_it(folder: Path, alone: Path) -> None:
    place = StopAt(1, 5)
    with pytest.raises(Interrupted):
        single(folder, "handed", tracker=place, stop=lambda: place.there)
    command = [*train(), "--output", "handed", "--resume"]
    with group([*command, "--nproc", 4], folder, **hold(3)) as started:
        rank = started.held()
        started.interrupt()
        wait_until(lambda: asked_to_stop(rank))
        started.go()
        assert "Resumed after 1 epochs and 6 steps." in started.ended(130)
    with group([*command, "--nproc", 2], folder) as started:
        assert "Resumed after 2 epochs and 8 steps." in started.ended()
    assert_close(folder / "handed", alone)


def test_ctrl_c_before_training_is_one_sentence(folder: Path) -> None:
    with group([*train(), "--output", "early", "--nproc", 2], folder) as started:
        wait_until(lambda: len(started.processes()) == 3)
        started.interrupt()
        errors = started.ended(130)
    assert errors == "ncf: Stopped by SIGINT before a checkpoint could be saved.\n"


def test_a_second_ctrl_c_ends_all_at_once(folder: Path) -> None:
    with group([*train(), "--output", "twice", "--nproc", 2, "--quiet"], folder, **hold(1)) as started:
        rank = started.held()
        started.interrupt()
        wait_until(lambda: asked_to_stop(rank))
        started.interrupt()
        assert started.ended(130) == "ncf: Stopped by SIGINT before a checkpoint could be saved.\n"
