"""Accuracy of the recipes on the test lists of a known set: mean of three seeds, the last epoch of each run.

Settings and numbers of epochs were chosen on a validation hold-out (docs/accuracy.md), so test is looked at
once a run. The pre-trained NeuMF fuses the GMF and the MLP of its own seed, and teachers that nothing else is
made of have seeds of their own. `--validation` measures the same recipes on the hold-out instead, which is
how they were chosen. ML-1M is in the repository; `--catalog lastfm` and `pinterest-20` need `--source`, or
fetch their files.
"""

import argparse
import statistics
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import ROOT, Report, command_line
from hold_out import like_published
from ncf import experiment
from ncf.config import Experiment
from ncf.data import Dataset, PrepareOptions, prepare_catalog

KINDS = {
    "ml-1m": (
        "mf",
        "gmf",
        "mlp",
        "neumf",
        "neumf-pretrained",
        "mlp-teacher",
        "gmf-distilled",
        "neumf-distilled",
    ),
    "lastfm": ("gmf", "mlp", "neumf-pretrained", "history-gmf"),
    "pinterest-20": ("history-gmf",),
}
EXPONENTS = {"ml-1m": 0.3, "lastfm": -0.5, "pinterest-20": 0.0}
"""With which the hold-out was drawn that the recipes of a set were chosen on, favouring items by
popularity^-exponent."""
TARGETS = {
    "ml-1m-mf": (0.7264, 0.4493),
    "ml-1m-gmf": (0.717, 0.439),
    "ml-1m-mlp": (0.700, 0.425),
    "ml-1m-neumf": (0.720, 0.440),
    "ml-1m-neumf-pretrained": (0.735, 0.455),
    "ml-1m-neumf-distilled": (0.745, 0.465),
}
TEACHER_SEED = 1000
METRICS = ("hr@10", "ndcg@10")


def with_data(parser: argparse.ArgumentParser) -> None:
    """The options that say which data."""
    parser.add_argument("--catalog", default="ml-1m", choices=list(EXPONENTS), help="the known set")
    parser.add_argument("--source", help="folder that holds its files")
    parser.add_argument(
        "--exponent", type=float, help="of the hold-out's popularity, in place of the set's own"
    )


def load(arguments: argparse.Namespace) -> Dataset:
    """The data set with its validation hold-out."""
    exponent = EXPONENTS[arguments.catalog] if arguments.exponent is None else arguments.exponent
    options = PrepareOptions(validation_popularity_exponent=max(0.0, exponent))
    dataset, _ = prepare_catalog(arguments.catalog, options, source=arguments.source)
    return like_published(dataset, -exponent) if arguments.catalog == "lastfm" else dataset


def benchmark_name(base: str, arguments: argparse.Namespace) -> str:
    """Of the JSON file: the data set, where it is not ML-1M, and the part that is evaluated."""
    other = () if arguments.catalog == "ml-1m" else (arguments.catalog,)
    return "-".join((base, *other, *(("validation",) if arguments.validation else ())))


def title(arguments: argparse.Namespace) -> str:
    """Of the table."""
    published = "test lists" if arguments.catalog == "pinterest-20" else "published test lists"
    name = "ML-1M" if arguments.catalog == "ml-1m" else arguments.catalog
    return f"{name}, {'validation' if arguments.validation else published}"


def settings_of(recipe: str, seed: int, overrides: list[str], validation: bool) -> Experiment:
    """The recipe with one seed everywhere, its halves and theirs included; teachers have a seed of their
    own."""
    path = ROOT / "recipes" / f"{recipe}.toml"
    changes = ["train.validation=hold-out"] if validation else []
    inner = [
        f"{where}{change}"
        for where, name in _parts(path)
        for change in (f"train.seed={_seed_of(name, seed)}", *changes)
    ]
    return Experiment.load(path, [*inner, *overrides])


def _parts(path: Path, where: str = "") -> Iterator[tuple[str, str]]:
    """Prefix of the settings, and name, of a recipe and of all that it is made of."""
    yield where, path.stem
    for half, file in _halves(path).items():
        yield from _parts(path.parent / file, f"{where}pretraining.{half}.")


def _halves(path: Path) -> dict[str, str]:
    """File names of the recipes that a recipe fuses."""
    table = tomllib.loads(path.read_text("utf-8")).get("pretraining", {})
    return {half: table[half] for half in ("gmf", "mlp") if half in table}


def _seed_of(recipe: str, seed: int) -> int:
    return seed + TEACHER_SEED if recipe.endswith("-teacher") else seed


def measure(
    dataset: Dataset,
    recipe: str,
    seed: int,
    overrides: list[str],
    validation: bool,
    finished: dict[str, Path],
    folder: Path,
) -> dict[str, Any]:
    """Train one recipe with one seed; what it fuses is taken from `finished` where this seed has trained it
    already."""
    settings = settings_of(recipe, seed, overrides, validation)
    files = _halves(ROOT / "recipes" / f"{recipe}.toml")
    given = {half: finished.get(Path(file).stem) for half, file in files.items()}
    run = experiment.train(dataset, settings, folder, gmf=given.get("gmf"), mlp=given.get("mlp"))
    finished[recipe] = run.folder
    stage = run.metrics["validation" if validation else "test"]
    return {
        "seed": seed,
        "seconds": run.metrics["seconds"],
        **{name: stage["metrics"][name] for name in METRICS},
    }


def spread(rows: list[dict[str, Any]], name: str) -> str:
    """Mean and standard deviation over the seeds."""
    values = [row[name] for row in rows]
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


def main() -> None:
    """Run, print, write."""
    parser = command_line(__doc__)
    with_data(parser)
    parser.add_argument("--recipes", nargs="*", help="names in recipes/; those of the set by default")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="section.key=value")
    parser.add_argument("--validation", action="store_true", help="measure on the validation hold-out")
    arguments = parser.parse_args()
    report = Report(benchmark_name("accuracy", arguments), arguments)
    dataset = load(arguments)
    recipes = arguments.recipes or [f"{arguments.catalog}-{kind}" for kind in KINDS[arguments.catalog]]
    results: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in recipes}
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
            finished: dict[str, Path] = {}
            for recipe in recipes:
                where = Path(folder) / f"{recipe}-{seed}"
                row = measure(
                    dataset, recipe, seed, arguments.overrides, arguments.validation, finished, where
                )
                results[recipe].append(row)
                print(recipe, row, flush=True)
    rows = [
        (recipe, *(spread(found, name) for name in METRICS), spread(found, "seconds"))
        for recipe, found in results.items()
    ]
    report.table(
        f"{title(arguments)}, {len(next(iter(results.values())))} seeds",
        ("recipe", "HR@10", "NDCG@10", "seconds"),
        rows,
    )
    if not arguments.validation:
        for recipe, found in results.items():
            for name, wanted in zip(METRICS, TARGETS.get(recipe, ()), strict=False):
                report.target(f"{recipe} {name}", statistics.mean(row[name] for row in found), wanted)
    report.keep("results", results)
    report.write()


if __name__ == "__main__":
    main()
