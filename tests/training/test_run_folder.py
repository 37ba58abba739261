"""A run's folder: who may write to it, and what is left of what was there."""

import json
import multiprocessing
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from ncf.errors import CheckpointError, ConfigError, Interrupted, NcfError, StorageError
from ncf.training.run_folder import claimed
from support import experiment

DATA = {"path": None, "name": "made-up", "digest": "d" * 64}


def claim(
    folder: Path, resume: bool = False, overwrite: bool = False, digest: str = "d" * 64, **train: Any
) -> AbstractContextManager[None]:
    data = DATA | {"digest": digest}
    return claimed(folder, experiment(**train), data, resume=resume, overwrite=overwrite)


def files(folder: Path) -> dict[str, bytes | None]:
    """The content of everything below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def finish(folder: Path, name: str = "checkpoints/epoch-00001-step-000000000") -> None:
    """Make something that a run can go on from."""
    (folder / name).mkdir(parents=True)
    (folder / "events.jsonl").write_text("{}\n")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has ended."""
    folder = tmp_path / "runs" / "a [run]"
    with claim(folder):
        finish(folder)
    return folder


def test_overwriting_loses_no_file_of_the_users(run: Path) -> None:
    (run / "notes.md").write_text("mine")
    before = files(run.parent)
    with (
        pytest.raises(StorageError, match=r"other files too, such as notes\.md: move them"),
        claim(run, overwrite=True),
    ):
        raise AssertionError("it was not refused")
    assert files(run.parent) == before
    with claim(run, resume=True):
        assert (run / "notes.md").exists()


REFUSED: list[tuple[dict[str, Any], type[NcfError], str]] = [
    ({}, StorageError, "holds a run already"),
    ({"resume": True, "learning_rate": 0.5}, CheckpointError, "belongs to another experiment"),
    ({"resume": True, "digest": "e" * 64}, CheckpointError, "was trained on other data"),
]


@pytest.mark.parametrize(("how", "kind", "words"), REFUSED)
def test_a_refusal_changes_nothing(run: Path, how: dict[str, Any], kind: type[NcfError], words: str) -> None:
    before = files(run.parent)
    with pytest.raises(kind, match=words), claim(run, **how):
        raise AssertionError("it was not refused")
    assert files(run.parent) == before


@pytest.mark.parametrize("text", ["my own notes", "{}", "[]", None])
@pytest.mark.parametrize("how", [{}, {"resume": True}, {"overwrite": True}])
def test_a_folder_of_the_users_is_left_alone(tmp_path: Path, text: str | None, how: dict[str, bool]) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    before = files(tmp_path)
    with pytest.raises(StorageError, match="holds files that are not a run"), claim(tmp_path, **how):
        raise AssertionError("it was not refused")
    assert files(tmp_path) == before


@pytest.mark.parametrize("how", [{"resume": True}, {"overwrite": True}])
def test_a_run_that_fails_before_it_has_results_leaves_the_earlier_one(
    run: Path, how: dict[str, bool]
) -> None:
    before = files(run.parent)
    with pytest.raises(ConfigError), claim(run, **how):
        refuse(run)
    assert files(run.parent) == before


def refuse(folder: Path) -> None:
    """What a run may do before it is refused."""
    (folder / "events.jsonl").write_text("other")
    (folder / "launch").write_text("new")
    raise ConfigError("No.")


def test_a_first_run_that_is_refused_may_be_tried_again(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ConfigError), claim(tmp_path / "new"):
            refuse(tmp_path / "new")


@pytest.mark.parametrize("end", [None, Interrupted("Saved.")])
def test_a_run_with_results_takes_the_place_of_the_earlier_one(run: Path, end: NcfError | None) -> None:
    (run / "report.html").touch()
    try:
        with claim(run, overwrite=True, learning_rate=0.5):
            assert not (run / "report.html").exists()
            assert len(list(run.parent.iterdir())) == 2  # the earlier run is still there
            finish(run, "gmf/checkpoints/epoch-00001")
            if end:
                raise end
    except Interrupted:
        assert end
    assert [path.name for path in run.parent.iterdir()] == [run.name]
    assert not (run / "report.html").exists()
    with claim(run, resume=True, learning_rate=0.5):
        """The new run can be gone on with."""


def _killed(folder: Path, results: bool, half_moved: bool) -> None:
    context = claim(folder, overwrite=True)
    context.__enter__()
    if results:
        finish(folder)
    if half_moved:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    os._exit(0)


@pytest.mark.parametrize(
    ("results", "half_moved", "how", "old"),
    [
        (False, True, {"resume": True}, True),
        (False, False, {"overwrite": True}, False),
        (True, False, {"resume": True}, False),
    ],
)
def test_what_a_killed_process_moved_aside_is_kept_until_it_is_replaced(
    run: Path, results: bool, half_moved: bool, how: dict[str, bool], old: bool
) -> None:
    (run / "report.html").touch()
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(run, results, half_moved))
    process.start()
    process.join()
    assert len(list(run.parent.iterdir())) == 2 - half_moved
    if half_moved:
        with pytest.raises(StorageError, match="holds a run already"), claim(run):
            raise AssertionError("the earlier run was replaced unasked")
    with claim(run, **how):
        assert (run / "report.html").exists() == old
        if not results and not old:
            finish(run)
    assert [path.name for path in run.parent.iterdir()] == [run.name]


def test_one_process_at_a_time(run: Path) -> None:
    before = files(run.parent)
    with claim(run, resume=True):
        for how in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(StorageError, match="Another process is writing to"), claim(run, **how):
                raise AssertionError("it was not refused")
    assert files(run.parent) == before
    with claim(run, resume=True):
        """The lock is free again."""


def test_what_was_left_half_written_goes_and_what_was_moved_comes_back(run: Path) -> None:
    (run / ".artifact.ab12cd34.part").mkdir()
    (run / ".artifact.ab12cd34.part" / "model.safetensors").touch()
    (run / ".weights.part").touch()
    (run / ".artifact.ef56.old" / "content").mkdir(parents=True)
    (run / ".artifact.ef56.old" / "content" / "manifest.json").touch()
    (run / "checkpoints" / ".epoch-00002-step-000000000.gh78.part").mkdir()
    (run / "checkpoints" / ".epoch-00001-step-000000000.gh78.old" / "content").mkdir(parents=True)
    with claim(run, resume=True):
        assert not [path for path in run.rglob(".*") if path.name != ".lock"]
        assert (run / "artifact" / "manifest.json").exists()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    disk, link = tmp_path / "disk", tmp_path / "link"
    link.symlink_to(disk)  # which is not there yet
    for _ in range(2):
        with claim(link, overwrite=True):
            finish(link)
    assert link.is_symlink()
    assert json.loads((disk / "run.json").read_text())["data"] == DATA
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "link"}


def test_hidden_files_of_a_host_do_not_keep_a_job_from_resuming(tmp_path: Path) -> None:
    (tmp_path / ".sagemaker-uploaded").touch()
    with claim(tmp_path, resume=True):
        assert (tmp_path / "run.json").exists()
