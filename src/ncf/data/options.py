"""What a caller can decide about the preparation of a data set.

In: keywords, or what the command line collected. Out: `PrepareOptions`, checked. The decision worth knowing:
"auto" validation holds out as the test does; for a published split without usable times it takes one
random item a user.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from ncf.data.columns import ColumnNames, Needs
from ncf.data.formats import Format
from ncf.errors import ConfigError

Split = Literal["last", "random", "time", "none"]
Validation = Literal["auto", "last", "random", "none"]
Repeats = Literal["latest", "sum"]


@dataclass(frozen=True)
class PrepareOptions:
    """Columns (None: guessed), filters, split and candidate lists.

    `user`, `item`, `time`, `rating`: names in the file; `weight`: a column to keep as weight of each
    interaction; `event`: a column of types, each with a weight in `event_weights`, which multiplies that of
    the row, and 0 leaves its rows out. `repeats`: of a repeated pair the "latest" row counts, with its weight
    or the "sum" of all. `no_time`, `no_rating`: guess no such column. `encoding`: of text files, by default
    UTF-8.
    `min_rating`: lower ratings are dropped, after duplicates; `min_user`, `min_item`: the k-core. `split`:
    "last" and "random" hold one item a user out, "time" the last `test_fraction` of all time, "none" nothing.
    `validation_fraction`: of all time, or of each user's items where the test has no lists. `negatives`: a
    candidate list has this many besides the positive. `items_file`: a table with titles and other columns for
    display, joined by `items_id`.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    weight: str | None = None
    event: str | None = None
    event_weights: Mapping[str, float] = field(default_factory=dict)
    repeats: Repeats = "latest"
    format: Format | None = None
    delimiter: str | None = None
    header: bool | None = None
    encoding: str | None = None
    no_time: bool = False
    no_rating: bool = False
    min_user: int = 1
    min_item: int = 1
    min_rating: float | None = None
    split: Split = "last"
    validation: Validation = "auto"
    validation_popularity_exponent: float = 0.0
    test_fraction: float = 0.1
    validation_fraction: float = 0.1
    negatives: int = 99
    seed: int = 0
    drop_unknown_users: bool = False
    items_file: str | None = None
    items_id: str | None = None

    def __post_init__(self) -> None:
        _one_of("split", self.split, ("last", "random", "time", "none"))
        _one_of("validation", self.validation, ("auto", "last", "random", "none"))
        _one_of("repeats", self.repeats, ("latest", "sum"))
        _refuse_event_weights(self.event, self.event_weights)
        if self.format is not None:
            _one_of("format", self.format, ("csv", "parquet", "jsonl", "movielens", "lines"))
        if self.delimiter == "":
            raise ConfigError("--delimiter must not be empty.")
        for purpose in ("time", "rating"):
            if getattr(self, purpose) is not None and getattr(self, f"no_{purpose}"):
                raise ConfigError(
                    f"--{purpose} names a column and --no-{purpose} leaves it out: give one of the two."
                )
        _at_least("negatives", self.negatives, 1)
        _at_least("min-user", self.min_user, 1)
        _at_least("min-item", self.min_item, 1)
        _at_least("seed", self.seed, 0)
        if not 0 < self.test_fraction < 1 or not 0 < self.validation_fraction < 1 - self.test_fraction:
            raise ConfigError("The test and validation fractions must be above 0 and together below 1.")

    @property
    def columns(self) -> ColumnNames:
        """The names of the columns that the caller gave."""
        left_out = {"time": self.no_time, "rating": self.no_rating}
        without = frozenset(purpose for purpose, given in left_out.items() if given)
        counted = self.repeats == "sum"
        return ColumnNames(
            self.user, self.item, self.time, self.rating, self.weight, without, self.event,
            self.event_weights, counted,
        )  # fmt: skip

    @property
    def needs(self) -> Needs:
        """Which columns the split and the filters need."""
        return Needs(
            "last" in (self.split, self.validation) or self.split == "time", self.min_rating is not None
        )

    def as_json(self) -> dict[str, Any]:
        """All options that differ from their default, for the description of the data set."""
        defaults = asdict(PrepareOptions())
        return {key: value for key, value in asdict(self).items() if value != defaults[key]}


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"--{name} must be one of {', '.join(allowed)}, not '{value}'.")


def _refuse_event_weights(event: str | None, weights: Mapping[str, float]) -> None:
    """Raise `ConfigError` unless the weights are 0 or more, one is not 0, and a column is named for them."""
    if weights and event is None:
        raise ConfigError("--event-weight says what types of events weigh: name their column with --event.")
    for kind, weight in weights.items():
        if isinstance(weight, bool) or not math.isfinite(weight) or weight < 0:
            raise ConfigError(f"--event-weight {kind}={weight} must be a number of 0 or more.")
    if weights and not any(weights.values()):
        raise ConfigError("Every --event-weight is 0, which leaves no row: give one type a larger weight.")


def read_event_weights(texts: Iterable[str]) -> dict[str, float]:
    """Type -> weight, from texts such as `purchase=3`; raises `ConfigError` for others."""
    weights: dict[str, float] = {}
    for text in texts:
        kind, _, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not kind or math.isnan(weight):
            raise ConfigError(f"--event-weight {text} is not TYPE=NUMBER, such as purchase=3.")
        if kind in weights:
            raise ConfigError(f"--event-weight gives '{kind}' two weights: leave one out.")
        weights[kind] = weight
    return weights


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"--{name} must be {least} or more, not {value}.")


def read_options(values: Mapping[str, str]) -> dict[str, Any]:
    """Values of `PrepareOptions` from texts; raises `ConfigError` for an unknown name or a wrong value."""
    kinds = {field.name: str(field.type) for field in fields(PrepareOptions)}
    read: dict[str, Any] = {}
    for name, text in values.items():
        refuse_unknown(name)
        read[name] = read_value(name, text, kinds[name])
    PrepareOptions(**read)
    return read


def refuse_unknown(name: str) -> None:
    """Raise `ConfigError` that names the nearest option where there is none of this name."""
    known = [field.name for field in fields(PrepareOptions)]
    if name not in known:
        near = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"its options are {', '.join(known)}."
        raise ConfigError(f"{name} is not an option of the preparation; {hint}")


def read_value(name: str, text: str, kind: str) -> Any:
    """The value of the option `name` from its `text`; `kind` begins with bool, int, float or str."""
    if kind.startswith("Mapping"):
        return read_event_weights(text.split(","))
    if kind.startswith("bool"):
        if text not in ("true", "false"):
            raise ConfigError(f"{name} must be true or false, not {text!r}.")
        return text == "true"
    try:
        return int(text) if kind.startswith("int") else float(text) if kind.startswith("float") else text
    except ValueError:
        raise ConfigError(f"{name} must be a number, not {text!r}.") from None
