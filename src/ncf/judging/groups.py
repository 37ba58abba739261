"""The figures of a run by group of held-out rows.

In: a subject and its judgements. Out: tables of `Group`s by title. The decision worth knowing: users and items are counted
by what the model was trained on, so a recipe that trains on validation positives has them counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ncf.errors import ConfigError
from ncf.evaluation import Judgement
from ncf.evaluation.groups import Group, by_activity, by_item_count, by_popularity
from ncf.judging.subject import Subject

Table = dict[str, list[Group]]
"""Groups by protocol."""


def _activity(subject: Subject, judgement: Judgement) -> list[Group]:
    counts = subject.trained_on.counts[subject.held_out.user_rows]
    return by_activity(counts, judgement.values, subject.rules.bootstrap, judgement.user_rows)


def _popularity(subject: Subject, judgement: Judgement) -> list[Group]:
    return by_popularity(
        subject.held_out.positives,
        subject.item_counts,
        judgement.values,
        subject.rules.bootstrap,
        judgement.user_rows,
    )


def _rarity(subject: Subject, judgement: Judgement) -> list[Group]:
    counts = subject.item_counts[subject.held_out.positives]
    return by_item_count(counts, judgement.values, subject.rules.bootstrap, judgement.user_rows)


@dataclass(frozen=True)
class Grouping:
    """What rows are grouped by, in words, and how."""

    title: str
    cut: Callable[[Subject, Judgement], list[Group]]


GROUPS = {
    "activity": Grouping("interactions of the user", _activity),
    "popularity": Grouping("popularity of the held-out item", _popularity),
    "rarity": Grouping("interactions of the held-out item", _rarity),
}


def grouped(subject: Subject, judged: Mapping[str, Judgement], by: str) -> Table:
    """Groups by protocol; `by` is one of `GROUPS`."""
    if by not in GROUPS:
        raise ConfigError(f"--by must be one of {', '.join(GROUPS)}, not {by!r}.")
    return {protocol: GROUPS[by].cut(subject, judgement) for protocol, judgement in judged.items()}
