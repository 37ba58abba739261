"""The folder of a leaderboard: the progress of each entry, so that a second run resumes where the first
ended.

    FOLDER/leaderboard.state.json      the data it is about
    FOLDER/NAME/entry.json             digest of the entry's recipe and space
    FOLDER/NAME/search/                the study; `trials/0000.json` for each finished trial
    FOLDER/NAME/chosen.json            the settings that the search found
    FOLDER/NAME/recipe.toml            the same as a whole recipe for 'ncf train' (models of this package)
    FOLDER/NAME/seed-0.json, .npz      figures of one seed, and its values by user
    FOLDER/NAME/seeds/0/               the run itself, with its artifact (models of this package)
    FOLDER/NAME/failed.json            why it failed

In: what was done. Out: the same, read back. The decision worth knowing: every file is written whole, so the
page can be made at any time. Entries that were started with another recipe or on other data are refused and
never mixed in.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ncf.data.files import atomic_file, json_text, storage_errors, write_text
from ncf.errors import ConfigError, StorageError
from ncf.leaderboard.entries import Entry

Values = dict[str, np.ndarray]
_STATE, _LOCK, _EARLIER = "leaderboard.state.json", ".leaderboard.lock", ".leaderboard.old"


@contextmanager
def claimed(folder: Path, data_name: str, data_digest: str, overwrite: bool) -> Iterator[None]:
    """Reserve `folder` for this process, for a leaderboard on the data with this name and digest.

    `overwrite` replaces an earlier leaderboard, which comes back where no search of the new one ends. Raises
    `StorageError` for a folder that holds other files or that another process writes to, and `ConfigError`
    where its leaderboard is about other data.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(folder)  # before a lock file is left in somebody else's folder
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StorageError(
            f"Another 'ncf leaderboard' is writing to {folder}: wait for it, or choose another --output."
        ) from None
    try:
        _refuse_foreign(folder)
        with _set_aside(folder, overwrite):
            _claim(folder, data_name, data_digest)
            yield
    finally:
        lock.release()


@contextmanager
def _set_aside(folder: Path, overwrite: bool) -> Iterator[None]:
    """Keep the earlier leaderboard, which is to be replaced, until the new one has found settings."""
    aside = folder / _EARLIER
    if aside.is_dir() and not _found(folder):  # A killed process left it.
        _put_back(folder, aside)
    with storage_errors(folder):
        shutil.rmtree(aside, ignore_errors=True)
        if overwrite:
            aside.mkdir()
            # The state goes first and comes back last: without it the rest is of the earlier one.
            for path in sorted(_contents(folder), key=lambda path: path.name != _STATE):
                path.rename(aside / path.name)
    try:
        yield
    except BaseException:
        if overwrite and not _found(folder):
            _put_back(folder, aside)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _found(folder: Path) -> bool:
    return (folder / _STATE).exists() and any(folder.glob("*/chosen.json"))


def _put_back(folder: Path, aside: Path) -> None:
    with storage_errors(folder):
        if (folder / _STATE).exists():
            _remove(sorted(_contents(folder), key=lambda path: path.name == _STATE))
        for path in sorted(aside.iterdir(), key=lambda path: path.name == _STATE):
            path.rename(folder / path.name)


def _claim(folder: Path, data_name: str, data_digest: str) -> None:
    known = read(folder / _STATE)
    if known is None:
        write(folder / _STATE, {"name": data_name, "digest": data_digest})
    elif known["digest"] != data_digest:
        raise ConfigError(
            f"The leaderboard in {folder} is about other data ({known['name']}, {known['digest'][:12]}): "
            "choose another --output, or start over with --overwrite."
        )


def _refuse_foreign(folder: Path) -> None:
    if read(folder / _STATE) is None and _contents(folder) and not (folder / _EARLIER).is_dir():
        raise StorageError(
            f"{folder} holds other files and not a leaderboard: choose an empty or a new --output."
        )


