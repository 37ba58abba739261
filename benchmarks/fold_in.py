"""Fold-in of visitors: users that training never saw, answered from their items, beside the same users
trained in.

A tenth of ML-1M's users is left out, other ones for each seed; the recipe is trained once with everybody and
once without them. Their training items become the history, their published lists evaluate it. Settings were
chosen with `--validation`, where training spares the validation positives and these are evaluated instead.
References for the same users: popularity as the floor, and EASE fitted to the same remaining users, which
needs an items x items matrix.

A history-aware model has a vector of a visitor without a guess, its look-up; beside it stands the map that
other kinds have, fitted to the same model's users. `CHANGES` says what makes one of a plain recipe.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from safetensors.numpy import load_file
from torch import Tensor

from common import ROOT, Report, command_line, timed
from ncf import experiment
from ncf.baselines.base import sparse_rows
from ncf.baselines.ease import ease_scores
from ncf.config import EvaluationConfig, Experiment
from ncf.data import Csr, Dataset, HeldOut, PrepareOptions, Vocabulary, prepare_catalog
from ncf.evaluation import evaluate_sampled
from ncf.runtime import Workers, choose_threads, workers
from ncf.serving.fold_in import FoldIn
from ncf.serving.history_embedding import HistoryEmbedding
from ncf.serving.numpy_model import Floats, NumpyModel, Rows

KINDS = ("gmf", "mlp", "neumf")
CHANGES = {
    "history-gmf": ("gmf", ["model.kind=history-gmf", "train.epochs=4", "train.batch_size=8192"]),
    "history-gmf-random": (
        "gmf",
        [
            *("model.kind=history-gmf", "train.init=random", "train.epochs=12", "train.batch_size=8192"),
            *("train.learning_rate=0.005", "train.l2_gmf=0.01", "train.l2_history=0.01"),
        ],
    ),
    "history-neumf": ("neumf", ["model.kind=history-neumf"]),
}
"""The recipe of a history-aware kind is that of a plain one, changed."""
BY_MAP = " by map"
METRICS = ("hr@10", "ndcg@10")
LENGTHS = (1, 2, 3, 5, 10, 20)
HELD_SHARE, KNOWN_SHARE = 0.1, 0.5
WANTED_RATIO, WANTED_SECONDS, WANTED_BUILD = 0.95, 0.010, 2.0
RULES = EvaluationConfig(cutoffs=(10,), bootstrap=0)
Values = dict[str, npt.NDArray[np.float64]]


@dataclass
class Table:
    """Scores of fixed users: `scores[b, i]`, or a network and the vectors of the users."""

    scores: Floats | None = None
    network: NumpyModel | None = None
    vectors: Floats | None = None

    def __call__(self, users_B: Tensor, items_BC: Tensor) -> Tensor:
        """Scores [B, C]."""
        rows, items = users_B.numpy(), items_BC.numpy()
        if self.scores is not None:
            return torch.from_numpy(np.take_along_axis(self.scores[rows], items, 1))
        assert self.network is not None
        assert self.vectors is not None
        queries = self.network.queries(self.vectors[rows])
        return torch.from_numpy(self.network.scores(queries, self.network.sides(items)))

    def catalogue(self, users_B: Tensor) -> Tensor:
        """Not asked for."""
        raise NotImplementedError


@dataclass
class Held:
    """The users left out: their rows, their histories, and their candidate lists by position."""

    users: Rows
    histories: list[Rows]
    lists: HeldOut

    def shortened(self, length: int, seed: int) -> list[Rows]:
        """At most `length` items of each history, drawn at random: the published file has no times."""
        random = np.random.default_rng(seed)
        return [h if len(h) <= length else random.choice(h, length, replace=False) for h in self.histories]


@dataclass
class Findings:
    """Values a user of everything measured, appended seed by seed."""

    values: dict[tuple[str, str], list[Values]] = field(default_factory=lambda: defaultdict(list))
    build_seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, what: str, scorer: Table, held: Held, pool: Workers) -> None:
        """Judge one way of answering."""
        evaluated = evaluate_sampled(scorer, held.lists, RULES, pool)
        self.values[kind, what].append({name: evaluated.values[name] for name in METRICS})

    def of(self, kind: str, what: str, metric: str) -> npt.NDArray[np.float64]:
        """Every held user of every seed."""
        return np.concatenate([values[metric] for values in self.values[kind, what]])


def hold(dataset: Dataset, seed: int, validation: bool) -> Held:
    """A tenth of the users."""
    count = len(dataset.users)
    users = np.sort(np.random.default_rng(seed).permutation(count)[: round(HELD_SHARE * count)])
    seen = training_items(dataset, validation)
    held_out = dataset.validation if validation else dataset.test
    position = np.searchsorted(held_out.user_rows, users)
    assert (held_out.user_rows[position] == users).all()
    lists = HeldOut(np.arange(len(users), dtype=np.int32), held_out.candidates[position])
    return Held(users, [seen.row(user) for user in users], lists)


def without(dataset: Dataset, gone: Rows) -> Dataset:
    """The data set without these users: no row, no interaction, no part in popularity."""
    stays = np.ones(len(dataset.users), bool)
    stays[gone] = False
    row = (np.cumsum(stays) - 1).astype(np.int32)

    def evaluated(rows: HeldOut) -> HeldOut:
        kept = stays[rows.user_rows]
        return HeldOut(row[rows.user_rows[kept]], rows.candidates[kept])

    train = dataset.train.take(stays[dataset.train.user_rows])
    train = replace(train, user_rows=row[train.user_rows])
    counts, columns = dataset.known.counts, dataset.known.columns
    offsets = np.concatenate([[0], np.cumsum(counts[stays])]).astype(np.int64)
    return replace(
        with_train(dataset, train),
        users=Vocabulary(dataset.users.ids[stays]),
        validation=evaluated(dataset.validation),
        test=evaluated(dataset.test),
        known=Csr(offsets, columns[np.repeat(stays, counts)]),
    )


def half_known(dataset: Dataset, held: Rows, seed: int) -> Dataset:
    """The data set with a random half of these users' training interactions."""
    is_held = np.zeros(len(dataset.users), bool)
    is_held[held] = True
    kept = np.random.default_rng(seed).random(len(dataset.train)) < KNOWN_SHARE
    return with_train(dataset, dataset.train.take(kept | ~is_held[dataset.train.user_rows]))


