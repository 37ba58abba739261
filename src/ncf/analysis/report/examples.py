"""Three users and what the model says to them: one of low, one of middle and one of high activity, chosen by the seed.

In: the inputs of a report and a scorer. Out: what they used, what is recommended, and where the held-out item stands. Ranked is as
in the full protocol: what the user is known to have used is left out, the held-out item is not. The choice is by chance
and not by how well it turned out.

Legend: I items, U users.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ncf.analysis.report.html import text
from ncf.analysis.report.inputs import ReportInputs
from ncf.analysis.report.page import Section
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
    """A user: rows of items, best first or latest first. `held_out` is None where no test item is held out.

    `places` of the held-out item: in its list and of how many, in the catalogue and of how many.
    """

    level: str
    user: int
    count: int
    used: list[int]
    order: str
    recommended: list[int]
    held_out: int | None
    places: tuple[float, int, float, int] | None


def choose(
    counts_U: npt.NDArray[np.int64], users: npt.NDArray[np.integer], seed: int
) -> list[tuple[str, int]]:
    """A user of each third by activity, of `users` (rows); fewer where there are fewer than three."""
    distinct = np.unique(users)
    ordered = distinct[np.argsort(counts_U[distinct], kind="stable")]
    random = np.random.default_rng(seed_of(seed, "report-examples"))
    thirds = np.array_split(ordered, len(_LEVELS))
    return [
        (level, int(random.choice(third))) for level, third in zip(_LEVELS, thirds, strict=True) if len(third)
    ]


def examples(inputs: ReportInputs, scorer: Scorer) -> list[Example]:
    """Of users with a test item where there are any, else of those who used anything."""
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
    places, positive = None, None
    at = np.flatnonzero(held_out.user_rows == user)
    masked = scores[None].clone()
    mask_items(
        masked, inputs.artifact.seen if inputs.dataset is None else inputs.dataset.known, np.array([user])
    )
    if len(at):
        candidates = torch.from_numpy(held_out.candidates[at[:1]].astype(np.int64))
        positive = int(candidates[0, 0])
        masked[0, positive] = scores[positive]
        everything = torch.arange(len(scores))
        order = torch.cat(
            [everything[positive : positive + 1], everything[:positive], everything[positive + 1 :]]
        )[None]
        in_list = rank(TiedRanks.of_scores(scores[candidates], candidates))
        in_all = rank(TiedRanks.of_scores(masked[:, order[0]], order))
        places = (float(in_list[0]), candidates.shape[1], float(in_all[0]), int((masked > -torch.inf).sum()))
    best = masked[0].topk(min(SHOWN, len(scores)))
    recommended = [
        int(row) for row, score in zip(best.indices, best.values, strict=True) if score > -torch.inf
    ]
    used, order_said = _used(inputs, user)
    return Example(level, user, count, used, order_said, recommended, positive, places)


def _used(inputs: ReportInputs, user: int) -> tuple[list[int], str]:
    """Up to eight training items of the user: the latest where times are known, else the most used by all."""
    if inputs.dataset is None:
        rows = np.asarray(inputs.artifact.seen.row(user))
        return _most_used(inputs, rows)
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
    """The three users, in words."""
    shown = examples(inputs, scorer)
    reading = (
        "Three users chosen by chance, whatever came out: what they used, what the model would show next, and where the item that was "
        "held out stands. Judge for yourself whether the lists make sense together."
    )
    titled = "title" in inputs.artifact.item_columns.columns
    note = "" if titled else "<p class='note'>The data have no titles, so items are named by their ids.</p>"
    return Section("Examples", reading, note + "".join(_shown(inputs, one) for one in shown))


def _shown(inputs: ReportInputs, one: Example) -> str:
    user = inputs.artifact.users.ids_of([one.user]).tolist()[0]
    heading = f"<h3>User {text(user)}, {one.level} activity: {one.count:,} {inputs.counted}</h3>"
    used = f"<div><p>Used ({one.order} {len(one.used)})</p>{_list(inputs, one.used, 'ul')}</div>"
    recommended = f"<div><p>Recommended</p>{_list(inputs, one.recommended, 'ol', one.held_out)}</div>"
    return f"{heading}<div class='columns'>{used}{recommended}</div>{_where(inputs, one)}"


def _where(inputs: ReportInputs, one: Example) -> str:
    if one.held_out is None or one.places is None:
        known = inputs.dataset is not None
        return (
            "<p>No item of this user is held out.</p>"
            if known
            else "<p>The data would tell the item that is held out.</p>"
        )
    in_list, of_list, in_all, of_all = one.places
    (title,) = titles(inputs, [one.held_out])
    return (
        f"<p>Held out: <b>{text(title)}</b>, place {in_list:,.4g} of {of_list:,} in its list and "
        f"{in_all:,.10g} of {of_all:,} in the catalogue.</p>"
    )


def _list(inputs: ReportInputs, rows: Sequence[int], tag: str, mark: int | None = None) -> str:
    items = [
        f"<li>{text(title)}{' <b>(held out)</b>' if row == mark else ''}</li>"
        for row, title in zip(rows, titles(inputs, rows), strict=True)
    ]
    return f"<{tag}>{''.join(items)}</{tag}>" if items else "<p>Nothing.</p>"


def titles(inputs: ReportInputs, rows: Sequence[int]) -> list[str]:
    """The items' titles, or their ids where they have none."""
    columns = inputs.artifact.item_columns[list(rows)]
    ids = columns["id"].to_list()
    named = columns["title"].to_list() if "title" in columns.columns else [None] * len(ids)
    return [str(title) if title else str(own) for title, own in zip(named, ids, strict=True)]
