"""What a baseline is: a name, settings with defaults and bounds, and a fit that returns a scorer.

In: training interactions and settings by name. Out: a `FittedBaseline`. The decision worth knowing: on one
machine a seed gives bit-identical scores for any number of threads. Each fit works in parts of fixed size, or
adds whole numbers only, or runs on one thread; `ncf.runtime.workers` keeps torch to one thread a part.

Legend: U users, I items.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import csr_matrix

from ncf.data import Csr
from ncf.errors import ConfigError
from ncf.evaluation.ranking import Scorer
from ncf.runtime import Workers

Settings = dict[str, Any]
LinAlgError: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]


class FittedBaseline(Scorer, Protocol):
    """A scorer that knows its size. Scores are float32, and the caller may overwrite them."""

    @property
    def bytes(self) -> int:
        """Size of the arrays that scoring needs."""


FitFunction = Callable[[Csr, int, Settings, int, Workers], FittedBaseline]


@dataclass(frozen=True)
class Baseline:
    """A model with its settings."""

    name: str
    """On the command line and in files."""
    title: str
    """In tables for people."""
    source: str
    """The paper."""
    fitting: FitFunction = field(repr=False)
    defaults: Mapping[str, float | int] = field(default_factory=dict)
    """Every setting."""
    space: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """The settings worth tuning, each as in a line of a space file: {low, high, log, step} or {values}."""
    seeded: bool = False
    """Whether the fit depends on the seed."""
    weighs: bool = True
    """Whether the fit knows the weights of interactions; else data with weights are refused."""
    timed: bool = False
    """Whether it needs times."""
    needs: tuple[str, ...] = ()
    """Modules of the extra `evaluate`."""

    def fit(
        self, train: Csr, items: int, settings: Mapping[str, Any], seed: int, workers: Workers
    ) -> FittedBaseline:
        """Fit to the interactions `train` [U] over a catalogue of `items`.

        `settings` replaces defaults, `seed` decides every random draw, and `workers` are the threads to use.
        Raises `ConfigError` for an unknown or invalid setting, for data that are too large for the method or
        `lack` what it needs, and where a package that the method needs is missing.
        """
        complete = self.settings(settings)
        if lack := self.lack(train.weights is not None, train.timestamps is not None):
            raise ConfigError(f"{self.title} {lack}: leave it out (--skip {self.name}).")
        try:
            return self.fitting(train, items, complete, seed, workers)
        except LinAlgError:
            raise ConfigError(
                f"{self.title} has no solution with l2 = {complete['l2']:g} on these data: raise l2."
            ) from None

    def lack(self, weighted: bool, timed: bool) -> str:
        """Why it cannot be fitted to data that have weights or times, or not; empty where it can be."""
        if weighted and not self.weighs:
            return "does not know the weights of these data"
        return "needs times, which these data do not have" if self.timed and not timed else ""

    def settings(self, given: Mapping[str, Any]) -> Settings:
        """The defaults updated with `given`, in the defaults' types. Raises `ConfigError` for a bad one."""
        for name in given:
            if name not in self.defaults:
                known = ", ".join(self.defaults) or "none"
                raise ConfigError(f"{self.title} has no setting {name!r}: it has {known}.")
        return {
            name: self._admitted(name, given.get(name, default)) for name, default in self.defaults.items()
        }

    def _admitted(self, name: str, value: Any) -> float | int:
        """The value in its default's type; whole numbers start at 1, others at 0."""
        whole = isinstance(self.defaults[name], int)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < whole or (whole and value != int(value)):
            wanted = "a whole number of 1 or more" if whole else "a number of 0 or more"
            raise ConfigError(f"{name} = {value!r} is not valid for {self.title}: give {wanted}.")
        return int(value) if whole else float(value)


def sparse_rows(train: Csr, items: int) -> Any:
    """`train` as a `scipy.sparse.csr_matrix` [U, `items`] of float32 ones, or of `Csr.values` if weighted."""
    return csr_matrix((train.values, train.columns, train.offsets), shape=(train.users, items))


def squared(rows: Any) -> Any:
    """A sparse matrix of squares, in the form of `rows`; the places are shared."""
    return type(rows)((rows.data**2, rows.indices, rows.indptr), shape=rows.shape)


def uses(train: Csr, items: int) -> npt.NDArray[Any]:
    """[`items`]: how many interactions each item has, or the sum of their `Csr.values` if weighted."""
    weights = None if train.weights is None else train.values
    return np.bincount(train.columns, weights, minlength=items)


def users_by_item(train: Csr, items: int) -> Csr:
    """The transpose of `train`: `offsets` [`items` + 1], and as `columns` each item's users, ascending."""
    offsets = np.zeros(items + 1, np.int64)
    np.cumsum(np.bincount(train.columns, minlength=items), out=offsets[1:])
    users = np.repeat(np.arange(train.users, dtype=np.int32), train.counts)
    order = np.argsort(train.columns, kind="stable")
    return Csr(offsets, users[order], None if train.weights is None else train.weights[order])


def spans_by_cost(cost_R: npt.NDArray[Any], at_once: int) -> list[slice]:
    """Contiguous spans that cover the rows, each of about `at_once` units of cost, or of one row.

    `cost_R` [R] is what each row costs, more than zero.
    """
    passed = np.concatenate([[0], np.cumsum(cost_R)])
    wanted = np.append(np.arange(0, passed[-1], at_once), passed[-1])
    return [slice(*ends) for ends in pairwise(np.unique(np.searchsorted(passed, wanted)).tolist())]
