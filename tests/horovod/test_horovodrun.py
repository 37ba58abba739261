"""`horovodrun … ncf train` with two real processes over gloo: the weights of `ncf train --nproc 2`, to the
bit."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from processes import wait_until
from together import small_project

pytestmark = pytest.mark.horovod

ENVIRONMENT = {**os.environ, "COLUMNS": "120", "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe and a prepared data set."""
    return small_project(tmp_path_factory.mktemp("project"), epochs=3, batch_size=700, bootstrap=0)


def ncf(programs: Path, *more: object) -> list[str]:
    return [
        str(programs / "python"),
        *map(str, ("-m", "ncf", "train", "small.toml", "--data", "data", *more)),
    ]


def horovodrun(programs: Path, *more: object) -> list[str]:
    return [str(programs / "horovodrun"), "-np", "2", "--gloo", *ncf(programs, *more)]


def run(command: list[str], project: Path, seconds: float = 200) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, cwd=project, env=ENVIRONMENT, timeout=seconds
    )


def done(command: list[str], project: Path) -> None:
    ran = run(command, project)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "artifact" / "model.safetensors")


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def process(project: Path, rank: int) -> int:
    """The training process of that rank which works in this folder; raises where there is none yet."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables, words = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes().split(b"\0")
            here = (entry / "cwd").resolve() == project
        except OSError:
            continue
        if here and f"HOROVOD_RANK={rank}".encode() in variables.split(b"\0") and b"-m" in words:
            return int(entry.name)
    raise AssertionError(f"there is no process of rank {rank}")


@contextmanager
def started(command: list[str], project: Path, output: str, epoch: int) -> Iterator[subprocess.Popen[str]]:
    """A run in the background that has saved that epoch."""
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=project, env=ENVIRONMENT
    )
    try:
        folder = project / output / "checkpoints"
        wait_until(lambda: any(folder.glob(f"epoch-{epoch:05d}-*")) or running.poll() is not None, 120)
        assert running.poll() is None, running.communicate()[0]
        yield running
    finally:
        running.terminate()
        running.communicate()


@pytest.mark.parametrize("optimizer", ["dense", "lazy"])
def test_the_weights_are_those_of_torchrun(programs: Path, project: Path, optimizer: str) -> None:
    choice = ("--set", f"train.optimizer={optimizer}")
    done(horovodrun(programs, "--distributed", "horovod", "--output", f"h-{optimizer}", *choice), project)
    done(ncf(programs, "--nproc", 2, "--output", f"t-{optimizer}", *choice), project)
    assert_equal(weights(project / f"h-{optimizer}"), weights(project / f"t-{optimizer}"))


def test_a_killed_process_ends_all_and_the_run_goes_on_from_its_checkpoint(
    programs: Path, project: Path
) -> None:
    more = ("--distributed", "horovod", "--set", "train.epochs=60")
    with started(horovodrun(programs, *more, "--output", "killed"), project, "killed", 2) as running:
        os.kill(process(project, 1), signal.SIGKILL)
        output = running.communicate(timeout=120)[0]
    assert running.returncode != 0
    assert "Process name: 1\nExit code: 137" in output
    for rank in (0, 1):
        with pytest.raises(AssertionError, match="no process of rank"):
            process(project, rank)
    done(horovodrun(programs, *more, "--output", "killed", "--resume"), project)
    done(horovodrun(programs, *more, "--output", "whole"), project)
    assert_equal(weights(project / "killed"), weights(project / "whole"))


def test_a_process_that_hangs_is_named_with_what_it_did(programs: Path, project: Path) -> None:
    more = ("--distributed", "horovod", "--set", "train.epochs=20000", "--timeout", "5")
    with started(horovodrun(programs, *more, "--output", "hangs"), project, "hangs", 2) as running:
        stopped = process(project, 1)
        os.kill(stopped, signal.SIGSTOP)
        try:
            output = running.communicate(timeout=120)[0]
        finally:
            with suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGKILL)
    assert running.returncode != 0
    assert "ncf: Process 1 of 2 (host " in output
    assert "current phase: training, step" in output or "has stopped responding; last phase: " in output


def test_without_the_option_a_sentence_names_it(programs: Path, project: Path) -> None:
    ran = run(horovodrun(programs, "--output", "none"), project)
    assert ran.returncode != 0
    assert (
        "ncf: These processes were started by Horovod or MPI: add --distributed horovod."
        in ran.stdout + ran.stderr
    )
    assert not (project / "none").exists()


def test_a_single_process_needs_no_launcher(programs: Path, project: Path) -> None:
    done(ncf(programs, "--distributed", "horovod", "--output", "single"), project)
    done(ncf(programs, "--output", "plain"), project)
    assert_equal(weights(project / "single"), weights(project / "plain"))
