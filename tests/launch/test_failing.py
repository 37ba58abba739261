"""Processes that are killed, hang, find the disk full, or do not belong together."""

import os
import resource
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from launch.conftest import assert_equal, metrics, train
from launch.groups import asked_to_stop, group, hold
from processes import free_port, wait_until
from support import planted


def test_a_killed_process_restarts_all_from_the_last_checkpoint(folder: Path, pair: Path) -> None:
    shutil.copytree(
        pair, folder / "killed"
    )  # an older run, which must not be taken for the one to go on with
    command = [*train(), "--output", "killed", "--nproc", 2, "--max-restarts", 1, "--overwrite"]
    with group(command, folder, **hold(1)) as started:
        os.kill(started.held(), signal.SIGKILL)
        errors = started.ended()
    assert (
        "Process 1 of 2 was killed (SIGKILL). All start again from the last checkpoint (restart 1 of 1)."
        in errors
    )
    assert "Resumed after 2 epochs and 0 steps." in errors
    assert_equal(folder / "killed", pair)


def test_a_restart_before_the_run_began_replaces_the_older_run_as_asked(folder: Path, pair: Path) -> None:
    shutil.copytree(pair, folder / "older")
    command = [*train(), "--output", "older", "--nproc", 2, "--max-restarts", 1, "--overwrite"]
    with group([*command, "--set", "train.seed=1"], folder, NCF_TEST_DIES="1 SCRATCH") as started:
        errors = started.ended()
    assert "restart 1 of 1" in errors
    assert "Resumed" not in errors
    assert metrics(folder / "older")["history"] != metrics(pair)["history"]


def test_without_restarts_the_killed_process_is_named(folder: Path) -> None:
    with group([*train(), "--output", "ended", "--nproc", 2], folder, **hold(0)) as started:
        os.kill(started.held(), signal.SIGKILL)
        errors = started.ended(2)
    assert [line for line in errors.splitlines() if line.startswith("ncf: ")] == [
        "ncf: Process 0 of 2 was killed (SIGKILL). All have ended: the same command with --output ended --resume goes on "
        "from the last checkpoint, and --max-restarts N does so by itself."
    ]
    assert "Traceback" not in errors


def test_a_process_that_hangs_is_named_with_what_it_did_and_all_start_again(folder: Path, pair: Path) -> None:
    command = [*train(), "--output", "hung", "--nproc", 2, "--timeout", 5, "--max-restarts", 1]
    with group(command, folder, **hold(1)) as started:
        os.kill(started.held(), signal.SIGSTOP)
        errors = started.ended()
    assert "is silent since this phase: training, step 8 of epoch 3" in errors
    assert "Process 1 of 2" in errors
    assert "(restart 1 of 1)" in errors
    assert_equal(folder / "hung", pair)


def test_a_process_that_goes_on_beating_but_does_nothing_is_named_and_ended(folder: Path) -> None:
    command = [*train(), "--output", "idle", "--nproc", 2, "--timeout", 5, "--quiet"]
    with group(command, folder, **hold(0)) as started:
        started.held()
        errors = started.ended(2)
    assert errors.startswith("ncf: Process 0 of 2 (host ")
    assert ") hangs in this phase: training, step 8 of epoch 3, after " in errors
    assert len(errors.splitlines()) == 1


def test_a_full_disk_ends_all_with_one_sentence(folder: Path) -> None:
    """A file size limit stands in for the full disk."""
    command = [*train(), "--output", "full", "--nproc", 2, "--max-restarts", 1]
    with group(command, folder, **hold(0)) as started:
        resource.prlimit(started.held(), resource.RLIMIT_FSIZE, (5000, 5000))
        started.go()
        errors = started.ended(2)
    assert [line for line in errors.splitlines() if line.startswith("ncf: ")] == [
        "ncf: full/checkpoints/epoch-00003-step-000000000 could not be written (File too large): check the disk or choose "
        "another place."
    ]
    assert "restart" not in errors
    assert "Traceback" not in errors
    kept = sorted(path.name for path in (folder / "full" / "checkpoints").iterdir())
    assert kept == ["epoch-00001-step-000000000", "epoch-00002-step-000000000"]


def test_ranks_whose_launcher_is_killed_save_a_checkpoint_and_end(folder: Path) -> None:
    with group([*train(), "--output", "left", "--nproc", 2], folder, **hold(1)) as started:
        rank = started.held()
        started.launcher.kill()
        wait_until(lambda: asked_to_stop(rank))
        started.go()
        wait_until(lambda: not started.processes())
        assert "ncf: Stopped after 2 epochs and 8 steps of the next; the checkpoint is in" in started.err
        assert started.err.count("ncf: ") == 1
    assert (folder / "left" / "checkpoints" / "epoch-00002-step-000000008").is_dir()


@pytest.mark.parametrize(
    ("difference", "data", "words", "environment"),
    [
        ("data", "others", [], {}),
        ("recipe", "data", ["--set", "train.seed=1"], {}),
        ("version of ncf", "data", [], {"NCF_TEST_VERSION": "1 0.0.7"}),
    ],
)
def test_processes_that_do_not_belong_together_refuse_to_begin(
    folder: Path, difference: str, data: str, words: list[str], environment: dict[str, str]
) -> None:
    planted(seed=1).save(folder / "others")
    port = str(free_port())
    with ExitStack() as stack:
        started = [
            stack.enter_context(
                group(
                    [*command, "--output", "apart"], folder, MASTER_ADDR="127.0.0.1", MASTER_PORT=port,
                    RANK=str(rank), WORLD_SIZE="2", **environment,
                )
            )
            for rank, command in enumerate([train(), [*train(data), *words]])
        ]  # fmt: skip
        first, second = (one.ended(2) for one in started)
    assert first == second
    assert len(first.splitlines()) == 1
    assert f"Processes 0 and 1 do not have the same {difference} (" in first
    assert not (folder / "apart").exists()
