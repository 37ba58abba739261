"""What `recipes/default.toml` reaches on tables of many shapes, beside baselines at their defaults.

Two sparse tables are made up here: a small shop with many items. `--data FOLDER …` adds prepared data. For
each table it prints the start alone, the default recipe and the baselines, all evaluated on test once, with
processor seconds. The recipe keeps its best epoch on validation; baselines are fitted to training alone too,
so that all have seen the same. The figures of docs/accuracy.md are of three seeds.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import baselines
from accuracy import spread
from common import ROOT, Report, command_line, timed
from ncf.baselines import BASELINES
from ncf.config import Experiment
from ncf.data import Dataset, PrepareOptions, prepare_file
from ncf.experiment import RunOptions, train
from ncf.runtime import seed_of

SHAPES = {"sparse 1,700 x 13,000": (1_700, 13_500, 44_000), "sparse 3,100 x 34,000": (3_100, 37_000, 80_000)}
"""Users, items to draw from, and interactions of the made-up tables; some items are never drawn."""
TASTES = 60
COMPARED = ("popularity", "item-knn", "ease", "ials")


def made_up(users: int, items: int, interactions: int, seed: int = 0) -> pl.DataFrame:
    """Users mix three of 60 tastes; items belong to one and half-heartedly to another; popularity is skewed.

    A user has at least five items, and their number is log-normal. Items are drawn without replacement.
    """
    random = np.random.default_rng(seed_of(seed, "sparse table", users, items))
    popularity_I = random.permutation(np.arange(1, items + 1) ** -0.5)
    first_I = random.choice(TASTES, items, p=random.dirichlet(np.full(TASTES, 2.0)))
    second_I = random.choice(TASTES, items)
    activity_U = random.lognormal(0.0, 0.9, users)
    counts_U = np.maximum(5, activity_U / activity_U.mean() * interactions / users).astype(int)
    rows = []
    for user, count in enumerate(counts_U):
        chances_I = np.full(items, 0.18 / TASTES)
        for taste, share in zip(
            random.choice(TASTES, 3, replace=False), random.dirichlet([1.5, 1.0, 0.7]), strict=True
        ):
            chances_I += share * ((first_I == taste) + 0.3 * (second_I == taste))
        keys_I = np.log(popularity_I * chances_I) + random.gumbel(size=items)
        rows.append(np.stack([np.full(count, user), np.argpartition(-keys_I, count)[:count]], axis=1))
    pairs = np.concatenate(rows)
    return pl.DataFrame({"user": pairs[:, 0], "item": pairs[:, 1]})


def tables(arguments: argparse.Namespace, folder: Path) -> dict[str, Dataset]:
    """The data sets by name."""
    found = {}
    for name, shape in {} if arguments.no_made_up else SHAPES.items():
        made_up(*shape).write_parquet(folder / "table.parquet")
        found[name], _ = prepare_file(folder / "table.parquet", PrepareOptions(split="random"))
        if arguments.quick:
            break
    return found | {Path(path).name: Dataset.open(path) for path in arguments.data}


def trained(dataset: Dataset, settings: list[str], folder: Path) -> dict[str, Any]:
    """One run of the default recipe with overrides."""
    experiment = Experiment.load(ROOT / "recipes" / "default.toml", ["evaluation.bootstrap=0", *settings])
    runs = []
    options = RunOptions(overwrite=True, serves=False, verdict=False)
    _, processor = timed(lambda: runs.append(train(dataset, experiment, folder / "run", options=options)))
    metrics = runs[0].metrics
    return {
        "processor_seconds": processor,
        "selected": metrics["selected"],
        **{name: metrics["test"]["metrics"][name] for name in baselines.metrics_of(dataset)},
    }


def main() -> None:
    """Train, fit, evaluate, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--data", nargs="*", default=[], help="folders of prepared data")
    parser.add_argument("--no-made-up", action="store_true", help="only the given folders")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--baselines", nargs="*", default=list(COMPARED), help="some of them")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="section.key=value")
    arguments = parser.parse_args()
    report = Report("defaults", arguments)
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    with tempfile.TemporaryDirectory() as folder:
        for name, dataset in tables(arguments, Path(folder)).items():
            results: dict[str, list[dict[str, Any]]] = {}
            still = ["train.epochs=1", "train.learning_rate=1e-12"]
            for title, settings in (("the start alone", still), ("default recipe", [])):
                results[title] = [
                    trained(dataset, [f"train.seed={seed}", *settings, *arguments.overrides], Path(folder))
                    for seed in seeds
                ]
            for baseline in arguments.baselines:
                times = seeds if BASELINES[baseline].seeded else seeds[:1]
                results[BASELINES[baseline].title] = [
                    baselines.measure(dataset, baseline, {}, seed, validation=False) for seed in times
                ]
            metrics = baselines.metrics_of(dataset)
            rows = len(dataset.users), len(dataset.items), len(dataset.train)
            report.table(
                "{}: {:,} users, {:,} items, {:,} training interactions".format(name, *rows),
                ("model", "seeds", *map(str.upper, metrics), "processor seconds"),
                [
                    (
                        title,
                        len(found),
                        *(spread(found, metric) for metric in metrics),
                        f"{min(row['processor_seconds'] for row in found):.1f}",
                    )
                    for title, found in results.items()
                ],
            )
            report.keep(name, results)
    report.write()


if __name__ == "__main__":
    main()