def with_train(dataset: Dataset, train: Any) -> Dataset:
    """Other training interactions, and the popularity that follows from them."""
    popularity = pl.Series("popularity", train.item_counts(len(dataset.items)))
    return replace(
        dataset, train=train, item_columns=dataset.item_columns.with_columns(popularity), digest=""
    )


def trained(
    dataset: Dataset, kind: str, seed: int, validation: bool, overrides: list[str]
) -> tuple[NumpyModel, HistoryEmbedding | None]:
    """The recipe's model of these data, in a folder that does not outlive this."""
    recipe, changes = CHANGES.get(kind, (kind, []))
    changes = [
        *changes,
        *overrides,
        f"train.seed={seed}",
        *(["train.validation=hold-out"] if validation else []),
    ]
    settings = Experiment.load(ROOT / "recipes" / f"ml-1m-{recipe}.toml", changes)
    with tempfile.TemporaryDirectory() as folder:
        run = experiment.train(dataset, settings, Path(folder) / "run")
        look_up = HistoryEmbedding.open(run.artifact)
        if look_up is not None:
            look_up = replace(look_up, table_ID=look_up.table_ID.copy())
        return NumpyModel(load_file(run.artifact / "model.safetensors")), look_up


def ways(
    kind: str, network: NumpyModel, look_up: HistoryEmbedding | None, seen: Csr, seed: int
) -> dict[str, FoldIn]:
    """By name: how a visitor gets a vector; a history-aware model has two ways."""
    found = {kind: FoldIn.build(network, seen, seed, look_up)}
    if look_up is not None:
        found[kind + BY_MAP] = FoldIn.build(network, seen, seed)
    return found


def named(kinds: list[str]) -> list[str]:
    """The rows of the tables: both ways of a history-aware kind."""
    return [name for kind in kinds for name in ((kind, kind + BY_MAP) if "history" in kind else (kind,))]


def training_items(dataset: Dataset, validation: bool) -> Csr:
    """What a model trained on `dataset` has seen."""
    return dataset.seen_in_training if validation else dataset.seen_before("test")


