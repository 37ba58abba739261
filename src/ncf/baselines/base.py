"""What a baseline is: a name, settings with defaults and bounds, and a fit that gives a scorer.

In: training interactions and settings by name. Out: a `FittedBaseline`. The decision worth knowing: a fit is cut into parts
of fixed size, or sums whole numbers only, or runs on one thread; so under `ncf.runtime.workers`, which keeps torch to one
thread a part, a seed gives the same scores to the bit on any number of threads of one machine.
"""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ncf.data import Csr
from ncf.errors import ConfigError
from ncf.evaluation.ranking import Scorer
from ncf.runtime import Workers

Settings = dict[str, Any]


class FittedBaseline(Scorer, Protocol):
    """A scorer that knows its size. Scores are float32 and belong to the caller, who may overwrite them."""

    @property
    def bytes(self) -> int:
        """Of the arrays that scoring needs."""


FitResult = Callable[[Csr, int, Settings, int, Workers], FittedBaseline]


@dataclass(frozen=True)
class Baseline:
    """A model with its settings.

    `title` is for people, `source` the paper. `defaults` holds every setting; `space` those worth tuning, each in the form
    of a line of a space file ({low, high, log, step} or {values}). `seeded`: whether the fit depends on the seed.
    """

    name: str
    title: str
    source: str
    fitting: FitResult = field(repr=False)
    defaults: Mapping[str, float | int] = field(default_factory=dict)
    space: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    seeded: bool = False

    def fit(
        self, train: Csr, items: int, settings: Mapping[str, Any], seed: int, workers: Workers
    ) -> FittedBaseline:
        """Fit to `train`; `items` is the size of the catalogue. Settings that are not given have their defaults.

        Raises `ConfigError` for a setting that does not exist or cannot be, for data too large for the method, and
        where a package that the method needs is missing.
        """
        complete = self.settings(settings)
        try:
            return self.fitting(train, items, complete, seed, workers)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            raise ConfigError(
                f"{self.title} has no solution with l2 = {complete['l2']:g} on these data: raise l2."
            ) from None

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """The defaults with `given` in their place, of the defaults' types; raises `ConfigError`."""
        for name in given:
            if name not in self.defaults:
                known = ", ".join(self.defaults) or "none"
                raise ConfigError(f"{self.title} has no setting {name!r}: it has {known}.")
        return {
            name: self._admitted(name, given.get(name, default)) for name, default in self.defaults.items()
        }

    def _admitted(self, name: str, value: Any) -> float | int:
        """Whole numbers start at 1, others at 0."""
        whole = isinstance(self.defaults[name], int)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < whole or (whole and value != int(value)):
            wanted = "a whole number of 1 or more" if whole else "a number of 0 or more"
            raise ConfigError(f"{name} = {value!r} of {self.title} cannot be: give {wanted}.")
        return int(value) if whole else float(value)


def optional(module: str) -> Any:
    """A module of the extra `judge`; raises `ConfigError` where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise ConfigError(f"This baseline needs the package {package}: pip install 'ncf[judge]'.") from None


def dense_rows(train: Csr, items: int, part: slice) -> Tensor:
    """[users of the part, I] float32 of zeros and ones."""
    offsets = train.offsets[part.start : part.stop + 1]
    columns = train.columns[offsets[0] : offsets[-1]].astype(np.int64)
    rows = np.repeat(np.arange(part.stop - part.start), np.diff(offsets))
    dense = torch.zeros(part.stop - part.start, items)
    dense[torch.from_numpy(rows), torch.from_numpy(columns)] = 1.0
    return dense


def sparse_rows(train: Csr, items: int) -> Any:
    """A `scipy.sparse.csr_matrix` [U, I], float32 ones."""
    ones = np.ones(len(train.columns), np.float32)
    return optional("scipy.sparse").csr_matrix(
        (ones, train.columns, train.offsets), shape=(train.users, items)
    )


def users_by_item(train: Csr, items: int) -> Csr:
    """The transpose: `offsets` [I + 1], and in `columns` the users of each item, ascending."""
    offsets = np.zeros(items + 1, np.int64)
    np.cumsum(np.bincount(train.columns, minlength=items), out=offsets[1:])
    users = np.repeat(np.arange(train.users, dtype=np.int32), train.counts)
    return Csr(offsets, users[np.argsort(train.columns, kind="stable")])