def _contents(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name not in (_LOCK, _EARLIER)]


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with storage_errors(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def data_of(folder: Path) -> dict[str, Any]:
    """Name and digest of the data of the leaderboard in `folder`; `ConfigError` where there is none."""
    known = read(folder / _STATE)
    if known is None:
        raise ConfigError(f"There is no leaderboard in {folder} yet: leave out --page-only to start one.")
    return known


class EntryFolder:
    """The files of one entry of the leaderboard in `folder`."""

    def __init__(self, folder: Path, entry: Entry) -> None:
        self.folder = folder / entry.name
        self.entry = entry

    def check(self) -> None:
        """Raise `ConfigError` where it was started with another recipe or space."""
        known = read(self.folder / "entry.json")
        if known is not None and known["digest"] != self.entry.digest():
            raise ConfigError(
                f"{self.entry.name} was started in {self.folder} with another recipe or space: remove that "
                "folder to restart this entry, choose another --output, or restart all entries with "
                "--overwrite."
            )

    def begin(self) -> None:
        """Record its recipe and space."""
        if not (self.folder / "entry.json").exists():
            with storage_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            write(self.folder / "entry.json", {"digest": self.entry.digest(), "title": self.entry.title})

    @property
    def search(self) -> Path:
        """The folder of its study."""
        return self.folder / "search"

    def run(self, seed: int) -> Path:
        """The folder of the run with this seed."""
        return self.folder / "seeds" / str(seed)

    def chosen(self) -> dict[str, Any] | None:
        """The result of its search (settings, validation figure, trials); None before the search ends."""
        return read(self.folder / "chosen.json")

    def choose(self, chosen: dict[str, Any]) -> None:
        """Keep the result of its search."""
        write(self.folder / "chosen.json", chosen)

    def keep_recipe(self, toml: str) -> None:
        """Keep the chosen recipe as TOML, for 'ncf train'."""
        with storage_errors(self.folder):
            write_text(self.folder / "recipe.toml", toml)

    def final(self, seed: int) -> dict[str, Any] | None:
        """The figures of a seed; None unless they were obtained with the settings that are chosen now."""
        figures = read(self.folder / f"seed-{seed}.json")
        chosen = self.chosen()
        return figures if figures and chosen and figures["digest"] == chosen["digest"] else None

    def finish(self, seed: int, figures: dict[str, Any], values: Values) -> None:
        """Keep the figures of a seed and its values by user.

        The values are written first, so figures never exist without them.
        """
        target = self.folder / f"seed-{seed}.npz"
        with storage_errors(target), atomic_file(target) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **values)
        write(self.folder / f"seed-{seed}.json", figures)

    def values(self, seed: int) -> Values:
        """Each measure of a seed by user: [V]."""
        with np.load(self.folder / f"seed-{seed}.npz") as stored:
            return {name: stored[name] for name in stored.files}

    def failure(self) -> str:
        """Why it failed; empty if it did not."""
        failed = read(self.folder / "failed.json")
        return str(failed["reason"]) if failed else ""

    def fail(self, reason: str) -> None:
        """Keep the reason why it failed."""
        write(self.folder / "failed.json", {"reason": reason})

    def clear_failure(self) -> None:
        """Remove the reason, because it is tried again."""
        (self.folder / "failed.json").unlink(missing_ok=True)

    def clear_search(self) -> None:
        """Remove its study, because what it is made of has changed."""
        if self.search.exists():
            _remove([self.search])


def started_entries(folder: Path, entries: Sequence[Entry]) -> list[Entry]:
    """Those of `entries` that were started in `folder` with the recipe and space that they have now."""
    known = {entry.name: read(folder / entry.name / "entry.json") for entry in entries}
    return [entry for entry in entries if (known[entry.name] or {}).get("digest") == entry.digest()]


def read(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where there is no file. Raises `StorageError` for a file that cannot be
    read.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path} cannot be read ({error}): delete it, and its part is run again."
        ) from None
    assert isinstance(document, dict)
    return document


def write(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    with atomic_file(path) as temporary:
        write_text(temporary, json_text(values, 2, ascii=False) + "\n")
