"""Evaluation NeuMF on the 6,040 published lists of 100, against the loop of the public port; and full
ranking.

Ours: `evaluate_sampled(ModelScorer(model), ...)`, the making of the `ModelScorer` included, bootstrap off, 1
and 2 threads. The peer: one list at a time through a plain NeuMF with the same weights, `torch.topk`, hit
ratio and gain in Python; once with a `DataLoader` that collates each list of 100 item by item and with
gradients recorded, as the port has it, and once with the lists as ready tensors and without gradients, which
is kinder. The peer may use as many threads of torch's own as are best for it. Both must give the same HR@10
and NDCG@10, up to lists where scores tie in the last bits.

About two minutes on two quiet cores; half a minute with --quick.
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from common import (
    Report,
    Timing,
    command_line,
    movielens,
    plural,
    raw,
    share_of,
    take_turns,
    timed,
    torch_threads,
)
from ncf.config import EvaluationConfig, ModelConfig, TrainConfig
from ncf.data import Dataset, HeldOut
from ncf.evaluation import EvaluationResult, evaluate_full, evaluate_sampled
from ncf.models import ModelScorer, NeuMF, build_model
from ncf.runtime import generator, workers
from ncf.training import Trainer
from port import PlainNeuMF, evaluate, evaluation_loader

MODEL = ModelConfig(kind="neumf", factors=32, embedding=128, tower=(128, 64, 32))
RULES = EvaluationConfig(cutoffs=(10,), bootstrap=0)
TARGET = 20.0
PORT, KIND = "list by list, DataLoader", "list by list, ready tensors, no gradient"


def trained(dataset: Dataset, share: float) -> NeuMF:
    """A NeuMF after a share of an epoch: scores that mean something, so that equal figures do too."""
    model = build_model(MODEL, len(dataset.users), len(dataset.items), generator(0, "init"))
    assert isinstance(model, NeuMF)
    with workers(2) as pool:
        Trainer(share_of(dataset, share), model, TrainConfig(epochs=1), pool).train_epoch()
    return model


def part_of(held_out: HeldOut, rows: int) -> HeldOut:
    """The first `rows` lists."""
    return HeldOut(held_out.user_rows[:rows], held_out.candidates[:rows])


def peers(model: NeuMF, lists: HeldOut, dataset: Dataset) -> "dict[str, Callable[[], Figures]]":
    """The port's loop, with its loader and with ready tensors."""
    sizes = len(dataset.users), len(dataset.items)
    plain = PlainNeuMF(*sizes, MODEL.width, MODEL.embedding, MODEL.tower).take(model).eval()
    width = lists.candidates.shape[1]
    users, items = np.repeat(lists.user_rows, width).tolist(), lists.candidates.ravel().tolist()
    loader = evaluation_loader(list(zip(users, items, strict=True)), width)
    ready = [
        (torch.full((width,), int(user)), torch.from_numpy(row.astype(np.int64)))
        for user, row in zip(lists.user_rows, lists.candidates, strict=True)
    ]
    return {
        PORT: lambda: evaluate(plain, loader),
        KIND: lambda: without_gradient(lambda: evaluate(plain, ready)),
    }


Figures = tuple[list[int], list[float]]


@torch.no_grad()
def without_gradient(work: Callable[[], Figures]) -> Figures:
    """The peer, spared the recording of gradients that nobody asks for."""
    return work()


def best_threads(work: Callable[[], object]) -> int:
    """1 or 2 of torch's own threads, whichever is faster in a trial."""
    trials = {}
    for threads in (1, 2):
        with torch_threads(threads):
            trials[threads] = timed(work)[0]
    return min(trials, key=trials.__getitem__)


def in_threads(threads: int, work: Callable[[], object]) -> object:
    """The peer's work with torch's own threads."""
    with torch_threads(threads):
        return work()


def sampled(model: NeuMF, dataset: Dataset, threads: int) -> EvaluationResult:
    """Our way: the scorer is made and all lists are evaluated."""
    with workers(threads) as pool:
        return evaluate_sampled(ModelScorer(model), dataset.test, RULES, pool)


def full_ranking(model: NeuMF, dataset: Dataset, lists: HeldOut, threads: int) -> EvaluationResult:
    """Every item for the users of `lists`, what is known masked."""
    with workers(threads) as pool:
        return evaluate_full(ModelScorer(model), dataset, lists, RULES, pool)


