"""What comes next: models of sequences against a GMF, on data in the order of time.

The test of `--data` is each user's last item, and validation the one before it (`ncf prepare`). Each recipe
is trained on all that came before the test, validation included, for the epochs that it says; the last epoch
is ranked once: among the lists and among all items. An epoch's processor seconds stand beside those of a GMF
(`recipes/ml-1m-gmf.toml` from random tables), and a request's milliseconds are those of the numpy encoder
with a full history and of the whole catalogue.
"""

import time
from pathlib import Path

import numpy as np

from common import Report, command_line, timed
from ncf.config import EvaluationConfig, Experiment
from ncf.data import Dataset
from ncf.evaluation import evaluate_full, evaluate_sampled
from ncf.models import ModelScorer, build_model
from ncf.models.attention import AttentionGMF
from ncf.runtime import Workers, generator
from ncf.serving.artifact import arrays_of
from ncf.serving.attention_encoder import NumpyEncoder
from ncf.training import Trainer

ROOT = Path(__file__).resolve().parents[1]
RULES = EvaluationConfig(cutoffs=(10,), bootstrap=0)
FIGURES = ("hr@10", "ndcg@10")
GMF = ["train.init='random'", "train.threads=1"]


def fitted(dataset: Dataset, recipe: Experiment, seed: int, epochs: int) -> tuple[Trainer, list[float]]:
    """The recipe trained with `seed`, and the processor seconds of each epoch."""
    train = recipe.train.model_copy(update={"seed": seed, "epochs": epochs, "threads": 1})
    model = build_model(recipe.model, len(dataset.users), len(dataset.items), generator(seed, "init"))
    trainer = Trainer(dataset, model, train, Workers(1))
    return trainer, [timed(trainer.train_epoch)[1] for _ in range(epochs)]


def request_milliseconds(model: AttentionGMF, repeats: int = 200) -> float:
    """The median time of a history of full length, from vectors to the scores of all items."""
    encoder, weights = NumpyEncoder(arrays_of(model.encoder)), arrays_of(model)
    random, spent = np.random.default_rng(0), []
    for _ in range(repeats):
        rows = random.choice(len(model.item_table), encoder.length)
        began = time.perf_counter()
        scores = weights["item_table"] @ encoder.after(weights["history_table"][rows])
        np.argpartition(-(scores + weights["item_bias"]), 10)
        spent.append(1000 * (time.perf_counter() - began))
    return float(np.median(spent))


def main() -> None:
    """Run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--data", required=True, help="folder of 'ncf prepare', with times")
    parser.add_argument("--recipes", nargs="*", default=["sasrec", "history-places"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--set", nargs="*", default=[], help="settings of all recipes, section.key=value")
    arguments = parser.parse_args()
    report = Report("sequences", arguments)
    dataset = Dataset.open(arguments.data).with_validation_in_training()
    gmf = Experiment.load(ROOT / "recipes" / "ml-1m-gmf.toml", GMF)
    plain = min(fitted(dataset, gmf, 0, 1 if arguments.quick else 3)[1])
    rows = []
    for name in arguments.recipes:
        recipe = Experiment.load(ROOT / "recipes" / f"{name}.toml", arguments.set)
        figures: list[list[float]] = []
        seconds: list[float] = []
        for seed in arguments.seeds:
            trainer, spent = fitted(dataset, recipe, seed, 1 if arguments.quick else recipe.train.epochs)
            scorer, seconds = ModelScorer(trainer.evaluated_model), [*seconds, *spent]
            listed = evaluate_sampled(scorer, dataset.test, RULES, Workers(1)).means
            full = evaluate_full(scorer, dataset, dataset.test, RULES, Workers(1)).means
            figures.append([means[figure] for means in (listed, full) for figure in FIGURES])
            report.log(f"{name}, seed {seed}: {figures[-1]}, {sum(spent):.0f} s of processor time")
        means, spread = np.mean(figures, 0), np.std(figures, 0, ddof=len(figures) > 1)
        cells = [f"{mean:.4f} ± {by:.4f}" for mean, by in zip(means, spread, strict=True)]
        epoch = float(np.median(seconds))
        rows.append((name, *cells, f"{epoch:.1f}", f"{epoch / plain:.1f}"))
        report.keep(name, {"figures": figures, "epoch": epoch, "settings": recipe.model_dump(mode="json")})
        if isinstance(trainer.model, AttentionGMF):
            spent_ms = request_milliseconds(trainer.model)
            report.log(f"{name}, a request with {trainer.model.length} items: {spent_ms:.2f} ms (median)")
            report.target("request, ms", spent_ms, 3.0, at_least=False)
    columns = ("recipe", *(f"{how} {figure}" for how in ("lists", "full") for figure in FIGURES))
    report.table(
        f"{dataset.name}, test; a GMF's epoch takes {plain:.1f} s of processor time",
        (*columns, "epoch, s", "of GMF's"),
        rows,
    )
    report.write()


if __name__ == "__main__":
    main()
