"""`ncf train --nproc` from its beginning to its end: what it makes and prints, and how it survives a killed
process."""

import json
import os
import re
import resource
import shutil
import signal
from pathlib import Path

from launch.conftest import assert_close, assert_equal, run_here, train
from launch.groups import NCF, TORCHRUN, asked_to_stop, group, hold
from processes import wait_until


def test_two_processes_make_what_one_makes_and_print_one_answer(
    folder: Path, single: Path, pair: Path
) -> None:
    assert_close(pair, single)
    assert json.loads((folder / "pair-out").read_text())["run"] == "pair"
    assert {path.name for path in pair.iterdir()} == {
        ".lock",
        "artifact",
        "checkpoints",
        "events.jsonl",
        "launch",
        "run.json",
    }


def test_a_final_fit_of_two_processes_is_that_of_one(folder: Path, single: Path) -> None:
    command = [*NCF, "train", "--final", "single", "--output", "final-pair", "--nproc", 2, "--quiet"]
    with group(command, folder) as started:
        started.ended()
        assert "interactions were trained on, test included" in started.out
    assert_close(folder / "final-pair", run_here(folder, "final", single))


def test_what_a_person_sees_on_a_terminal(folder: Path, pair: Path) -> None:
    seen = (folder / "pair-seen").read_text()
    plain = re.sub(r"\x1b\[[\d;?]*\w", "", seen)
    lines = [line.strip() for line in re.split(r"[\r\n]+", plain) if line.strip()]
    phases = "reading|initialization|epoch|validation|test|verdict|writing|index for serving"
    known = (
        rf"Training|[\d,]+ parameters|epoch +\d +loss|({phases})\b.* \d:\d\d:\d\d|Artifact|Time: |Warning: "
    )
    assert [line for line in lines if not re.match(known, line)] == []
    bars = {line.partition("━")[0] for line in lines if "━" in line}
    assert {"verdict ", "test ", "epoch 4/4 "} <= bars
    assert seen.count("\x1b[?25l") == len(bars)  # a bar hides the cursor: one process shows its own
    for word, count in (("Training", 1), ("Artifact", 1)):
        assert sum(line.startswith(word) for line in lines) == count
    assert len([line for line in lines if re.match(r"epoch +\d +loss", line)]) == 4


def test_killed_and_hanging_processes_restart_all_from_the_last_checkpoint(folder: Path, pair: Path) -> None:
    # An older run, which must not be taken for the one to resume.
    shutil.copytree(pair, folder / "killed")
    command = [
        *train(),
        "--output",
        "killed",
        "--nproc",
        2,
        "--max-restarts",
        2,
        "--overwrite",
        "--timeout",
        5,
    ]
    with group(command, folder, **hold(1, "2,7", "3,7")) as started:
        os.kill(started.held(0), signal.SIGKILL)
        os.kill(started.held(1), signal.SIGSTOP)
        errors = started.ended()
    lines = [line for line in errors.splitlines() if not line.startswith("Phase: ")]
    lines = [re.sub(r"[\d.,]+", "N", line)[:12] for line in lines]
    assert lines[:4] == ["Training sma", "N parameters", *["epoch   N  lo"[:12]] * 2]
    assert (
        "Process 1 of 2 was killed (SIGKILL). All restart from the last checkpoint (restart 1 of 2)."
        in errors
    )
    assert "Resumed after 2 epochs and 0 steps." in errors
    hanging = next(line for line in errors.splitlines() if "has stopped responding" in line)
    assert re.match(
        r"Process 1 of 2 \(host .*\) has stopped responding; last phase: training, step 8 of epoch 4", hanging
    )
    assert hanging.endswith("All restart from the last checkpoint (restart 2 of 2).")
    assert "Resumed after 3 epochs and 0 steps." in errors
    assert_equal(folder / "killed", pair)


def test_a_full_disk_ends_all_with_one_sentence(folder: Path) -> None:
    """A file size limit stands in for the full disk."""
    command = [*train(), "--output", "full", "--nproc", 2, "--max-restarts", 1]
    with group(command, folder, **hold(0)) as started:
        resource.prlimit(started.held(), resource.RLIMIT_FSIZE, (5000, 5000))
        started.go()
        errors = started.ended(2)
    [sentence] = [line for line in errors.splitlines() if line.startswith("ncf: ")]
    assert "full/checkpoints/epoch-00003-step-000000000 could not be written (File too large)" in sentence
    assert "restart" not in errors
    assert "Traceback" not in errors
    kept = sorted(path.name for path in (folder / "full" / "checkpoints").iterdir())
    assert kept == ["epoch-00001-step-000000000", "epoch-00002-step-000000000"]


def test_ctrl_c_saves_a_checkpoint_and_one_process_goes_on(folder: Path, single: Path) -> None:
    command = [*train(), "--output", "stopped", "--nproc", 2]
    with group(command, folder, **hold(1)) as started:
        rank = started.held()
        started.interrupt()
        wait_until(lambda: asked_to_stop(rank))
        started.go()
        errors = started.ended(130)
    assert errors.splitlines()[-1].startswith(
        "ncf: Stopped after 2 epochs and 8 steps of the next; the checkpoint is in stopped/checkpoints"
    )
    assert errors.count("Stopped") == 1
    assert "signal" not in errors
    assert_close(run_here(folder, "stopped", resume=True), single)


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


def test_torchrun_restarts_all_from_the_last_checkpoint(folder: Path, pair: Path) -> None:
    agent = [*TORCHRUN, "--nproc-per-node", 2, "--max-restarts", 1, "--standalone"]
    with group([*agent, *train()[1:], "--output", "torchrun"], folder, **hold(1)) as started:
        os.kill(started.held(), signal.SIGKILL)
        errors = started.ended()
    assert errors.count("Resumed after 2 epochs and 0 steps.") == 1
    assert_equal(folder / "torchrun", pair)