def visitors(
    dataset: Dataset,
    held: Held,
    kind: str,
    seed: int,
    arguments: argparse.Namespace,
    found: Findings,
    pool: Workers,
) -> tuple[NumpyModel, FoldIn]:
    """Trained in, and folded in with all and with few of their items."""
    validation, overrides = arguments.validation, arguments.overrides
    everybody, _ = trained(dataset, kind, seed, validation, overrides)
    others = without(dataset, held.users)
    network, look_up = trained(others, kind, seed, validation, overrides)
    seen = training_items(others, validation)
    for _ in range(3):
        wall, _ = timed(lambda: FoldIn.build(network, seen, seed, look_up))
        found.build_seconds[kind].append(wall)
    made = ways(kind, network, look_up, seen, seed)
    for name, fold_in in made.items():
        vectors = everybody.user_vectors(held.users)
        found.add(name, "trained in", Table(network=everybody, vectors=vectors), held, pool)
        for length in (*LENGTHS, None):
            histories = held.histories if length is None else held.shortened(length, seed)
            table = Table(network=network, vectors=fold_in.vectors(histories))
            found.add(name, f"{length or 'all'} items", table, held, pool)
    return network, made[kind]


def returning(
    dataset: Dataset,
    held: Held,
    kind: str,
    seed: int,
    arguments: argparse.Namespace,
    found: Findings,
    pool: Workers,
) -> None:
    """Users that training knows by half of their items: as trained, and updated with the other half."""
    validation = arguments.validation
    half = half_known(dataset, held.users, seed)
    network, look_up = trained(half, kind, seed, validation, arguments.overrides)
    seen, vectors = training_items(half, validation), network.user_vectors(held.users)
    for name, fold_in in ways(kind, network, look_up, seen, seed).items():
        updated = np.stack(
            [
                fold_in.updated(vector, seen.row(user), history)
                for vector, user, history in zip(vectors, held.users, held.histories, strict=True)
            ]
        )
        folded = fold_in.vectors(held.histories)
        for what, values in (("half", vectors), ("half, updated", updated), ("half, folded in", folded)):
            found.add(name, what, Table(network=network, vectors=values), held, pool)


def references(
    dataset: Dataset, held: Held, seed: int, validation: bool, found: Findings, pool: Workers
) -> None:
    """Popularity and EASE among the users that are left."""
    others = without(dataset, held.users)
    seen = training_items(others, validation)
    popularity = np.bincount(seen.columns, minlength=len(dataset.items)).astype(np.float32)
    found.add(
        "popularity",
        "all items",
        Table(np.broadcast_to(popularity, (len(held.users), len(popularity)))),
        held,
        pool,
    )
    weights = ease_scores(sparse_rows(seen, len(dataset.items)), 200.0, 0.33, 0.5).weights_between_items()
    for length in (*LENGTHS, None):
        histories = held.histories if length is None else held.shortened(length, seed)
        scores = np.stack([weights[history].sum(0) for history in histories])
        found.add("ease", f"{length or 'all'} items", Table(scores), held, pool)


def ratio(found: Findings, kind: str, what: str, metric: str) -> tuple[float, float, float]:
    """Folded in over trained in, with a paired 95% bootstrap interval over the users."""
    a, b = found.of(kind, what, metric), found.of(kind, "trained in", metric)
    times = np.random.default_rng(0).multinomial(len(a), np.full(len(a), 1 / len(a)), size=2000)
    low, high = np.quantile((times @ a) / (times @ b), [0.025, 0.975])
    return float(a.mean() / b.mean()), float(low), float(high)


def request_times(fold_in: FoldIn, items: int, repeats: int) -> dict[int, dict[str, float]]:
    """Microseconds of `vector` by length of history."""
    random, times = np.random.default_rng(0), {}
    for length in (1, 20, 100, 1000):
        histories = [random.choice(items, length, replace=False) for _ in range(repeats)]
        taken = []
        for history in histories:
            began = time.perf_counter()
            fold_in.vector(history)
            taken.append(1e6 * (time.perf_counter() - began))
        times[length] = {"p50": float(np.median(taken)), "p99": float(np.quantile(taken, 0.99))}
    return times


