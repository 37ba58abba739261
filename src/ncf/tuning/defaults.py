"""The recipe to start with on a data set, chosen by the shape of the data, with a reason for each choice.

In: a `DataShape`. Out: a `Suggestion`: the settings that differ from the defaults, and why. The decision
worth knowing: the rule is a pure function of the shape, and every number of it is in this file. It follows
what won in docs/accuracy.md and docs/which-model.md; no search is done.

Legend: I items.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ncf.config import Experiment
from ncf.data import Dataset

_DENSE = 100
"""Training interactions a user from which a tower may learn what the start does not know (ML-1M has 165)."""
_LARGE = 5_000_000
"""Training interactions from which large steps cost no accuracy."""


@dataclass(frozen=True)
class DataShape:
    """What the rule looks at; interactions are those of training."""

    users: int
    items: int
    interactions: int
    per_user: float
    """Mean of the users who have any."""
    per_item: float
    """Mean of the items that have any."""
    skew: float
    """Share of the interactions that are of the most popular tenth of the items."""
    density: float
    times: bool
    validation: int
    """Held-out validation rows."""

    @classmethod
    def of(cls, dataset: Dataset) -> "DataShape":
        """The shape of a prepared data set."""
        counts_I = np.sort(dataset.popularity)[::-1]
        rows, users, items = len(dataset.train), len(dataset.users), len(dataset.items)
        active = int((dataset.train.user_counts(users) > 0).sum())
        return cls(
            users,
            items,
            rows,
            rows / max(1, active),
            rows / max(1, int((counts_I > 0).sum())),
            float(counts_I[: -(-items // 10)].sum()) / max(1, rows),
            rows / max(1, users * items),
            dataset.train.timestamps is not None,
            len(dataset.validation),
        )

    def to_json(self) -> dict[str, Any]:
        """The numbers by name."""
        return asdict(self)

    @property
    def line(self) -> str:
        """The shape in one line."""
        return (
            f"{self.users:,} users, {self.items:,} items, {self.interactions:,} training interactions "
            f"(density {self.density:.3%}): {self.per_user:.1f} a user, {self.per_item:.1f} an item, "
            f"{self.skew:.0%} of them of the most popular tenth of items; {'' if self.times else 'no '}times."
        )


@dataclass(frozen=True)
class Choice:
    """One setting with its value and the reason, a sentence."""

    setting: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Suggestion:
    """The choices of the rule, in the order of a recipe, and notes on what else to try."""

    choices: list[Choice]
    notes: list[str]

    def recipe(self, name: str, data: str) -> dict[str, Any]:
        """The recipe as nested values; `data` is the prepared folder."""
        values: dict[str, Any] = {"name": name, "data": {"path": data}}
        for choice in self.choices:
            section, _, key = choice.setting.partition(".")
            values.setdefault(section, {})[key] = choice.value
        return values

    def experiment(self, name: str, data: str) -> Experiment:
        """The same, checked."""
        return Experiment.parse(self.recipe(name, data))

    def to_toml(self, name: str, data: str, heading: str) -> str:
        """The recipe as TOML: each setting below its reason, all below the lines of `heading`."""
        self.experiment(name, data)
        reasons = {choice.setting: choice.reason for choice in self.choices}
        lines = [f"# {line}" for line in [*heading.splitlines(), *self.notes]]
        for section, settings in self.recipe(name, data).items():
            if isinstance(settings, str):
                lines.append(f"{section} = {json.dumps(settings)}")
                continue
            lines += ["", f"[{section}]"]
            for key, value in settings.items():
                reason = reasons.get(f"{section}.{key}")
                lines += [*([f"# {reason}"] if reason else []), f"{key} = {json.dumps(value)}"]
        return "\n".join(lines) + "\n"


def suggest(shape: DataShape) -> Suggestion:
    """The recipe to start with on data of this `shape`."""
    choices = [
        Choice(
            "model.kind",
            "gmf",
            "From the closed form it is the best default on many tables: see docs/which-model.md.",
        ),
        Choice("model.factors", "auto", "Few on sparse tables, many on large ones: validation chooses."),
        Choice("train.init", "auto", "The closed form is most of the model; validation chooses its penalty."),
        Choice("train.learning_rate", 0.001, "Small, so that the start is not lost."),
        Choice("train.l2_gmf", 0.015, "As on ML-1M, and good on sparse tables too."),
        _few_epochs(shape),
        *_common(shape),
    ]
    notes = []
    if shape.times:
        notes.append("The data have times: if the next item matters, train recipes/sasrec.toml as well.")
    if shape.per_user >= _DENSE:
        notes.append(
            f"{shape.per_user:.0f} interactions a user may be enough for a tower: try model.kind = 'neumf'."
        )
    if shape.interactions < 1_000:
        notes.append("With so few interactions popularity is hard to beat: look at the verdict of the run.")
    if not shape.validation:
        notes.append("Without validation rows nothing stops training early: prepare data that have some.")
    return Suggestion(choices, notes)


def _few_epochs(shape: DataShape) -> Choice:
    if shape.validation:
        return Choice("train.epochs", 20, "More than it takes: early stopping ends it.")
    return Choice("train.epochs", 2, "As on ML-1M, since no validation rows can end it.")


def _common(shape: DataShape) -> list[Choice]:
    size = 8192 if shape.interactions >= _LARGE else 4096 if shape.interactions >= 200_000 else 1024
    choices = [Choice("train.batch_size", size, f"{shape.interactions:,} interactions give enough steps.")]
    if shape.validation:
        choices.append(Choice("train.patience", 3, "The epoch that is best on validation is kept."))
    return choices
