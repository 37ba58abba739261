"""What a renewal costs and keeps: warm starts against full retraining, as data come in period by period.

A table is cut into ten periods with equally many rows. After each period but the last, a model is trained
anew on all rows so far with the recipe (each user's last row is validation), and another goes on from its
predecessor by a warm start. Both are judged on the next period, by NDCG@10 in the full ranking, on rows whose
user and item are known so far. The first model is the same for both, and its cost counts for neither.

ML-100K has times. `--table` takes a file of lines `user item`, each user's oldest first, such as the Amazon
Games of SASRec, which has no common clock: there a row's time is its place in its user's own history, from 0
to 1.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from common import Report, command_line, timed
from ncf.config import Experiment
from ncf.data import Dataset, HeldOut, prepare_catalog
from ncf.experiment import Run, RunOptions, train
from ncf.renewal.warm import warm_recipe

PERIODS = 10
QUICK = RunOptions(serves=False, verdict=False)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--table", help="lines 'user item', each user's oldest first, instead of ML-100K")
    parser.add_argument("--recipe", default="default", help="of the full trainings")
    parser.add_argument("--set", action="append", default=[], help="a setting of the warm starts")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    report = Report("renewal", arguments)
    table = interactions(arguments.table)
    seeds = range(1 if arguments.quick else arguments.seeds)
    periods = range(1, 3 if arguments.quick else PERIODS)
    totals = []
    for seed in seeds:
        rows = renewals(table, arguments.recipe, arguments.set, seed, list(periods))
        heads = ["periods trained on", "rows judged", "NDCG@10 anew", "warm", "processor s anew", "warm"]
        shown = [
            [f"{row[0]:.0f}", f"{row[1]:,.0f}", *(f"{value:.4f}" for value in row[2:4]),
             *(f"{value:.2f}" for value in row[4:])]
            for row in rows
        ]  # fmt: skip
        report.table(f"seed {seed}", heads, shown)
        values = np.array(rows)
        kept, cost = values[:, 3].sum() / values[:, 2].sum(), values[1:, 5].sum() / values[1:, 4].sum()
        totals.append([kept, cost])
        report.log(
            f"Seed {seed}: NDCG@10 summed over periods {values[:, 2].sum():.4f} anew and "
            f"{values[:, 3].sum():.4f} warm ({kept:.1%}); processor seconds of the renewals "
            f"{values[1:, 4].sum():.1f} anew and {values[1:, 5].sum():.1f} warm ({cost:.1%})."
        )
        report.keep(f"seed {seed}", rows)
    kept, cost = np.mean(totals, axis=0)
    report.target("NDCG@10 of warm starts, share of full retraining's", float(kept), 0.99)
    report.target(
        "processor time of warm starts, share of full retraining's", float(cost), 0.20, at_least=False
    )
    report.write()


def interactions(path: str | None) -> pl.DataFrame:
    """Columns user, item and period (from 0), in order of time."""
    if path is None:
        dataset = prepare_catalog("ml-100k")[0]
        rows = dataset.with_everything_in_training().train
        table = pl.DataFrame({"user": rows.user_rows, "item": rows.item_rows, "time": rows.timestamps})
    else:
        table = pl.read_csv(path, separator=" ", has_header=False, new_columns=["user", "item"])
        table = table.unique(["user", "item"], keep="last", maintain_order=True)
        place = (pl.int_range(pl.len()).over("user") + 0.5) / pl.len().over("user")
        table = table.with_columns((place * 2**40).cast(pl.Int64).alias("time"))
    table = table.sort("time", "user", "item")
    return table.with_columns((pl.int_range(pl.len()) * PERIODS // pl.len()).alias("period"))


def known_by(table: pl.DataFrame, periods: int) -> Dataset:
    """The first `periods`, each user's last row for validation, and the next period as the test."""
    past, future = table.filter(pl.col("period") < periods), table.filter(pl.col("period") == periods)
    dataset = Dataset.from_interactions(
        past, user="user", item="item", time="time", split="none", validation="last"
    )
    users, items = dataset.users.rows(future["user"]), dataset.items.rows(future["item"])
    counts = np.bincount(dataset.train.item_rows, minlength=len(dataset.items))
    known = (users >= 0) & (items >= 0)
    known[known] &= counts[items[known]] > 0
    order = np.argsort(users[known], kind="stable")
    test = HeldOut(users[known][order].astype(np.int32), items[known][order].astype(np.int32)[:, None])
    return replace(dataset, test=test, digest="")


def renewals(
    table: pl.DataFrame, recipe: str, changes: list[str], seed: int, periods: list[int]
) -> list[list[float]]:
    """A row for each number of periods: it, rows judged, NDCG@10 and processor seconds of both."""
    settings = Experiment.load(recipe, [f"train.seed={seed}", "evaluation.bootstrap=0", "train.threads=1"])
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        earlier: Path | None = None
        for number in periods:
            dataset = known_by(table, number)
            anew = warm = Renewal(dataset, settings, Path(scratch) / f"anew-{number}")
            if earlier is not None:
                warm = Renewal(dataset, settings, Path(scratch) / f"warm-{number}", earlier, changes)
            earlier = warm.run.folder
            seconds = [anew.seconds, warm.seconds]
            rows.append([number, len(dataset.test), anew.figure, warm.figure, *seconds])
    return rows


class Renewal:
    """A run of the settings, or one that goes on from an `earlier` run; its figure and processor seconds."""

    def __init__(
        self,
        dataset: Dataset,
        settings: Experiment,
        target: Path,
        earlier: Path | None = None,
        changes: Sequence[str] = (),
    ) -> None:
        def work() -> None:
            recipe = settings if earlier is None else warm_recipe(earlier, None, list(changes))
            self.run: Run = train(dataset, recipe, target, warm=earlier, options=QUICK)

        _, self.seconds = timed(work)
        self.figure: float = self.run.metrics["test"]["metrics"]["ndcg@10"]


if __name__ == "__main__":
    main()
