"""What recency adds on ML-100K, which has times: histories that remember their order against histories that
do not.

Two splits: each user's last interaction is the test (what comes next?), and the last tenth of all time is
(what comes in the weeks after?). The settings of each half-life are chosen by NDCG@10 on the split's
validation part, with seed 0. The best half-life, none, plain GMF and EASE are then trained on all that came
before the test, with three seeds.

The paired test is over users: a user's figure is the mean over seeds and, in the split by time, over the
user's rows.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common import Report, command_line, trained
from ncf.baselines import BASELINES
from ncf.config import EvaluationConfig, Experiment
from ncf.data import Dataset, PrepareOptions, prepare_catalog
from ncf.evaluation import evaluate_full, evaluate_sampled
from ncf.evaluation.ranking import Scorer
from ncf.evaluation.significance import compare, sums_by_user
from ncf.runtime import Workers, choose_threads, workers

Floats = npt.NDArray[np.float64]
SPLITS = {"last": "each user's last interaction", "time": "the last tenth of all time"}
HALF_LIVES = (0.0, 1.0, 3.0, 10.0)
RULES = EvaluationConfig(cutoffs=(10,), bootstrap=0)
FIGURES = ("sampled hr@10", "sampled ndcg@10", "full hr@10", "full ndcg@10")
ONE = Workers(1)


@dataclass(frozen=True)
class Candidate:
    """Settings of a model that may be chosen."""

    family: str
    settings: str
    fit: Callable[[Dataset, int], Scorer]


def network(kind: str, half_life: float, start: str, epochs: int, rate: float, l2: float) -> Candidate:
    """A GMF of some kind."""
    train = {
        "epochs": epochs,
        "batch_size": 1024,
        "learning_rate": rate,
        "l2_gmf": l2,
        "l2_history": l2,
        "threads": 1,
        "init": start,
    }
    model = {"kind": kind, "factors": 64, "history_half_life": half_life}
    settings = Experiment.parse({"model": model, "train": train})

    def fit(dataset: Dataset, seed: int) -> Scorer:
        return trained(dataset, settings, seed, ONE)

    family = (
        "gmf" if kind == "gmf" else f"history-gmf, half-life {half_life:g}" if half_life else "history-gmf"
    )
    return Candidate(family, f"{start}, {epochs} epochs, rate {rate:g}, l2 {l2:g}", fit)


def ease(l2: float) -> Candidate:
    """EASE."""

    def fit(dataset: Dataset, seed: int) -> Scorer:
        train = dataset.seen_in_training
        return BASELINES["ease"].fit(train, len(dataset.items), {"l2": l2}, seed, ONE)

    return Candidate("ease", f"l2 {l2:g}", fit)


def candidates(quick: bool) -> list[Candidate]:
    """All that is tried; each half-life and plain GMF have the same settings to choose from."""
    found = [ease(l2) for l2 in (100.0, 300.0, 1000.0)]
    grid = [("random", 16, 0.005, 0.01), ("spectral", 3, 0.001, 0.015)]
    if quick:
        grid = [("random", 1, 0.005, 0.01)]
    for start, epochs, rate, l2 in grid:
        found.append(network("gmf", 0.0, start, epochs, rate, l2))
        found += [network("history-gmf", half_life, start, epochs, rate, l2) for half_life in HALF_LIVES]
    return found


def evaluated(scorer: Scorer, dataset: Dataset) -> Floats:
    """[4, users]: HR@10 and NDCG@10, sampled and full, of each user that is evaluated: the mean over the
    user's rows."""
    held_out = dataset.test
    sampled = evaluate_sampled(scorer, held_out, RULES, ONE).values
    full = evaluate_full(scorer, dataset, held_out, RULES, ONE).values
    rows = [values[name] for values in (sampled, full) for name in ("hr@10", "ndcg@10")]
    sums, counts = sums_by_user(np.stack(rows), held_out.user_rows)
    return sums / counts


