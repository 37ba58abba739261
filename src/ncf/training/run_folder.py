"""The folder of a run, held by one process: what was in it is never lost, and a refusal changes nothing.

In: a folder and what is to happen with a run that is in it. Out: the folder, locked until the block ends.

The one decision worth knowing: a run that is to be replaced is moved beside its folder. It is removed once
the new run has a checkpoint or an artifact, and put back where that never happens. A killed process leaves it
there, and the next one that takes the folder decides in the same way.
"""

from __future__ import annotations

import glob
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ncf.config import Experiment
from ncf.data.files import atomic_file, followed, storage_errors, write_text
from ncf.errors import CheckpointError, ConfigError, DataError, StorageError

DOCUMENT = "run.json"
_LOCK = ".lock"
_OURS = {
    DOCUMENT, "events.jsonl", "chosen.json", "launch", "mlflow.json", "job.json", "report.html",
    "MODEL_CARD.md", "artifact", "checkpoints", "gmf", "mlp",
}  # fmt: skip
"""What commands put into a run's folder, and --overwrite may remove."""
_REFUSALS = (ConfigError, DataError, CheckpointError)


@contextmanager
def claimed(
    folder: Path, experiment: Experiment, data: dict[str, Any], *, resume: bool, overwrite: bool
) -> Iterator[None]:
    """Hold `folder` for a run of `experiment` on `data` (path, name, digest), and write its `run.json`.

    Raises `StorageError` for a folder with other files, with a run that is neither to `resume` nor to
    `overwrite`, or that another process writes to; `CheckpointError` for a run of other settings or data.
    """
    place = followed(folder)
    with storage_errors(folder):
        if not _contents(place) and (aside := _left_aside(place)):
            _put_back(aside, place)
        _check(folder, experiment, data, resume, overwrite)
        place.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with storage_errors(folder):
            lock = stack.enter_context(_locked(place, folder))
            _check(folder, experiment, data, resume, overwrite)  # once more: now nobody else writes
            aside = _left_aside(place)
            if not resume and _contents(place):
                aside = _moved_aside(place, aside)
                lock.release()
                stack.enter_context(_locked(place, folder))
            _tidy(place)
        try:
            with _restored_if_refused(place):
                document = {"experiment": experiment.model_dump(mode="json"), "data": data}
                with atomic_file(place / DOCUMENT) as temporary:
                    write_text(temporary, json.dumps(document, indent=2))
                yield
        except BaseException:
            if aside is not None and not _results(place):
                _put_back(aside, place)
            raise
        finally:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)


def refuse_taken(folder: Path, resume: bool, overwrite: bool) -> dict[str, Any] | None:
    """The `run.json` of the run in `folder`, if there is one; raises the `StorageError` of `claimed`."""
    # Hosts put hidden files of their own into a folder that they copy elsewhere, and a job resumes from it.
    contents = [path for path in _contents(folder) if not (resume and path.name.startswith("."))]
    if not contents:
        return None
    run = _document(folder)
    if run is None:
        raise StorageError(f"{folder} holds files that are not a run: choose an empty or a new --output.")
    if not (resume or overwrite):
        raise StorageError(
            f"{folder} holds a run already: continue it with --resume, replace it with --overwrite, or "
            "choose another --output."
        )
    others = sorted(path.name for path in contents if path.name[0] != "." and path.name not in _OURS)
    if others and not resume:
        raise StorageError(
            f"{folder} holds a run and other files too, such as {others[0]}: move them, or choose another "
            "--output."
        )
    return run


def data_folder(run: Path) -> str | None:
    """Where the data of the run in this folder were; None where that is not recorded."""
    document = _document(run)
    path: str | None = (document.get("data") or {}).get("path") if document else None
    return path


def _check(folder: Path, experiment: Experiment, data: dict[str, Any], resume: bool, overwrite: bool) -> None:
    run = refuse_taken(folder, resume, overwrite)
    if run is not None and resume:
        _refuse_other(folder, run, experiment, data)


def _contents(place: Path) -> list[Path]:
    return [path for path in place.iterdir() if path.name != _LOCK] if place.is_dir() else []


def _document(place: Path) -> dict[str, Any] | None:
    """What `run.json` says; None where it is not ours."""
    try:
        document = json.loads((place / DOCUMENT).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and "experiment" in document else None


def _refuse_other(folder: Path, run: dict[str, Any], experiment: Experiment, data: dict[str, Any]) -> None:
    reason = None
    with suppress(ConfigError):  # Written by another version: its checkpoint says whether it can go on.
        if Experiment.parse(run["experiment"]).digest() != experiment.digest():
            reason = "belongs to another experiment (its settings differ)"
    if (run.get("data") or {}).get("digest", data["digest"]) != data["digest"]:
        reason = "was trained on other data"
    for mark, option in (("final", "--final"), ("warm", "--from")):
        if (run.get("data") or {}).get(mark) != data.get(mark):
            reason = f"was begun with another {option}, or without it"
    if reason:
        raise CheckpointError(
            f"The run {folder} {reason}: train with the settings and data it was made with, or start again "
            "with another --output."
        )


@contextmanager
def _locked(place: Path, folder: Path) -> Iterator[FileLock]:
    lock = FileLock(place / _LOCK)
    with suppress(NotImplementedError):  # A file system without locks.
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise StorageError(
                f"Another process is writing to {folder}: wait for it, or choose another --output."
            ) from None
    try:
        yield lock
    finally:
        lock.release()


def _moved_aside(place: Path, aside: Path | None) -> Path:
    """Move the run in the folder aside, or remove it where an earlier one, not yet replaced, is there."""
    if aside is None:
        aside = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".old", dir=place.parent))
        place.rename(aside / "content")
    else:
        shutil.rmtree(place)
    place.mkdir()
    return aside


def _left_aside(place: Path) -> Path | None:
    """What a killed process moved aside, where the run that was to replace it has come to nothing."""
    found = [path for path in place.parent.glob(f".{glob.escape(place.name)}.*.old") if path.is_dir()]
    if found and _results(place):
        for path in found:
            shutil.rmtree(path, ignore_errors=True)
        return None
    return next((path for path in found if (path / "content").is_dir()), None)


def _put_back(aside: Path, place: Path) -> None:
    with storage_errors(place):
        shutil.rmtree(place, ignore_errors=True)
        (aside / "content").rename(place)
        aside.rmdir()


def _results(place: Path) -> set[Path]:
    """What a run, or a half of it, could go on from."""
    names = ("checkpoints/epoch-*", "artifact/manifest.json")
    return {path for half in ("", "*/") for name in names for path in place.glob(half + name)}


def _tidy(place: Path) -> None:
    """Remove what a killed process left half written; a folder that it had moved aside is put back."""
    for parent in (place, place / "checkpoints"):
        for left in [*parent.glob(".*.part"), *parent.glob(".*.old")]:
            target = parent / left.name[1:].rsplit(".", 2)[0]
            if left.suffix == ".old" and (left / "content").exists() and not target.exists():
                (left / "content").rename(target)
            shutil.rmtree(left) if left.is_dir() else left.unlink()


@contextmanager
def _restored_if_refused(place: Path) -> Iterator[None]:
    """Give the files in the folder their content again where the run is refused before it has results."""
    before = {path: path.read_bytes() for path in _contents(place) if path.is_file()}
    results = _results(place)
    try:
        yield
    except _REFUSALS:
        for path in _contents(place) if _results(place) == results else ():
            if path.is_file() and path not in before:
                path.unlink()
            elif path.is_file() and path.read_bytes() != before[path]:
                path.write_bytes(before[path])
        raise
