"""iALS against the library `implicit`: processor time and quality at equal settings, from equal first tables.

Both minimise one objective (exponent 0) with 3 steps of conjugate gradients for a row, on equally many
threads, in turn. Quality is that objective, and NDCG@10 on ML-1M's validation lists. The second table is made
up: few interactions for many items.
"""

from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from common import Report, command_line, raw, take_turns
from ncf.baselines.base import sparse_rows
from ncf.baselines.ials import alternate
from ncf.baselines.products import Factors
from ncf.config import EvaluationConfig
from ncf.data import Csr, Dataset, prepare_catalog
from ncf.errors import imported
from ncf.evaluation import evaluate_held_out
from ncf.runtime import choose_threads, generator, workers

SETTINGS = {"ML-1M": (0.3, 8.0), "made up": (0.01, 0.3)}
"""The weight of an absent pair, and the penalty of a row: on ML-1M about the mean of the defaults'."""
WANTED = 1.2
RULES = EvaluationConfig(cutoffs=(10,), bootstrap=0)


def made_up(users: int, items: int, interactions: int) -> Csr:
    """Users of 40 tastes; three of four items are of the user's taste, and few items are popular."""
    random = np.random.default_rng(0)
    user = random.integers(users, size=2 * interactions)
    popular = (items * random.random(len(user)) ** 3).astype(np.int64)
    item = np.where(random.random(len(user)) < 0.25, popular, popular // 40 * 40 + user % 40) % items
    pairs = np.sort(random.permutation(np.unique(user * items + item))[:interactions])
    offsets = np.searchsorted(pairs // items, np.arange(users + 1))
    return Csr(offsets.astype(np.int64), (pairs % items).astype(np.int32))


@dataclass
class Fit:
    """One table, number of factors and number of threads, which both competitors get."""

    train: Csr
    items: int
    factors: int
    sweeps: int
    threads: int
    weight: float
    l2: float

    def first(self) -> tuple[Tensor, Tensor]:
        """Tables before the first sweep."""
        users_UD, items_ID = (
            torch.randn(rows, self.factors, generator=generator(0, "ials", rows)) * (0.1 / self.factors**0.5)
            for rows in (self.train.users, self.items)
        )
        return users_UD, items_ID

    def ours(self) -> Factors:
        """This package's."""
        users_UD, items_ID = self.first()
        settings = {"unobserved_weight": self.weight, "l2": self.l2, "iterations": self.sweeps, "cg_steps": 3}
        with workers(self.threads) as pool:
            alternate(self.train, users_UD, items_ID, settings, pool, exponent=0.0)
        return Factors(users_UD, items_ID)

    def library(self) -> Factors:
        """Its weight of a used pair is ours over a; its scores are 1 + a times ours."""
        confidence = (1.0 + self.weight) / self.weight
        scale = (1.0 + self.weight) ** 0.5
        with threadpool_limits(1, "blas"):
            model = imported("evaluate", "implicit.cpu.als").AlternatingLeastSquares(
                self.factors,
                self.l2 * confidence,
                confidence,
                iterations=self.sweeps,
                num_threads=self.threads,
            )
            model.user_factors, model.item_factors = ((table * scale).numpy() for table in self.first())
            model.fit(sparse_rows(self.train, self.items), show_progress=False)
        users_UD, items_ID = (
            torch.from_numpy(table / np.float32(scale)) for table in (model.user_factors, model.item_factors)
        )
        return Factors(users_UD, items_ID)

    def objective(self, model: Factors) -> float:
        """What both minimise."""
        users_UD, items_ID = model.users_UD.double(), model.items_ID.double()
        fit = sum(
            float(((items_ID[self.train.row(user)] @ users_UD[user] - 1.0) ** 2).sum())
            for user in range(self.train.users)
        )
        everything = ((users_UD.T @ users_UD) * (items_ID.T @ items_ID)).sum()
        return fit + float(
            self.weight * everything + self.l2 * (users_UD.square().sum() + items_ID.square().sum())
        )


def ndcg(dataset: Dataset, model: Factors) -> float:
    """NDCG@10 on the validation lists."""
    with workers(choose_threads()) as pool:
        return evaluate_held_out(model, dataset, "validation", RULES, pool).means["ndcg@10"]


def main() -> None:
    """Fit in turn, compare, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    arguments = parser.parse_args()
    sweeps, rounds = (3, 1) if arguments.quick else (12, arguments.rounds or 3)
    report = Report("ials", arguments)
    dataset, _ = prepare_catalog("ml-1m")
    tables = {
        "ML-1M": (dataset.seen_in_training, len(dataset.items)),
        "made up": (made_up(1_700, 13_000, 43_000), 13_000),
    }
    rows, kept = [], {}
    for name, (train, items) in tables.items():
        for factors in (64, 192):
            for threads in arguments.threads:
                fit = Fit(train, items, factors, sweeps, threads, *SETTINGS[name])
                timings = take_turns({"ours": fit.ours, "library": fit.library}, rounds)
                ours, library = timings["ours"].processor_seconds, timings["library"].processor_seconds
                models = fit.ours(), fit.library()
                quality = [f"{fit.objective(model):,.0f}" for model in models]
                if name == "ML-1M":
                    quality = [
                        f"{text}; {ndcg(dataset, model):.4f}"
                        for text, model in zip(quality, models, strict=True)
                    ]
                what = f"{name}, {factors} factors, {threads} threads"
                rows.append((what, f"{library:.2f}", f"{ours:.2f}", f"{ours / library:.2f}x", *quality))
                kept[what] = {"seconds": raw(timings), "quality": quality}
                report.target(f"{what}: processor time, ours / library", ours / library, WANTED, False)
    report.table(
        f"iALS, {sweeps} sweeps: objective; NDCG@10 on validation",
        ("table", "library: processor s", "ours", "ratio", "quality, ours", "library"),
        rows,
    )
    report.keep("fits", kept)
    report.write()


if __name__ == "__main__":
    main()
