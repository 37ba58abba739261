"""How well a validation hold-out predicts which model is best on the user's true last item, on ML-100K, which
has times.

Test is each user's last interaction. From the rest one interaction a user is held out by each scheme, the
same two dozen models are trained without it and evaluated on it; for the test they are trained on all of the
rest. A scheme is good if it puts the models in the order of the test, and if the model that it would choose
is nearly the best there is.

Two protocols: the full ranking, and the sampled one without the noise of its draws: where A of a user's N
unseen items score above the positive, the number of those among 99 drawn ones is hypergeometric, so the mean
of a metric over all lists is a sum of ten terms. Intervals are bootstraps over users, drawn together for
validation and test.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common import Report, command_line, trained
from ncf.baselines import BASELINES
from ncf.config import Experiment
from ncf.data import Dataset, Interactions, PrepareOptions, prepare_catalog
from ncf.data.splits import hold_out
from ncf.evaluation.ranking import Scorer
from ncf.models import mask_items
from ncf.runtime import Workers, choose_threads, seed_of, workers

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
NEGATIVES, CUTOFF, BOOTSTRAPS, HALVINGS = 99, 10, 1000, 200
PROTOCOLS = ("sampled", "full")
SMALL = {"factors": 32, "embedding": 32, "tower": [64, 32, 16]}
ONE = Workers(1)


@dataclass(frozen=True)
class Candidate:
    """A model with its settings: a baseline, or a network that is trained."""

    name: str
    fit: Callable[[Dataset, int], Scorer]


@dataclass(frozen=True)
class Scheme:
    """A way of holding out: position of one interaction a user, by seed; `seeded` if seeds differ."""

    name: str
    hold: Callable[[Dataset, int], Rows]
    seeded: bool = True


def baseline(name: str, **settings: Any) -> Candidate:
    """One of `ncf.baselines`."""

    def fit(dataset: Dataset, seed: int) -> Scorer:
        return BASELINES[name].fit(dataset.seen_in_training, len(dataset.items), settings, seed, ONE)

    return Candidate(" ".join([name, *(f"{key}={value:g}" for key, value in settings.items())]), fit)


def network(kind: str, start: str, epochs: int, l2: float, **model: Any) -> Candidate:
    """One of our kinds, trained for `epochs`."""
    rate = 0.001 if start == "spectral" else 0.005
    train = {
        "epochs": epochs, "batch_size": 1024, "learning_rate": rate, "l2_gmf": l2, "l2_mlp": l2,
        "threads": 1, "precision": "float32", "init": start,
    }  # fmt: skip
    settings = Experiment.parse({"model": {"kind": kind} | SMALL | model, "train": train})

    def fit(dataset: Dataset, seed: int) -> Scorer:
        return trained(dataset, settings, seed, ONE)

    extra = "".join(f" {key}={value}" for key, value in model.items())
    return Candidate(f"{kind} {start} epochs={epochs} l2={l2:g}{extra}", fit)


CANDIDATES = (
    baseline("popularity"),
    baseline("item-knn", neighbours=20, shrink=0),
    baseline("item-knn", neighbours=100, shrink=100),
    baseline("user-knn", neighbours=50, shrink=0),
    baseline("user-knn", neighbours=200, shrink=10),
    *(baseline("ease", l2=l2) for l2 in (30, 100, 300, 1000, 3000)),
    baseline("ials", factors=32, unobserved_weight=0.1, l2=0.003, iterations=6),
    baseline("ials", factors=32, unobserved_weight=0.1, l2=0.03, iterations=6),
    network("gmf", "random", 6, 0.0),
    network("gmf", "random", 12, 0.003),
    network("gmf", "random", 12, 0.01),
    network("gmf", "random", 12, 0.03),
    network("gmf", "random", 10, 0.01, factors=8),
    network("gmf", "spectral", 1, 0.015),
    network("gmf", "spectral", 6, 0.03),
    network("mlp", "random", 4, 0.0),
    network("mlp", "random", 5, 0.03),
    network("mlp", "spectral", 3, 0.01),
    network("neumf", "random", 4, 0.01),
    network("neumf", "spectral", 3, 0.03),
)


def at_random(exponent: float) -> Callable[[Dataset, int], Rows]:
    """One interaction a user, with probability proportional to popularity ** -exponent."""

    def hold(dataset: Dataset, seed: int) -> Rows:
        return _held(dataset, "random", seed, exponent)

    return hold


def last(dataset: Dataset, seed: int) -> Rows:
    """The latest interaction; with the test out of the data, the last but one."""
    return _held(dataset, "last", seed, 0.0)


def _held(dataset: Dataset, scheme: Any, seed: int, exponent: float) -> Rows:
    users = len(dataset.users)
    random = np.random.default_rng(seed_of(seed, "validation study"))
    return hold_out(dataset.train, users, scheme, np.ones(users, bool), random, exponent)


def least_alike(dataset: Dataset, seed: int) -> Rows:
    """One at random of the third of a user's items that resemble the user's others least (cosine of their
    users)."""
    train, users, items = dataset.train, len(dataset.users), len(dataset.items)
    used_UI = np.zeros((users, items), np.float32)
    used_UI[train.user_rows, train.item_rows] = 1
    unit_UI = used_UI / np.maximum(np.sqrt(used_UI.sum(0)), 1)
    cosine_II = unit_UI.T @ unit_UI
    np.fill_diagonal(cosine_II, 0)
    alike_N = (used_UI @ cosine_II)[train.user_rows, train.item_rows]
    order = np.lexsort((alike_N, train.user_rows))
    counts_U = train.user_counts(users)
    starts_U = np.cumsum(counts_U) - counts_U
    random = np.random.default_rng(seed_of(seed, "least alike"))
    return np.asarray(order[starts_U + random.integers(0, np.maximum(counts_U // 3, 1))])


def newest(dataset: Dataset, seed: int) -> Rows:
    """One at random of the items of the latest year of release among a user's."""
    year_I = dataset.item_columns["year"].fill_null(0).to_numpy()
    random = np.random.default_rng(seed_of(seed, "newest"))
    score_N = year_I[dataset.train.item_rows] + random.random(len(dataset.train))
    order = np.lexsort((score_N, dataset.train.user_rows))
    return np.asarray(order[np.cumsum(dataset.train.user_counts(len(dataset.users))) - 1])


