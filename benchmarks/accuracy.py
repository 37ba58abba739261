"""Accuracy of the recipes on the published ML-1M lists: mean of three seeds, the last epoch of each run.

Settings and numbers of epochs were chosen on a validation hold-out (docs/accuracy.md), so test is looked at once a run. The
pre-trained NeuMF fuses the GMF and the MLP of its own seed. `--validation` measures the same recipes on the
hold-out instead, which is how they were chosen.
"""

import statistics
import tempfile
from pathlib import Path
from typing import Any

from common import ROOT, Report, command_line
from ncf import experiment
from ncf.config import Experiment
from ncf.data import Dataset, PrepareOptions, prepare_catalog

RECIPES = ("ml-1m-gmf", "ml-1m-mlp", "ml-1m-neumf", "ml-1m-neumf-pretrained")
TARGETS = {
    "ml-1m-gmf": (0.717, 0.439),
    "ml-1m-mlp": (0.700, 0.425),
    "ml-1m-neumf": (0.720, 0.440),
    "ml-1m-neumf-pretrained": (0.730, 0.450),
}
METRICS = ("hr@10", "ndcg@10")


def settings_of(recipe: str, seed: int, overrides: list[str], validation: bool) -> Experiment:
    """The recipe with one seed everywhere, its halves included."""
    path = ROOT / "recipes" / f"{recipe}.toml"
    changes = [f"train.seed={seed}", *overrides]
    if validation:
        changes.append("train.validation=hold-out")
    if Experiment.load(path).pretraining is not None:
        inner = [change for change in changes if change.startswith(("train.seed", "train.validation"))]
        changes += [f"pretraining.{half}.{change}" for half in ("gmf", "mlp") for change in inner]
    return Experiment.load(path, changes)


def measure(
    dataset: Dataset,
    recipe: str,
    seed: int,
    overrides: list[str],
    validation: bool,
    halves: dict[str, Path],
    folder: Path,
) -> dict[str, Any]:
    """Train one recipe with one seed; a pre-trained one takes the halves that this seed has trained already."""
    settings = settings_of(recipe, seed, overrides, validation)
    given = halves if settings.pretraining is not None else {}
    run = experiment.train(dataset, settings, folder, gmf=given.get("gmf"), mlp=given.get("mlp"))
    if settings.pretraining is None and settings.model.kind != "neumf":
        halves[settings.model.kind] = run.folder
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
    parser.add_argument("--recipes", nargs="*", default=RECIPES, help="names in recipes/")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="section.key=value")
    parser.add_argument("--validation", action="store_true", help="measure on the validation hold-out")
    arguments = parser.parse_args()
    report = Report("accuracy-validation" if arguments.validation else "accuracy", arguments)
    options = PrepareOptions(validation_popularity_exponent=0.3)
    dataset, _ = prepare_catalog("ml-1m", options)
    results: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in arguments.recipes}
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
            halves: dict[str, Path] = {}
            for recipe in arguments.recipes:
                where = Path(folder) / f"{recipe}-{seed}"
                row = measure(dataset, recipe, seed, arguments.overrides, arguments.validation, halves, where)
                results[recipe].append(row)
                print(recipe, row, flush=True)
    rows = [
        (recipe, *(spread(found, name) for name in METRICS), spread(found, "seconds"))
        for recipe, found in results.items()
    ]
    report.table(
        f"ML-1M, {'validation' if arguments.validation else 'published test lists'}, {len(arguments.seeds)} seeds",
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
