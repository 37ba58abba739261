"""`launch` with small programs in place of a training: what it reports, when it restarts, how it passes
signals on."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from launch.groups import launched
from ncf.training.parallel.launcher import LaunchMark, began_here, leave_message, restarted
from processes import wait_until
from together import Forked

PROGRAM = """
import json, os, pathlib, signal, sys, time
rank, attempt = int(os.environ["RANK"]), int(os.environ["NCF_ATTEMPT"])
def leave(message, code):
    ending = json.dumps({"message": message, "code": code})
    pathlib.Path(os.environ["NCF_ENDINGS"], f"ending-{rank}.json").write_text(ending)
    sys.exit(code)
def wait():
    pathlib.Path(f"here-{rank}").touch()
    time.sleep(100)
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL) if rank == 1 else wait()"
DEAD, ENDED = "Process 1 of 2 was killed (SIGKILL).", "All processes have ended: "
ADVICE = "to resume from the last checkpoint, run the same command with --output out --resume"


def begin(folder: Path, program: str, restarts: int = 0) -> Forked:
    return Forked(launched, (folder, PROGRAM + program, restarts), folder / "launcher")


def ended(folder: Path, program: str, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    return begin(folder, program, restarts).ended()


def interrupted(folder: Path, program: str, *signals: signal.Signals) -> subprocess.CompletedProcess[str]:
    """The launcher gets these signals, each when both processes (again) say that they are here."""
    started = begin(folder, program)
    for number in signals:
        wait_until(lambda: all((folder / f"here-{rank}").exists() for rank in (0, 1)))
        for rank in (0, 1):
            (folder / f"here-{rank}").unlink()
        os.kill(started.pid, number)
    return started.ended()


@pytest.mark.parametrize(
    ("program", "restarts", "message"),
    [
        (KILLED, 0, f"{DEAD} All processes have ended: {ADVICE}; --max-restarts N does this automatically."),
        (KILLED, 1, f"{DEAD} All 1 restarts are used up: {ADVICE}."),
        (
            "sys.exit(3) if rank == 0 else wait()",
            0,
            f"Process 0 of 2 exited with code 3 (see above). {ENDED}",
        ),
        ("leave('Process 1 hangs.', 75) if rank == 0 else wait()", 0, f"Process 1 hangs. {ENDED}"),
        ("leave('The disk is full.', 2) if rank == 0 else wait()", 1, "The disk is full."),
    ],
    ids=["killed", "restarts used up", "a code", "a process was lost", "a message"],
)
def test_a_group_that_fails_is_one_sentence(
    tmp_path: Path, program: str, restarts: int, message: str
) -> None:
    done = ended(tmp_path, program, restarts)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1
    again = "Process 1 of 2 was killed (SIGKILL). All restart from the last checkpoint (restart 1 of 1).\n"
    assert done.stdout == (again if restarts and program == KILLED else "")


def test_a_crash_is_mended_by_a_restart_that_the_processes_know_of(tmp_path: Path) -> None:
    done = ended(tmp_path, f"print(attempt, flush=True) if attempt else {KILLED}", 1)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()[1:]) == ["1", "1"]


def test_ctrl_c_before_training_is_one_sentence(tmp_path: Path) -> None:
    done = interrupted(tmp_path, "wait()", signal.SIGINT)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "Stopped by SIGINT before a checkpoint could be saved.\n"


CATCHES = """
def stop(number, _):
    signal.signal(number, signal.SIG_DFL)
    {then}
signal.signal(signal.SIGTERM, stop)
wait()
"""


def test_a_second_ctrl_c_ends_all_at_once(tmp_path: Path) -> None:
    done = interrupted(tmp_path, CATCHES.format(then="wait()"), signal.SIGINT, signal.SIGINT)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "Stopped by SIGINT before a checkpoint could be saved.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_passed_on_and_its_message_is_printed_once(tmp_path: Path, number: signal.Signals) -> None:
    done = interrupted(tmp_path, CATCHES.format(then="leave('Stopped after 1 epoch.', 130)"), number)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Stopped after 1 epoch.\n")


def test_a_stop_after_the_end_of_process_0_is_a_success(tmp_path: Path) -> None:
    done = interrupted(tmp_path, CATCHES.format(then="leave('', 0)"), signal.SIGTERM)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_message_is_left_for_the_launcher_or_printed_by_process_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NCF_ENDINGS", raising=False)
    assert not leave_message("x", 2)
    for name, value in (("NCF_ENDINGS", str(tmp_path)), ("NCF_LAUNCHER", str(os.getppid())), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    assert leave_message("x", 2)
    assert (tmp_path / "ending-1.json").read_text() == '{"message": "x", "code": 2}'
    monkeypatch.setenv("NCF_LAUNCHER", "1")  # it was killed
    assert leave_message("x", 2)
    monkeypatch.setenv("RANK", "0")
    assert not leave_message("x", 2)


def test_a_restart_knows_the_run_that_its_launch_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NCF_ATTEMPT", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert not restarted()
    assert not began_here(str(tmp_path))
    LaunchMark().opened(tmp_path)
    assert began_here(str(tmp_path))
    (tmp_path / "launch").write_text("elsewhere:1\njob")
    assert not began_here(str(tmp_path))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")  # the job's processes moved to another host
    assert began_here(str(tmp_path))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert restarted()