def measure(model: NeuMF, dataset: Dataset, rows: int, rounds: int, report: Report) -> dict[str, Timing]:
    """The peers over `rows` lists, in as many threads as suit them, and ours over all lists, in turns."""
    trial = peers(model, part_of(dataset.test, max(100, rows // 10)), dataset)
    threads = {name: best_threads(work) for name, work in trial.items()}
    report.keep("threads_of_the_peers", threads)
    competitors: dict[str, Callable[[], object]] = {
        name: partial(in_threads, threads[name], work)
        for name, work in peers(model, part_of(dataset.test, rows), dataset).items()
    }
    for number in (1, 2):
        competitors[f"evaluate_sampled, {plural(number)}"] = partial(sampled, model, dataset, number)
    return take_turns(competitors, rounds)


def agreement(model: NeuMF, dataset: Dataset) -> dict[str, float]:
    """The figures of both on all lists, and on how many lists they differ."""
    hits, gains = peers(model, dataset.test, dataset)[KIND]()
    with workers(1) as pool:
        values = evaluate_sampled(ModelScorer(model), dataset.test, RULES, pool).values
    holds_positive = (dataset.test.candidates[:, 1:] == dataset.test.candidates[:, :1]).any(1)
    differs = (values["hr@10"] != np.array(hits)) | (np.abs(values["ndcg@10"] - np.array(gains)) > 1e-6)
    return {
        "ours_hr@10": float(values["hr@10"].mean()),
        "peer_hr@10": float(np.mean(hits)),
        "ours_ndcg@10": float(values["ndcg@10"].mean()),
        "peer_ndcg@10": float(np.mean(gains)),
        "lists": len(hits),
        "lists_that_hold_their_positive_twice": int(holds_positive.sum()),
        "lists_that_differ": int(differs.sum()),
        "of_these_hold_their_positive_twice": int((differs & holds_positive).sum()),
    }


def measure_full(model: NeuMF, dataset: Dataset, rows: int, rounds: int) -> dict[str, Timing]:
    """Full ranking of `rows` users."""
    lists = part_of(dataset.test, rows)
    competitors = {
        f"evaluate_full, {plural(number)}": partial(full_ranking, model, dataset, lists, number)
        for number in (1, 2)
    }
    return take_turns(competitors, rounds, warm_up=False)


def tabulate(
    report: Report, title: str, timings: dict[str, Timing], lists: dict[str, int], peer: str | None
) -> None:
    """One line a competitor, times scaled to all lists."""
    reference = timings[peer].seconds / lists[peer] if peer else None
    rows = [
        (
            name,
            f"{timing.seconds / lists[name] * 6040:.3f}",
            f"{timing.processor_seconds / lists[name] * 6040:.3f}",
            f"{lists[name] / timing.seconds:,.0f}",
            f"{reference / (timing.seconds / lists[name]):.1f}" if reference else "",
        )
        for name, timing in timings.items()
    ]
    report.table(
        title, ("", "seconds for 6,040", "processor seconds", "users a second", "times the peer"), rows
    )


def main(arguments: argparse.Namespace) -> None:
    """Measure, compare the figures, print, write."""
    report = Report("evaluation", arguments)
    dataset = movielens()
    rounds = arguments.rounds or (3 if arguments.quick else 5)
    model = trained(dataset, 0.2 if arguments.quick else 1.0)
    everyone = len(dataset.test)
    peer_rows, full_rows = (everyone // 10, everyone // 10) if arguments.quick else (everyone, everyone)

    timings = measure(model, dataset, peer_rows, rounds, report)
    lists = {name: peer_rows if name in (PORT, KIND) else everyone for name in timings}
    tabulate(
        report, f"Sampled protocol: {everyone:,} lists of 100, NeuMF 32, 128-64-32", timings, lists, PORT
    )
    report.log(f"The peers ran over {peer_rows:,} lists; neither they nor ours draw intervals.")

    full = measure_full(model, dataset, full_rows, 1 if arguments.quick else 3)
    tabulate(
        report,
        f"Full ranking: {len(dataset.items):,} items for each user",
        full,
        dict.fromkeys(full, full_rows),
        None,
    )
    figures = agreement(model, dataset)
    report.log(f"Same weights, same lists: {figures}")
    for name, values in (
        ("timings", raw(timings)),
        ("full", raw(full)),
        ("lists", lists),
        ("agreement", figures),
    ):
        report.keep(name, values)
    report.keep("lists_full", full_rows)
    slowest = timings[PORT].seconds / peer_rows * everyone
    best = min(timings[f"evaluate_sampled, {plural(number)}"].seconds for number in (1, 2))
    report.target("sampled evaluation, times the port's loop", slowest / best, TARGET)
    report.log(f"Against the kinder peer: {timings[KIND].seconds / peer_rows * everyone / best:.1f} times.")
    report.target(
        "share of lists on which both agree", 1 - figures["lists_that_differ"] / figures["lists"], 0.999
    )
    report.write()


if __name__ == "__main__":
    main(command_line(__doc__).parse_args())
