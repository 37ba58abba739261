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
from collections.abc import Mapping, Sequence
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
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        help="settings of warm starts, such as 'train.epochs=4 train.l2_gmf=0.02'; by default their own",
    )
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    report = Report("renewal", arguments)
    table = interactions(arguments.table)
    periods = list(range(1, 3 if arguments.quick else PERIODS))
    variants = {text or "as by default": text.split() for text in arguments.variant or [""]}
    figures: dict[str, list[list[float]]] = {name: [] for name in variants}
    for seed in range(1 if arguments.quick else arguments.seeds):
        rows = renewals(table, arguments.recipe, variants, seed, periods)
        report.keep(f"seed {seed}", rows)
        anew = np.array(rows.pop("anew"))
        for name, own in rows.items():
            warm = np.array(own)
            kept, cost = warm[:, 2].sum() / anew[:, 2].sum(), warm[1:, 3].sum() / anew[1:, 3].sum()
            figures[name].append([warm[1:, 1].sum(), anew[:, 2].sum(), warm[:, 2].sum(), kept, cost])
    heads = ["warm starts", "seeds", "validation", "anew", "warm", "share kept", "processor time, share"]
    means = {name: np.mean(values, axis=0) for name, values in figures.items()}
    shown = [
        [name, f"{len(figures[name])}", *(f"{value:.4f}" for value in mean[:3]),
         *(f"{value:.1%}" for value in mean[3:])]
        for name, mean in means.items()
    ]  # fmt: skip
    report.table("NDCG@10 summed over periods, mean of seeds", heads, shown)
    best = max(means, key=lambda name: float(means[name][0]))
    report.log(f"Best on validation: {best}.")
    report.target("NDCG@10 of warm starts, share of full retraining's", float(means[best][3]), 0.99)
    report.target(
        "processor time of warm starts, share of full retraining's",
        float(means[best][4]),
        0.20,
        at_least=False,
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
    table: pl.DataFrame, recipe: str, variants: Mapping[str, list[str]], seed: int, periods: list[int]
) -> dict[str, list[list[float]]]:
    """For "anew" and each of the `variants`, which are settings of warm starts, a row for each period.

    A row has the number of rows judged, NDCG@10 on validation and on them, and processor seconds.
    """
    settings = Experiment.load(recipe, [f"train.seed={seed}", "evaluation.bootstrap=0", "train.threads=1"])
    rows: dict[str, list[list[float]]] = {name: [] for name in ("anew", *variants)}
    earlier: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number in periods:
            dataset = known_by(table, number)
            folder = Path(scratch) / f"{number}"
            anew = Renewal(dataset, settings, folder / "anew")
            rows["anew"].append(anew.row)
            for place, (name, changes) in enumerate(variants.items()):
                warm = anew
                if name in earlier:
                    warm = Renewal(dataset, settings, folder / f"{place}", earlier[name], changes)
                earlier[name] = warm.run.folder
                rows[name].append(warm.row)
    return rows


class Renewal:
    """A run of the settings, or one that goes on from an `earlier` run; with its figures."""

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

        _, seconds = timed(work)
        figures = [self.run.metrics[stage]["metrics"]["ndcg@10"] for stage in ("validation", "test")]
        self.row = [float(len(dataset.test)), *figures, seconds]


if __name__ == "__main__":
    main()
