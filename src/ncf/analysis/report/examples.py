"""Three users and what the model recommends to them: one each of low, middle and high activity, chosen by the
seed.

In: the inputs of a report and a scorer. Out: what they used, what is recommended, and where the held-out item
ranks, as in the full protocol: items that the user is known to have used are left out, the held-out item is
not. Users are chosen at random, not by how well the recommendations turned out.

Legend: I items, U users.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ncf.analysis.report.inputs import ReportInputs
from ncf.analysis.report.page import Block, Heading, ListsBlock, Section, Text
from ncf.data import HeldOut
from ncf.evaluation.metrics import TiedRanks, rank
from ncf.evaluation.ranking import Scorer
from ncf.models import mask_items
from ncf.runtime import seed_of

SHOWN = 10
_USED = 8
_LEVELS = ("low", "middle", "high")


@dataclass(frozen=True)
class Example:
    """One user. Items are rows of the catalogue: `recommended` best first, `used` in the `order` that it
    names.

    `count` is the number of the user's interactions. `held_out` is None where no test item is held out;
    otherwise `ranks` has its rank in the list, the length of the list, its rank in the catalogue, and the
    items ranked there.
    """

    level: str
    user: int
    count: int
    used: list[int]
    order: str
    recommended: list[int]
    held_out: int | None
    ranks: tuple[float, int, float, int] | None


def choose(
    counts_U: npt.NDArray[np.int64], users: npt.NDArray[np.integer], seed: int
) -> list[tuple[str, int]]:
    """A random user of each third of `users` (rows) by activity `counts_U`; fewer where there are fewer than
    three.
    """
    distinct = np.unique(users)
    ordered = distinct[np.argsort(counts_U[distinct], kind="stable")]
    random = np.random.default_rng(seed_of(seed, "report-examples"))
    thirds = np.array_split(ordered, len(_LEVELS))
    return [
        (level, int(random.choice(third))) for level, third in zip(_LEVELS, thirds, strict=True) if len(third)
    ]


def examples(inputs: ReportInputs, scorer: Scorer) -> list[Example]:
    """Examples among the users with a test item, or among all users with interactions where there are no test
    items.
    """
    held_out, counts = inputs.held_out, inputs.user_counts
    users = held_out.user_rows if len(held_out) else np.flatnonzero(counts > 0)
    seed = inputs.artifact.experiment.train.seed
    return [
        _example(inputs, scorer, held_out, level, user, int(counts[user]))
        for level, user in choose(counts, users, seed)
    ]


def _example(
    inputs: ReportInputs, scorer: Scorer, held_out: HeldOut, level: str, user: int, count: int
) -> Example:
    scores = scorer.catalogue(torch.tensor([user]))[0].double()
    ranks, positive = None, None
    known = inputs.artifact.seen if inputs.dataset is None else inputs.dataset.known
    masked = scores[None].clone()
    mask_items(masked, known, np.array([user]))
    rows = np.flatnonzero(held_out.user_rows == user)
    if len(rows):
        candidates = torch.from_numpy(held_out.candidates[rows[:1]].astype(np.int64))
        positive = int(candidates[0, 0])
        masked[0, positive] = scores[positive]  # known items are masked, and the held-out item is one of them
        others = torch.arange(len(scores))
        order = torch.cat([others[positive : positive + 1], others[:positive], others[positive + 1 :]])[None]
        in_list = rank(TiedRanks.of_scores(scores[candidates], candidates))
        in_all = rank(TiedRanks.of_scores(masked[:, order[0]], order))
        ranks = (float(in_list[0]), candidates.shape[1], float(in_all[0]), int((masked > -torch.inf).sum()))
    best = masked[0].topk(min(SHOWN, len(scores)))
    recommended = [
        int(row) for row, score in zip(best.indices, best.values, strict=True) if score > -torch.inf
    ]
    used, order_name = _used(inputs, user)
    return Example(level, user, count, used, order_name, recommended, positive, ranks)


def _used(inputs: ReportInputs, user: int) -> tuple[list[int], str]:
    """Up to eight training items of the user: the latest where times are known, else the most popular."""
    if inputs.dataset is None:
        return _most_used(inputs, np.asarray(inputs.artifact.seen.row(user)))
    train = inputs.dataset.train
    first, stop = (int(np.searchsorted(train.user_rows, np.int32(row))) for row in (user, user + 1))
    rows = np.asarray(train.item_rows[first:stop])
    if train.timestamps is None:
        return _most_used(inputs, rows)
    latest = np.argsort(-np.asarray(train.timestamps[first:stop]), kind="stable")
    return rows[latest[:_USED]].tolist(), "the latest"


def _most_used(inputs: ReportInputs, rows: npt.NDArray[np.integer]) -> tuple[list[int], str]:
    order = np.argsort(-inputs.item_counts[rows], kind="stable")
    return rows[order[:_USED]].tolist(), "the most popular"


def section(inputs: ReportInputs, scorer: Scorer) -> Section:
    """The three users as text."""
    reading = (
        "Three users chosen at random, whatever the outcome: what they used, what the model recommends "
        "next, and the rank of the held-out item. Judge for yourself whether the lists make sense together."
    )
    blocks: list[Block] = []
    if "title" not in inputs.artifact.item_columns.columns:
        blocks.append(Text("The data have no titles, so items are named by their ids.", note=True))
    for example in examples(inputs, scorer):
        blocks += _shown(inputs, example)
    return Section("Examples", reading, blocks)


def _shown(inputs: ReportInputs, example: Example) -> list[Block]:
    user = inputs.artifact.users.ids_of([example.user]).tolist()[0]
    heading = f"User {user}, {example.level} activity: {example.count:,} {inputs.counted}"
    used = (f"Used ({example.order} {len(example.used)})", False, _items(inputs, example.used))
    recommended = ("Recommended", True, _items(inputs, example.recommended, example.held_out))
    return [Heading(heading), ListsBlock([used, recommended]), Text(_held_out(inputs, example))]


def _held_out(inputs: ReportInputs, example: Example) -> str:
    if example.held_out is None or example.ranks is None:
        return (
            "No item of this user is held out."
            if inputs.dataset is not None
            else "The held-out item is not known without data."
        )
    in_list, of_list, in_all, of_all = example.ranks
    (title,) = titles(inputs, [example.held_out])
    return (
        f"Held out: {title}. It ranks {in_list:,.4g} of {of_list:,} in its list and {in_all:,.10g} of "
        f"{of_all:,} in the catalogue."
    )


def _items(inputs: ReportInputs, rows: Sequence[int], held_out: int | None = None) -> list[tuple[str, str]]:
    names = titles(inputs, rows)
    return [(title, "held out" if row == held_out else "") for row, title in zip(rows, names, strict=True)]


def titles(inputs: ReportInputs, rows: Sequence[int]) -> list[str]:
    """The titles of the items `rows`, or their ids where they have none."""
    columns = inputs.artifact.item_columns[list(rows)]
    ids = columns["id"].to_list()
    named = columns["title"].to_list() if "title" in columns.columns else [None] * len(ids)
    return [str(title) if title else str(own) for title, own in zip(named, ids, strict=True)]