SCHEMES = (
    Scheme("uniform", at_random(0.0)),
    *(Scheme(f"popularity^-{exponent:g}", at_random(exponent)) for exponent in (0.3, 0.5, 1.0)),
    Scheme("least alike third", least_alike),
    Scheme("newest release", newest),
    Scheme("last but one by time", last, seeded=False),
)


def without(dataset: Dataset, held: Rows) -> Dataset:
    """The data set with these training interactions taken out."""
    stays = np.ones(len(dataset.train), bool)
    stays[held] = False
    train: Interactions = dataset.train.take(stays)
    return replace(dataset, train=train)


def evaluated(dataset: Dataset, positives: Rows, pool: Workers, seed: int) -> Floats:
    """NDCG@10 [M, 2, U] of each candidate trained on `dataset`, sampled and full; `positives` [U] are ranked
    among the items that their user is not known to have used at all."""

    def one(number: int) -> Floats:
        with torch.inference_mode(False):
            scorer = CANDIDATES[number].fit(dataset, seed)
        return ndcg(scorer, dataset, positives, seed)

    return np.stack(pool.map(one, list(range(len(CANDIDATES)))))


def ndcg(scorer: Scorer, dataset: Dataset, positives: Rows, seed: int) -> Floats:
    """[2, U]; ties are broken at random."""
    users = np.arange(len(dataset.users))
    scores = scorer.catalogue(torch.from_numpy(users)).clone().float()
    own = scores.gather(1, torch.from_numpy(positives)[:, None])
    mask_items(scores, dataset.known, users)
    above, tied = (scores > own).sum(1).numpy(), (scores == own).sum(1).numpy()
    above = above + np.random.default_rng(seed_of(seed, "ties")).integers(0, tied + 1)
    gains = 1 / np.log2(np.arange(2, CUTOFF + 2))
    full = np.where(above < CUTOFF, gains[np.minimum(above, CUTOFF - 1)], 0.0)
    return np.stack([places(above, len(dataset.items) - dataset.known.counts) @ gains, full])


def places(above: Rows, unseen: Rows) -> Floats:
    """[U, 10]: how likely 0 ... 9 of 99 unseen items, drawn from `unseen` of which `above` are better, are
    better."""
    better, below = np.arange(CUTOFF)[None], (unseen - above)[:, None]
    possible = (better <= above[:, None]) & (NEGATIVES - better <= below)
    logarithm = (
        log_choose(above[:, None], better)
        + log_choose(below, NEGATIVES - better)
        - log_choose(unseen[:, None], np.array(NEGATIVES))
    )
    return np.where(possible, np.exp(logarithm), 0.0)


def log_choose(size: Rows, taken: Rows) -> Floats:
    """Logarithm of the binomial coefficient; of no meaning where `taken` is more than `size`."""
    rest = np.maximum(size - taken, 0)
    parts = [torch.from_numpy(np.asarray(number + 1.0)).lgamma().numpy() for number in (size, taken, rest)]
    return np.asarray(parts[0] - parts[1] - parts[2])


def ranks(values: Floats) -> Floats:
    """Ranks along the last axis (no two models are exactly equal)."""
    return np.argsort(np.argsort(values, axis=-1), axis=-1).astype(np.float64)


def kendall(a: Floats, b: Floats) -> Floats:
    """Kendall's tau along the last axis, of [..., M]."""
    first, second = np.triu_indices(a.shape[-1], 1)
    assert_same = np.sign(a[..., first] - a[..., second]) * np.sign(b[..., first] - b[..., second])
    return np.asarray(assert_same.mean(-1))


def spearman(a: Floats, b: Floats) -> Floats:
    """Correlation of the ranks along the last axis."""
    gap, size = ranks(a) - ranks(b), a.shape[-1]
    return np.asarray(1 - 6 * (gap**2).sum(-1) / (size * (size**2 - 1)))


