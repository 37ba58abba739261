"""Accuracy of the baselines on the test lists of a known set, with their default settings: mean over seeds.

The defaults were chosen on ML-1M with `--validation`, on the hold-out that the recipes were chosen on;
without it a baseline is fitted to training and validation positives and evaluated on test. Those that do not
depend on a seed are fitted once. `--data FOLDER` takes prepared data instead; without candidate lists they
are evaluated by the full ranking, at 20.
"""

from typing import Any

from accuracy import METRICS, benchmark_name, load, spread, title, with_data
from common import Report, command_line, timed
from ncf.baselines import BASELINES, FittedBaseline
from ncf.config import EvaluationConfig
from ncf.data import Dataset
from ncf.evaluation import evaluate_held_out
from ncf.runtime import choose_threads, workers

PUBLISHED = {"ials": (0.7310, 0.4521), "ease": (0.718, 0.451)}
TOLERANCE = 0.003
RULES = EvaluationConfig(cutoffs=(10, 20), bootstrap=0)


def metrics_of(dataset: Dataset) -> tuple[str, str]:
    """The metrics that are shown."""
    return METRICS if dataset.test.has_lists else ("recall@20", "ndcg@20")


def measure(
    dataset: Dataset, name: str, settings: dict[str, Any], seed: int, validation: bool
) -> dict[str, Any]:
    """Fit one baseline with one seed, and evaluate it."""
    fitted: list[FittedBaseline] = []
    with workers(choose_threads()) as pool:
        seconds, processor = timed(
            lambda: fitted.append(
                BASELINES[name].fit(dataset.seen_in_training, len(dataset.items), settings, seed, pool)
            )
        )
        means = evaluate_held_out(
            fitted[0], dataset, "validation" if validation else "test", RULES, pool
        ).means
    figures = {metric: means[metric] for metric in metrics_of(dataset)}
    return {"seed": seed, "seconds": seconds, "processor_seconds": processor, **figures}


def main() -> None:
    """Fit, evaluate, print, write."""
    parser = command_line(__doc__)
    with_data(parser)
    parser.add_argument("--data", help="folder of prepared data, instead of a known set")
    parser.add_argument("--baselines", nargs="*", default=list(BASELINES), help="some of them")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="setting=value")
    parser.add_argument("--validation", action="store_true", help="evaluate on the validation hold-out")
    arguments = parser.parse_args()
    settings = {name: float(value) for name, _, value in (one.partition("=") for one in arguments.overrides)}
    dataset = Dataset.open(arguments.data) if arguments.data else load(arguments)
    arguments.catalog = dataset.name
    report = Report(benchmark_name("baselines", arguments), arguments)
    if not arguments.validation:
        dataset = dataset.with_validation_in_training()
    results: dict[str, list[dict[str, Any]]] = {}
    for name in arguments.baselines:
        seeds = arguments.seeds if BASELINES[name].seeded and not arguments.quick else arguments.seeds[:1]
        short = {"iterations": 2} if arguments.quick and "iterations" in BASELINES[name].defaults else {}
        for seed in seeds:
            row = measure(dataset, name, {**settings, **short}, seed, arguments.validation)
            results.setdefault(name, []).append(row)
            print(name, row, flush=True)
    report.table(
        title(arguments) if dataset.test.has_lists else f"{dataset.name}, full ranking",
        ("baseline", "seeds", *map(str.upper, metrics_of(dataset)), "seconds", "processor seconds"),
        [
            (
                BASELINES[name].title,
                len(found),
                *(spread(found, metric) for metric in metrics_of(dataset)),
                *(f"{min(row[clock] for row in found):.1f}" for clock in ("seconds", "processor_seconds")),
            )
            for name, found in results.items()
        ],
    )
    changed = arguments.data or arguments.validation or arguments.quick or settings
    if arguments.catalog == "ml-1m" and not changed:
        for name, found in results.items():
            for metric, published in zip(METRICS, PUBLISHED.get(name, ()), strict=False):
                apart = abs(sum(row[metric] for row in found) / len(found) - published)
                report.target(f"{name} {metric}, apart from the published", apart, TOLERANCE, at_least=False)
    report.keep("results", results)
    report.write()


if __name__ == "__main__":
    main()
