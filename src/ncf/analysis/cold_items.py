"""Cold items: how well the model ranks items that nobody has used, which have columns alone.

In: a run. Out: results for a fifth of its items, held out with all their interactions. The recipe is trained
again on the others, in `cold-items/` of the run, and the held-out items are placed from their columns as a
warm start places them. The decision worth knowing: popularity knows nothing of such items and ranks them
last, so lists of cold items alone are judged too, in which it is as good as chance.

Legend: I items, T held-out rows, U users.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from ncf.analysis.evaluated_run import EvaluatedRun
from ncf.analysis.temporal_split import train_again
from ncf.baselines.non_personalized import PopularityScorer
from ncf.data import Dataset, HeldOut
from ncf.data.candidates import draw
from ncf.data.interactions import Interactions
from ncf.data.tables import new_rows
from ncf.errors import DataError
from ncf.evaluation import EvaluationResult, evaluate_sampled
from ncf.evaluation.held_out import Score
from ncf.models import ModelScorer
from ncf.renewal.item_columns import item_features
from ncf.renewal.warm import WarmStart
from ncf.runtime import choose_threads, seed_of, workers
from ncf.tracking.tracker import Tracker

FOLDER = "cold-items"
_SHARE = 5
"""One item in so many is held out."""
_NEGATIVES = 99
_MOST_ROWS = 100_000


@dataclass(frozen=True)
class ColdItems:
    """`results` by kind of list and scorer; the number of held-out `items`, and the `folder` of the run that
    was trained without them."""

    results: dict[str, dict[str, EvaluationResult]]
    items: int
    folder: Path

    @property
    def remark(self) -> str:
        """What a reader of the figures has to know."""
        rows = {kind: len(results["by columns"].user_rows) for kind, results in self.results.items()}
        ranked = " and ".join(f"{count:,} among {kind}" for kind, count in rows.items())
        return (
            f"{self.items:,} items were held out with all their interactions and placed from their columns; "
            f"of these interactions {ranked} are ranked. Popularity counts no use of a cold item."
        )


def evaluate_cold_items(
    run: EvaluatedRun, tracker: Tracker, log: Callable[[str], None], stop: Callable[[], bool] = lambda: False
) -> ColdItems:
    """Train the recipe of `run` without a fifth of its items, and rank these among 99 others of their users.

    The other arguments are those of `evaluate_by_time`. Raises `DataError` for items without columns, or too
    few of them, and what `train_again` raises.
    """
    if item_features(run.dataset.item_columns) is None:
        raise DataError(
            f"The items of {run.dataset.name} have no columns to place them by, such as titles or "
            "categories: prepare the data with 'ncf prepare … --items FILE'."
        )
    whole = run.dataset.with_everything_in_training()
    random = np.random.default_rng(seed_of(run.artifact.experiment.train.seed, "cold items"))
    used = np.flatnonzero(whole.popularity)
    cold_I = np.zeros(len(whole.items), np.bool_)
    cold_I[random.choice(used, len(used) // _SHARE, replace=False)] = True
    warm = whole.train.take(~cold_I[whole.train.item_rows])
    popularity = pl.Series("popularity", warm.item_counts(len(whole.items)))
    others = replace(whole, train=warm, item_columns=whole.item_columns.with_columns(popularity), digest="")
    rows = whole.train.take(cold_I[whole.train.item_rows] & ~others.cold_users[whole.train.user_rows])
    lists = {
        "all items": _lists(rows, whole, np.ones_like(cold_I), random),
        "cold items": _lists(rows, whole, cold_I, random),
    }
    target = train_again(run, _data_of(whole, warm), None, FOLDER, tracker, log, stop)
    scorers: dict[str, Score] = {
        "popularity": PopularityScorer(others.popularity),
        "by columns": ModelScorer(WarmStart.of(target, others).model(others)),
    }
    with workers(choose_threads()) as pool:
        results = {
            kind: {
                name: evaluate_sampled(scorer, held_out, run.rules, pool) for name, scorer in scorers.items()
            }
            for kind, held_out in lists.items()
        }
    return ColdItems(results, int(cold_I.sum()), target)


def _data_of(whole: Dataset, rows: Interactions) -> Dataset:
    """These `rows` of `whole` as data of their own, which know no other items; a row a user is validation."""
    table = {
        "user": whole.users.series().gather(rows.user_rows),
        "item": whole.items.series().gather(rows.item_rows),
    }
    optional = {"time": rows.timestamps, "weight": rows.weights}
    table |= {name: pl.Series(values) for name, values in optional.items() if values is not None}
    last = "random" if rows.timestamps is None else "last"
    unused = table["item"].n_unique() - rows.user_counts(len(whole.users))
    negatives = min(_NEGATIVES, max(1, int(np.median(unused))))
    return Dataset.from_interactions(
        pl.DataFrame(table), name=whole.name, split="none", validation=last, negatives=negatives
    )


def _lists(rows: Interactions, whole: Dataset, among_I: np.ndarray, random: np.random.Generator) -> HeldOut:
    """Lists of 1 + 99 for the `rows`, or 1 + half of the items in `among_I` where these are fewer.

    Negatives are drawn from those items. Rows of users who have used too many of them are left out, and of
    more than 100,000 so many are drawn.
    """
    chosen, new = np.flatnonzero(among_I), new_rows(among_I)
    pairs = Interactions(np.repeat(np.arange(len(whole.users)), whole.known.counts), whole.known.columns)
    pairs = pairs.take(among_I[pairs.item_rows])
    known = replace(pairs, item_rows=new[pairs.item_rows]).csr(len(whole.users))
    count = min(_NEGATIVES, len(chosen) // 2)
    able = np.flatnonzero(len(chosen) - known.counts[rows.user_rows] >= count)
    if not count or not len(able):
        raise DataError(
            f"{whole.name} has too few items to hold some out: {len(chosen):,} of {len(whole.items):,} would "
            "be cold, and no user could choose among them."
        )
    if len(able) > _MOST_ROWS:
        able = np.sort(random.choice(able, _MOST_ROWS, replace=False))
    users = rows.user_rows[able]
    drawn = draw(users, new[rows.item_rows[able]], known, len(chosen), count, random)
    return HeldOut(users, chosen[drawn.candidates].astype(np.int32))