def regret(validation: Floats, test: Floats) -> Floats:
    """The test figure of the best model there minus that of the one that validation chooses."""
    chosen = np.take_along_axis(test, validation.argmax(-1)[..., None], -1)[..., 0]
    return np.asarray(test.max(-1) - chosen)


FIGURES: dict[str, Callable[[Floats, Floats], Floats]] = {"tau": kendall, "rho": spearman, "regret": regret}


def agreement(validations: Sequence[Floats], test: Floats) -> dict[str, Floats]:
    """[1 + bootstraps] of each figure, the mean over seeds; the first is that of all users. Values are [M,
    U]."""
    users = test.shape[1]
    random = np.random.default_rng(0)
    times = np.concatenate(
        [np.ones((1, users)), random.multinomial(users, np.full(users, 1 / users), BOOTSTRAPS)]
    )
    truth = times @ test.T / users
    return {
        name: np.mean([figure(times @ values.T / users, truth) for values in validations], axis=0)
        for name, figure in FIGURES.items()
    }  # fmt: skip


def across_halves(validations: Sequence[Floats], test: Floats) -> float:
    """Mean tau of the order by one half of the users with the test's order by the other half."""
    users, random, found = test.shape[1], np.random.default_rng(1), []
    for _ in range(HALVINGS):
        order = random.permutation(users)
        one, other = order[: users // 2], order[users // 2 :]
        found += [kendall(values[:, one].mean(1), test[:, other].mean(1)) for values in validations]
    return float(np.mean(found))


def tell(report: Report, protocol: int, found: dict[str, list[Floats]], test: Floats) -> None:
    """One table and its figures for the JSON."""
    rows, kept = [], {}
    reference = agreement([values[:, protocol] for values in found["uniform"]], test[:, protocol])
    for name, values in {**found, "test itself": [test]}.items():
        own = [one[:, protocol] for one in values]
        figures = agreement(own, test[:, protocol])
        halves = across_halves(own, test[:, protocol])
        ahead = figures["tau"] - reference["tau"]
        level = float(np.mean([one.mean() for one in own]))
        cells = {key: _with_interval(one) for key, one in {**figures, "tau - uniform": ahead}.items()}
        kept[name] = {"level": level, "tau_across_halves": halves, **cells}
        shown = [f"{cells[key][0]:.3f}" if key == "rho" else _shown(cells[key]) for key in cells]
        rows.append((name, f"{level:.3f}", *shown, f"{halves:.3f}"))
    report.table(
        (
            f"NDCG@10, {PROTOCOLS[protocol]}: order of {len(CANDIDATES)} models on validation against "
            "test, 95% intervals"
        ),
        (
            "held out",
            "level",
            "Kendall's tau",
            "Spearman's rho",
            "regret",
            "tau - uniform's",
            "tau across halves",
        ),
        rows,
    )
    report.keep(PROTOCOLS[protocol], kept)


def _with_interval(figures: Floats) -> list[float]:
    return [float(figures[0]), *(float(end) for end in np.quantile(figures[1:], [0.025, 0.975]))]


def _shown(cell: list[float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*cell)


def measure(report: Report, seeds: Sequence[int], pool: Workers) -> None:
    """Train, evaluate, compare."""
    began = time.perf_counter()
    dataset, _ = prepare_catalog("ml-100k", PrepareOptions(split="last", validation="none"))
    tests = dataset.test.positives.astype(np.int64)
    assert (dataset.test.user_rows == np.arange(len(dataset.users))).all()
    test = evaluated(dataset, tests, pool, seeds[0])
    found: dict[str, list[Floats]] = {}
    for scheme in SCHEMES:
        for seed in seeds if scheme.seeded else seeds[:1]:
            held = scheme.hold(dataset, seed)
            positives = dataset.train.item_rows[held].astype(np.int64)
            found.setdefault(scheme.name, []).append(evaluated(without(dataset, held), positives, pool, seed))
        print(f"{scheme.name}: {time.perf_counter() - began:.0f} s", flush=True)
    for protocol in range(len(PROTOCOLS)):
        tell(report, protocol, found, test)
    best = [max(range(len(CANDIDATES)), key=lambda m: test[m, p].mean()) for p in range(2)]
    report.log(f"Best on test: {CANDIDATES[best[0]].name} (sampled), {CANDIDATES[best[1]].name} (full).")
    report.keep(
        "models",
        {
            one.name: {
                "test": test[number].mean(1).tolist(),
                **{name: np.mean(values, axis=0)[number].mean(1).tolist() for name, values in found.items()},
            }
            for number, one in enumerate(CANDIDATES)
        },
    )
    report.keep("seconds", round(time.perf_counter() - began, 1))


def main() -> None:
    """Run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    arguments = parser.parse_args()
    report = Report("validation", arguments)
    with workers(choose_threads()) as pool:
        measure(report, arguments.seeds[:1] if arguments.quick else arguments.seeds, pool)
    report.write()


if __name__ == "__main__":
    main()