def tell(report: Report, found: Findings, kinds: list[str], with_returning: bool) -> None:
    """The tables and the targets."""
    kinds = named(kinds)

    def cell(kind: str, what: str) -> str:
        return " / ".join(f"{found.of(kind, what, name).mean():.4f}" for name in METRICS)

    def against(kind: str, what: str) -> list[str]:
        return ["{:.3f} [{:.3f}, {:.3f}]".format(*ratio(found, kind, what, name)) for name in METRICS]

    report.table(
        "New visitors, HR@10 / NDCG@10, and the ratio to the same users trained in",
        ("model", "trained in", "folded in", "HR ratio", "NDCG ratio"),
        [
            *(
                (kind, cell(kind, "trained in"), cell(kind, "all items"), *against(kind, "all items"))
                for kind in kinds
            ),
            ("EASE", "", cell("ease", "all items"), "", ""),
            ("popularity", "", cell("popularity", "all items"), "", ""),
        ],
    )
    whats = [f"{length} items" for length in (*LENGTHS, "all")]
    report.table(
        "By length of history, HR@10 / NDCG@10",
        ("items", *kinds, "EASE"),
        [(what, *(cell(kind, what) for kind in kinds), cell("ease", what)) for what in whats],
    )
    if with_returning:
        report.table(
            "Users known by half of their items, first seed, HR@10 / NDCG@10",
            ("model", "vector as trained", "updated", "folded in afresh"),
            [
                (kind, *(cell(kind, what) for what in ("half", "half, updated", "half, folded in")))
                for kind in kinds
            ],
        )  # fmt: skip
    for kind in kinds:
        for name in METRICS:
            report.target(f"{kind} {name} ratio", ratio(found, kind, "all items", name)[0], WANTED_RATIO)
    report.keep(
        "results",
        {
            f"{kind}, {what}": {name: found.of(kind, what, name).mean() for name in METRICS}
            for kind, what in found.values
        },
    )
    report.keep(
        "ratios",
        {kind: {name: ratio(found, kind, "all items", name) for name in METRICS} for kind in kinds},
    )


def measure(arguments: argparse.Namespace, report: Report, pool: Workers) -> None:
    """All seeds and kinds."""
    found = Findings()
    dataset, _ = prepare_catalog("ml-1m", PrepareOptions(validation_popularity_exponent=0.3))
    last = None
    for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
        held = hold(dataset, seed, arguments.validation)
        references(dataset, held, seed, arguments.validation, found, pool)
        for kind in arguments.kinds:
            last = visitors(dataset, held, kind, seed, arguments, found, pool)
            if not (arguments.quick or arguments.visitors_only) and seed == arguments.seeds[0]:
                returning(dataset, held, kind, seed, arguments, found, pool)
            print(kind, seed, "measured", flush=True)
    tell(report, found, arguments.kinds, not (arguments.quick or arguments.visitors_only))
    if last is not None:
        times = request_times(last[1], last[0].items, 200 if arguments.quick else 2000)
        report.table(
            f"One request of {arguments.kinds[-1]}, microseconds of `vector`",
            ("items of history", "p50", "p99"),
            [(length, f"{of['p50']:.0f}", f"{of['p99']:.0f}") for length, of in times.items()],
        )
        report.target("p99 seconds, 100 items", times[100]["p99"] / 1e6, WANTED_SECONDS, at_least=False)
        report.keep("request_microseconds", times)
    for kind, seconds in found.build_seconds.items():
        report.target(f"{kind} seconds to build", min(seconds), WANTED_BUILD, at_least=False)
    report.keep("build_seconds", found.build_seconds)


def main() -> None:
    """Run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), help=f"of {', '.join((*KINDS, *CHANGES))}")
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", help="section.key=value, of all kinds"
    )
    parser.add_argument("--visitors-only", action="store_true", help="leave out users who come back")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--validation", action="store_true", help="measure on the validation hold-out")
    arguments = parser.parse_args()
    report = Report("fold_in-validation" if arguments.validation else "fold_in", arguments)
    with workers(choose_threads()) as pool:
        measure(arguments, report, pool)
    report.write()


if __name__ == "__main__":
    main()