def choose(split: str, found: list[Candidate], pool: Workers) -> dict[str, tuple[Candidate, float]]:
    """The best of each family on validation, and its NDCG@10."""
    dataset, _ = prepare_catalog("ml-100k", PrepareOptions(split=split))  # type: ignore[arg-type]
    figures = pool.map(
        lambda one: float(
            evaluate_sampled(one.fit(dataset, 0), dataset.validation, RULES, ONE).means["ndcg@10"]
        ),
        found,
    )
    best: dict[str, tuple[Candidate, float]] = {}
    for one, figure in zip(found, figures, strict=True):
        if one.family not in best or figure > best[one.family][1]:
            best[one.family] = one, figure
    return best


def measure(report: Report, split: str, seeds: Sequence[int], quick: bool, pool: Workers) -> None:
    """Choose, train again, evaluate, compare."""
    began = time.perf_counter()
    chosen = choose(split, candidates(quick), pool)
    dataset, _ = prepare_catalog("ml-100k", PrepareOptions(split=split, validation="none"))  # type: ignore[arg-type]
    recent = max((family for family in chosen if "half-life" in family), key=lambda family: chosen[family][1])
    finals = ("ease", "gmf", "history-gmf", recent)
    jobs = [(family, seed) for family in finals for seed in (seeds[:1] if family == "ease" else seeds)]

    def run(job: tuple[str, int]) -> Floats:
        scorer = chosen[job[0]][0].fit(dataset, job[1])
        return evaluated(scorer, dataset)

    figures: dict[str, list[Floats]] = {}
    for (family, _), found in zip(jobs, pool.map(run, jobs), strict=True):
        figures.setdefault(family, []).append(found)
    rows, kept = [], dict[str, Any]()
    for family, runs in figures.items():
        means = np.stack(runs).mean(2)
        cells = [
            f"{a:.4f} ± {b:.4f}" for a, b in zip(means.mean(0), means.std(0, ddof=len(runs) > 1), strict=True)
        ]
        rows.append((family, *cells))
        kept[family] = {"settings": chosen[family][0].settings, "test": means.tolist()}
    users = len(np.unique(dataset.test.user_rows))
    report.table(
        f"NDCG@10 on validation, where test is {SPLITS[split]}",
        ("model", "NDCG@10", "best settings"),
        [(family, f"{figure:.4f}", one.settings) for family, (one, figure) in chosen.items()],
    )
    report.table(
        (
            f"Test is {SPLITS[split]}: {len(dataset.test):,} rows of {users} users; mean ± deviation of "
            "the seeds"
        ),
        ("model", *FIGURES),
        rows,
    )
    kept["validation_ndcg@10"] = {family: [figure, one.settings] for family, (one, figure) in chosen.items()}
    kept["comparisons"] = tests(report, figures, recent)
    report.keep(split, kept | {"seconds": round(time.perf_counter() - began, 1)})


def tests(report: Report, figures: dict[str, list[Floats]], recent: str) -> dict[str, Any]:
    """The half-life that validation prefers against the others."""
    kept: dict[str, Any] = {"half-life chosen on validation": recent}
    for other in ("history-gmf", "gmf", "ease"):
        for number, figure in enumerate(FIGURES):
            a, b = (np.mean([run[number] for run in figures[name]], axis=0) for name in (other, recent))
            found = compare(a, b)
            kept[f"{figure} against {other}"] = [found.difference, found.low, found.high, found.p_value]
            report.log(
                f"{recent} against {other}, {figure}: {found.difference:+.4f} "
                f"[{found.low:+.4f}, {found.high:+.4f}], p {found.p_value:.4f}"
            )
    return kept


def main() -> None:
    """Run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, help="models trained side by side; one a core by default")
    arguments = parser.parse_args()
    report = Report("recency", arguments)
    with workers(arguments.threads or choose_threads()) as pool:
        for split in SPLITS:
            measure(report, split, arguments.seeds, arguments.quick, pool)
    report.write()


if __name__ == "__main__":
    main()
