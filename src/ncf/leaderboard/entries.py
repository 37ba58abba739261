"""The entries of a leaderboard: models of this package, read from TOML files, and the baselines.

In: a folder of TOML files, one for each entry, and `ncf.baselines.BASELINES`. Out: `Entry`s in the order in
which they are tuned; entries that others are made of come first. The decision worth knowing: an entry is
data. A new file in the folder is a new entry, and no line of code names a model.

    title = "GMF"
    source = "He et al., WWW'17"
    order = 10
    [recipe.model]
    kind = "gmf"
    [recipe.train]
    epochs = 2
    [space]
    "train.learning_rate" = { low = 3e-4, high = 1e-2, log = true }

`halves = { gmf = "gmf", mlp = "mlp" }` names the entries whose tuned models a pre-trained NeuMF is fused
from.
"""

import hashlib
import json
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ncf.baselines import BASELINES, Baseline
from ncf.config import Experiment
from ncf.data import Dataset
from ncf.errors import ConfigError
from ncf.tuning import Space

_KEYS = {"title", "source", "order", "recipe", "space", "halves"}
_HALVES = ("gmf", "mlp")


@dataclass(frozen=True)
class Entry:
    """A model that is tuned, trained and evaluated.

    A model of this package has a `recipe` without data and seed, a baseline has `baseline`. `space` is what
    the search varies, in the form of a space file; an empty one means one trial. `halves` are the entries
    that a fused model is made of, and `order` decides which entry is tuned first.
    """

    name: str
    title: str
    source: str
    space: Mapping[str, Any]
    recipe: Mapping[str, Any] | None = None
    halves: Mapping[str, str] = field(default_factory=dict)
    baseline: Baseline | None = None
    order: int = 100

    @property
    def seeded(self) -> bool:
        """Whether seeds change the result."""
        return self.baseline is None or self.baseline.seeded

    def digest(self) -> str:
        """sha256 of what determines its result, apart from the data and the number of trials."""
        determines = {
            "recipe": self.recipe,
            "space": self.space,
            "halves": dict(self.halves),
            "defaults": dict(self.baseline.defaults) if self.baseline else None,
        }
        return hashlib.sha256(json.dumps(determines, sort_keys=True).encode()).hexdigest()


def entries(
    folder: str | Path | None = None, only: Sequence[str] = (), skip: Sequence[str] = ()
) -> list[Entry]:
    """The entries of `folder` (by default the package's) and the baselines, in the order in which they are
    tuned.

    `only` names the entries to keep, to which the halves they need are added; `skip` names those to leave
    out. Raises `ConfigError` for an unknown name, a file that is not valid, and where no entry is left.
    """
    known = {entry.name: entry for entry in [*_models(_folder(folder)), *_baselines()]}
    for name in [*only, *skip]:
        if name not in known:
            raise ConfigError(f"There is no entry {name!r}; the entries are {', '.join(known)}.")
    wanted = list(only) or list(known)
    chosen = {name for name in wanted if name not in skip}
    needed = set[str]()
    while missing := {half for name in chosen | needed for half in _halves_of(known[name], known)} - needed:
        needed |= missing
    dropped = sorted(needed & set(skip))
    if dropped:
        raise ConfigError(
            f"{dropped[0]} cannot be skipped because another entry is made of it: skip that entry too."
        )
    kept = [known[name] for name in chosen | needed]
    if not kept:
        raise ConfigError("No entries are left to run: pass fewer names to --skip.")
    return sorted(kept, key=lambda entry: (_depth(entry, known), entry.order, entry.name))


def fitting_entries(
    chosen: Sequence[Entry], dataset: Dataset, named: Collection[str] = ()
) -> tuple[list[Entry], list[str]]:
    """Those of the `chosen` entries that can be fitted to `dataset`, and a sentence on each of the others.

    Entries that are `named` stay: they fail with their own sentence.
    """
    train, kept, left_out = dataset.train, [], []
    for entry in chosen:
        baseline = entry.baseline
        lack = baseline.lack(train.weights is not None, train.timestamps is not None) if baseline else ""
        if lack and entry.name not in named:
            left_out.append(f"{entry.title} is left out: it {lack}.")
        else:
            kept.append(entry)
    return kept, left_out


def _depth(entry: Entry, known: Mapping[str, Entry]) -> int:
    """The length of the longest chain of entries that it is made of."""
    return 1 + max((_depth(known[half], known) for half in entry.halves.values()), default=-1)


def _halves_of(entry: Entry, known: Mapping[str, Entry]) -> list[str]:
    for half in entry.halves.values():
        if half not in known or known[half].recipe is None:
            raise ConfigError(f"{entry.name}: its half {half!r} is not a model of this leaderboard: add it.")
    return list(entry.halves.values())


def _folder(folder: str | Path | None) -> Path:
    """The folder that is given, or the package's own."""
    if folder is not None:
        if not Path(folder).is_dir():
            raise ConfigError(f"There is no folder of entries {folder}: check the path.")
        return Path(folder)
    return Path(__file__).parent / "recipes"


def _models(folder: Path) -> list[Entry]:
    return [_read(path) for path in sorted(folder.glob("*.toml"))]


def _read(path: Path) -> Entry:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"The entry {path} cannot be read ({error}): correct the file.") from None
    unknown = sorted(set(values) - _KEYS)
    if unknown or "recipe" not in values:
        wrong = f"has {unknown[0]!r}" if unknown else "has no [recipe]"
        raise ConfigError(f"The entry {path} {wrong}: it takes {', '.join(sorted(_KEYS))}.")
    halves = values.get("halves", {})
    if halves and set(halves) != set(_HALVES):
        raise ConfigError(f"The entry {path}: halves must name a gmf and an mlp.")
    title, source, space = values.get("title", path.stem), values.get("source", ""), values.get("space", {})
    recipe = {"name": path.stem, **values["recipe"]}
    entry = Entry(path.stem, title, source, space, recipe, halves, order=values.get("order", 50))
    if not halves:
        space_of(entry, Experiment.parse(entry.recipe or {}, source=str(path)))
    return entry


def _baselines() -> list[Entry]:
    return [
        Entry(
            baseline.name,
            baseline.title,
            baseline.source,
            baseline.space,
            baseline=baseline,
            order=100 + number,
        )
        for number, baseline in enumerate(BASELINES.values())
    ]


def space_of(entry: Entry, recipe: Experiment | None = None) -> Space:
    """What the search of `entry` varies, which may be nothing.

    The names are checked against `recipe`, where it is given. Raises `ConfigError` for an unknown setting.
    """
    if not entry.space:
        return Space(())
    if entry.baseline is not None:
        return Space.of_defaults(entry.space, entry.baseline.defaults, entry.name)
    space = Space.parse(entry.space, entry.name)
    if recipe is not None:
        space.check(recipe)
    return space
