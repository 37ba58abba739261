"""The folder of a leaderboard: who has got how far, so that a second run goes on where the first ended.

    FOLDER/leaderboard.state.json      which data it is about
    FOLDER/NAME/contender.json         digest of the contender's recipe and space
    FOLDER/NAME/search/                the study; `trials/0000.json` for each trial that is over
    FOLDER/NAME/chosen.json            the settings that the search found
    FOLDER/NAME/recipe.toml            the same as a whole recipe for 'ncf train' (models of this package)
    FOLDER/NAME/seed-0.json, .npz      figures of one seed, and its values user by user
    FOLDER/NAME/seeds/0/               the run itself, with its artifact (models of this package)
    FOLDER/NAME/failed.json            why it failed

In: what happened. Out: the same again. The decision worth knowing: whatever is there was written whole, so that the page
can be made from it at any time; what was begun with another recipe or on other data is refused, never mixed in.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from ncf.data.files import atomic_file, storage_errors, write_text
from ncf.errors import ConfigError, StorageError
from ncf.leaderboard.entries import Entry

Values = dict[str, np.ndarray]
_STATE, _LOCK = "leaderboard.state.json", ".leaderboard.lock"


@contextmanager
def claimed(folder: Path, data_name: str, data_digest: str, overwrite: bool) -> Iterator[None]:
    """Keep the folder for this process, as one of a leaderboard on these data.

    Raises `StorageError` for a folder that holds other files or that another process writes to, and `ConfigError` where the
    leaderboard in it is about other data.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _refuse_foreign(folder)  # before a lock is laid into somebody else's folder
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StorageError(
            f"Another 'ncf leaderboard' is writing to {folder}: wait for it, or choose another --output."
        ) from None
    try:
        _claim(folder, data_name, data_digest, overwrite)
        yield
    finally:
        lock.release()


def _claim(folder: Path, data_name: str, data_digest: str, overwrite: bool) -> None:
    known = read(folder / _STATE)
    _refuse_foreign(folder)
    if known is not None and overwrite:
        _remove(_contents(folder))
        known = None
    if known is None:
        write(folder / _STATE, {"name": data_name, "digest": data_digest})
    elif known["digest"] != data_digest:
        raise ConfigError(
            f"The leaderboard in {folder} is about other data ({known['name']}, {known['digest'][:12]}): choose another "
            "--output, or --overwrite to begin anew."
        )


def _refuse_foreign(folder: Path) -> None:
    if read(folder / _STATE) is None and _contents(folder):
        raise StorageError(
            f"{folder} holds other files and is no leaderboard: choose an empty or a new --output."
        )


def _contents(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name != _LOCK]


def _remove(paths: list[Path]) -> None:
    for path in paths:
        with storage_errors(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def data_of(folder: Path) -> dict[str, Any]:
    """Name and digest of the data that the leaderboard is about; raises `ConfigError` where there is none."""
    known = read(folder / _STATE)
    if known is None:
        raise ConfigError(f"There is no leaderboard in {folder} yet: leave out --page-only to begin one.")
    return known


class EntryFolder:
    """What is known of one contender: its part of the folder."""

    def __init__(self, folder: Path, contender: Entry) -> None:
        self.folder = folder / contender.name
        self.contender = contender

    def check(self) -> None:
        """Raise `ConfigError` where it was begun with another recipe or space; else note with which."""
        digest = self.contender.digest()
        known = read(self.folder / "contender.json")
        if known is not None and known["digest"] != digest:
            raise ConfigError(
                f"{self.contender.name} was begun in {self.folder} with another recipe or space: remove that folder to begin "
                "this one anew, choose another --output, or --overwrite to begin all of them anew."
            )
        if known is None:
            with storage_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
            write(self.folder / "contender.json", {"digest": digest, "title": self.contender.title})

    @property
    def search(self) -> Path:
        return self.folder / "search"

    def run(self, seed: int) -> Path:
        """Where the run of a seed lies."""
        return self.folder / "seeds" / str(seed)

    def chosen(self) -> dict[str, Any] | None:
        """What the search found: settings, validation figure, trials; None before it has."""
        return read(self.folder / "chosen.json")

    def choose(self, found: dict[str, Any]) -> None:
        """Keep what the search found."""
        write(self.folder / "chosen.json", found)

    def keep_recipe(self, toml: str) -> None:
        """The chosen recipe, for 'ncf train'."""
        with storage_errors(self.folder):
            write_text(self.folder / "recipe.toml", toml)

    def final(self, seed: int) -> dict[str, Any] | None:
        """The figures of a seed, if they were made with the settings that are chosen now."""
        found = read(self.folder / f"seed-{seed}.json")
        chosen = self.chosen()
        return found if found and chosen and found["digest"] == chosen["digest"] else None

    def finish(self, seed: int, figures: dict[str, Any], values: Values) -> None:
        """Keep the figures of a seed; the values come first, so that figures are never without them."""
        target = self.folder / f"seed-{seed}.npz"
        with storage_errors(target), atomic_file(target) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **values)
        write(self.folder / f"seed-{seed}.json", figures)

    def values(self, seed: int) -> Values:
        """Each measure of a seed, user by user: [V]."""
        with np.load(self.folder / f"seed-{seed}.npz") as stored:
            return {name: stored[name] for name in stored.files}

    def failure(self) -> str:
        """Why it failed, or nothing."""
        found = read(self.folder / "failed.json")
        return str(found["reason"]) if found else ""

    def fail(self, reason: str) -> None:
        """Keep why it failed."""
        write(self.folder / "failed.json", {"reason": reason})

    def clear_failure(self) -> None:
        """It is tried once more."""
        (self.folder / "failed.json").unlink(missing_ok=True)

    def forget_search(self) -> None:
        """Begin its search anew: what it is made of has changed."""
        _remove([path for path in (self.search,) if path.exists()])


def begun(folder: Path, everyone: Sequence[Entry]) -> list[Entry]:
    """Those whom the folder knows, with the recipe and space that they have now."""
    return [
        one
        for one in everyone
        if (known := read(folder / one.name / "contender.json")) is not None
        and known["digest"] == one.digest()
    ]


def read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path} cannot be read ({error}): delete it, and that part is done again."
        ) from None
    assert isinstance(found, dict)
    return found


def write(path: Path, values: dict[str, Any]) -> None:
    """A JSON object, whole or not at all."""
    with storage_errors(path):
        write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
