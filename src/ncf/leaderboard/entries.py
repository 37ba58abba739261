"""Who takes part: models of this package, read from TOML files, and the baselines.

In: a folder of TOML files, one a contender, and `ncf.baselines.BASELINES`. Out: `Entry`s in the order in
which they are tuned, those that others are made of first. The decision worth knowing: a contender is data. A new file in
the folder is a new contender, and no line of code names a model.

    title = "GMF"
    source = "He et al., WWW'17"
    order = 10
    [recipe.model]
    kind = "gmf"
    [recipe.train]
    epochs = 2
    [space]
    "train.learning_rate" = { low = 3e-4, high = 1e-2, log = true }

`halves = { gmf = "gmf", mlp = "mlp" }` names the contenders whose tuned models a pre-trained NeuMF is fused from.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ncf.baselines import BASELINES, Baseline
from ncf.config import Experiment
from ncf.errors import ConfigError
from ncf.tuning import Space

_KEYS = {"title", "source", "order", "recipe", "space", "halves"}
_HALVES = ("gmf", "mlp")


@dataclass(frozen=True)
class Entry:
    """One that is tuned, trained and judged.

    `recipe` is that of a model of this package, without data and seed, and None for a baseline, which has `baseline`.
    `space` is what the search varies, in the form of a space file; where it is empty there is one trial.
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
        """sha256 over what decides its result, apart from the data and the number of trials."""
        decides = {
            "recipe": self.recipe,
            "space": self.space,
            "halves": dict(self.halves),
            "defaults": dict(self.baseline.defaults) if self.baseline else None,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def entries(
    folder: str | Path | None = None, only: Sequence[str] = (), skip: Sequence[str] = ()
) -> list[Entry]:
    """All that take part: of `only` (with the halves that they need), without `skip`.

    Raises `ConfigError` for a name that is none, a file that is not valid, and where nobody is left.
    """
    known = {one.name: one for one in [*_models(_folder(folder)), *_baselines()]}
    for name in [*only, *skip]:
        if name not in known:
            raise ConfigError(f"{name!r} is no contender: {', '.join(known)} are.")
    wanted = list(only) or list(known)
    chosen = {name for name in wanted if name not in skip}
    needed = set[str]()
    while missing := {half for name in chosen | needed for half in _halves_of(known[name], known)} - needed:
        needed |= missing
    dropped = sorted(needed & set(skip))
    if dropped:
        raise ConfigError(
            f"{dropped[0]} cannot be skipped while one that is made of it takes part: skip that as well."
        )
    found = sorted(
        (known[name] for name in chosen | needed), key=lambda one: (_depth(one, known), one.order, one.name)
    )
    if not found:
        raise ConfigError("Nobody takes part: give fewer names to --skip.")
    return found


def _depth(contender: Entry, known: Mapping[str, Entry]) -> int:
    """How many must be there before it can be made."""
    return 1 + max((_depth(known[half], known) for half in contender.halves.values()), default=-1)


def _halves_of(contender: Entry, known: Mapping[str, Entry]) -> list[str]:
    for half in contender.halves.values():
        if half not in known or known[half].recipe is None:
            raise ConfigError(f"{contender.name}: its half {half!r} is no model that takes part.")
    return list(contender.halves.values())


def _folder(folder: str | Path | None) -> Path:
    """The folder that is given, or the package's own."""
    if folder is not None:
        if not Path(folder).is_dir():
            raise ConfigError(f"There is no folder of contenders {folder}: check the path.")
        return Path(folder)
    return Path(__file__).parent / "recipes"


def _models(folder: Path) -> list[Entry]:
    return [_read(path) for path in sorted(folder.glob("*.toml"))]


def _read(path: Path) -> Entry:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"The contender {path} cannot be read ({error}): mend the file.") from None
    unknown = sorted(set(values) - _KEYS)
    if unknown or "recipe" not in values:
        wrong = f"has {unknown[0]!r}" if unknown else "has no [recipe]"
        raise ConfigError(f"The contender {path} {wrong}: it takes {', '.join(sorted(_KEYS))}.")
    halves = values.get("halves", {})
    if halves and set(halves) != set(_HALVES):
        raise ConfigError(f"The contender {path}: halves names a gmf and an mlp.")
    contender = Entry(
        path.stem, values.get("title", path.stem), values.get("source", ""), values.get("space", {}),
        {"name": path.stem, **values["recipe"]}, halves, None, values.get("order", 50),
    )  # fmt: skip
    if not halves:
        space_of(contender, Experiment.parse(contender.recipe or {}, source=str(path)))
    return contender


def _baselines() -> list[Entry]:
    return [
        Entry(one.name, one.title, one.source, one.space, baseline=one, order=100 + place)
        for place, one in enumerate(BASELINES.values())
    ]


def space_of(contender: Entry, recipe: Experiment | None = None) -> Space:
    """What its search varies; may be empty. Raises `ConfigError` for a setting that there is not."""
    if not contender.space:
        return Space(())
    if contender.baseline is not None:
        return Space.of_defaults(contender.space, contender.baseline.defaults, contender.name)
    space = Space.parse(contender.space, contender.name)
    if recipe is not None:
        space.check(recipe)
    return space
