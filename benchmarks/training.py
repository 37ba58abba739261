"""Training throughput of NeuMF 32, GMF 64 and MLP on ML-1M against three peers; profile; roofline; time to
HR@10 .700.

A sample is one logit that is trained on: a positive or one of its 4 negatives. Ours: `Trainer.train_epoch`,
with its negatives, its L2 and its AdamW, 1 and 2 threads, float32 and bfloat16 tower, steps of 4,096 groups
and, for NeuMF, of 16,384. The peers, for NeuMF 32, float32, without L2, each with the better of 1 and 2 of
torch's own threads in a trial:

a. the loop of the public port: a `Dataset` that hands out one sample at a time, `DataLoader` with batches of
   256 and the better of 0 and 2 workers, negatives drawn in a Python loop, embeddings concatenated, dense
   `Adam`. Negatives and steps are timed on a part of an epoch each and added up for a whole one.
b. tensor slices instead of the loader: batches of 4,096 samples, the same flat model, our negatives, fused
   `Adam`.
c. our groups and our factored model, gradients by autograd, fused `AdamW`: what the written-out kernels
   bring.

Then: where a step spends its time (one thread, torch's profiler); the share of what the machine's matrix
products allow; and the wall time from prepared data to a test HR@10 of .700 with the GMF recipe, in which
opening the data, warm start, training and the evaluation of every epoch are counted. Evaluation on test here
answers only "when"; it selects nothing.

About four minutes on two quiet cores; under a minute with --quick, which leaves the time to .700 out.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from scipy.sparse import coo_matrix

from common import (
    ROOT,
    Clock,
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
from ncf.config import Experiment, ModelConfig, TrainConfig
from ncf.data import Dataset, prepare_catalog
from ncf.experiment import RunOptions, train
from ncf.models import build_model
from ncf.runtime import Workers, generator
from ncf.training import Trainer
from ncf.training.sampling import GroupSampler
from port import PlainNeuMF, Samples, draw_negatives, train_batch, training_loader
from roofline import (
    FORMULA,
    copy_rate,
    flops_a_sample,
    flops_concatenated,
    gemm_rate,
    profiled_epoch,
    tower_shapes,
)

MODELS = {
    "NeuMF 32": ModelConfig(kind="neumf", factors=32, embedding=128, tower=(128, 64, 32)),
    "GMF 64": ModelConfig(kind="gmf", factors=64),
    "MLP 128-64-32": ModelConfig(kind="mlp", embedding=128, tower=(128, 64, 32)),
}
NEUMF = MODELS["NeuMF 32"]
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BATCH, LARGE_BATCH, NEGATIVES = 4096, 16_384, 4
RATE = 0.001
TARGET, TARGET_HR, TARGET_SECONDS = 40.0, 0.700, 30.0
PORT, NEGATIVES_OF_PORT, STEPS_OF_PORT = "a. the port's loop", "a. port: negatives", "a. port: steps"


@dataclass(frozen=True)
class Sizes:
    """How much each competitor runs a round: shares of an epoch, and batches of the port's loader."""

    ours: float
    slices: float
    negatives: float
    batches: int
    rounds: int


FULL, QUICK = Sizes(0.5, 1 / 16, 0.05, 1000, 3), Sizes(1 / 32, 1 / 64, 0.005, 100, 3)


@dataclass(frozen=True)
class Competitor:
    """Work to be timed and the samples that it trains on, or, for the port's negatives, draws for."""

    work: Callable[[], object]
    samples: int


def settings(precision: str, batch: int) -> TrainConfig:
    """The package's defaults; many epochs, so that the schedule is nowhere near its end."""
    return TrainConfig(epochs=1000, batch_size=batch, negatives=NEGATIVES, precision=precision)  # type: ignore[arg-type]


def trainer_of(
    dataset: Dataset, model: ModelConfig, precision: str, threads: int, batch: int = BATCH
) -> Trainer:
    """A trainer with threads of its own."""
    built = build_model(model, len(dataset.users), len(dataset.items), generator(0, "init"))
    return Trainer(dataset, built, settings(precision, batch), Workers(threads))


def in_threads(threads: int, work: Callable[..., object], *arguments: object) -> object:
    """`work` with so many of torch's own threads."""
    with torch_threads(threads):
        return work(*arguments)


def fastest(what: str, candidates: Mapping[str, Callable[[], object]], report: Report) -> str:
    """The name of the fastest in one trial of each, after one that warms up."""
    trials = {name: min(timed(work)[0] for _ in range(2)) for name, work in candidates.items()}
    best = min(trials, key=trials.__getitem__)
    report.document.setdefault("trials", {})[what] = {"seconds": trials, "taken": best}
    return best


def ours(dataset: Dataset) -> dict[str, Competitor]:
    """Every model, precision and number of threads; the precision is that of the tower, which GMF does not
    have."""
    found = {}
    for name, model in MODELS.items():
        for precision in PRECISIONS if model.kind != "gmf" else ("float32",):
            for threads in (1, 2):
                trainer = trainer_of(dataset, model, precision, threads)
                found[f"{name}, {precision}, {plural(threads)}"] = Competitor(
                    partial(in_threads, 1, trainer.train_epoch), len(dataset.train) * (1 + NEGATIVES)
                )
    for precision in PRECISIONS:
        trainer = trainer_of(dataset, NEUMF, precision, 2, LARGE_BATCH)
        found[f"NeuMF 32 in steps of 16k groups, {precision}, 2 threads"] = Competitor(
            partial(in_threads, 1, trainer.train_epoch), len(dataset.train) * (1 + NEGATIVES)
        )
    return found


def plain(dataset: Dataset) -> PlainNeuMF:
    """The peers' model."""
    torch.manual_seed(0)
    sizes = len(dataset.users), len(dataset.items)
    return PlainNeuMF(*sizes, NEUMF.width, NEUMF.embedding, NEUMF.tower)


def port(dataset: Dataset, sizes: Sizes, report: Report) -> dict[str, Competitor]:
    """Peer a: the drawing of negatives and the steps, apart."""
    positives = list(zip(dataset.train.user_rows.tolist(), dataset.train.item_rows.tolist(), strict=True))
    shape = len(dataset.users), len(dataset.items)
    rows, columns = dataset.train.user_rows, dataset.train.item_rows
    known = coo_matrix((torch.ones(len(rows)).numpy(), (rows, columns)), shape=shape).todok()
    chosen = positives[:: round(1.0 / sizes.negatives)]
    draw = partial(draw_negatives, chosen, known, shape[1], NEGATIVES)

    some = positives[::10]
    drawn = draw_negatives(some, known, shape[1], NEGATIVES)
    samples = Samples(some + drawn, [1.0] * len(some) + [0.0] * len(drawn))
    ways = {
        f"{workers} loader workers, {plural(threads)}": partial(
            in_threads, threads, PortSteps(dataset, samples, workers)
        )
        for workers in (0, 2)
        for threads in (1, 2)
    }
    few = max(20, sizes.batches // 8)
    best = fastest("a", {name: partial(way, few) for name, way in ways.items()}, report)
    return {
        NEGATIVES_OF_PORT: Competitor(draw, len(chosen) * (1 + NEGATIVES)),
        STEPS_OF_PORT: Competitor(partial(ways[best], sizes.batches), sizes.batches * 256),
    }


class PortSteps:
    """Peer a's training; a call goes on for some batches with the same loader, as in the middle of an
    epoch."""

    def __init__(self, dataset: Dataset, samples: Samples, workers: int) -> None:
        self.loader = training_loader(samples, workers)
        self.model = plain(dataset)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE)
        self.batches = iter(self.loader)

    def __call__(self, count: int) -> None:
        done = 0
        while done < count:
            for batch in islice(self.batches, count - done):
                train_batch(self.model, self.optimizer, batch)
                done += 1
            if done < count:
                self.batches = iter(self.loader)


class Slices:
    """Peer b: a permutation of an epoch's samples, in slices."""

    def __init__(self, dataset: Dataset, fused: bool = True) -> None:
        self.sampler = GroupSampler(dataset, batch_size=BATCH, negatives=NEGATIVES)
        self.model = plain(dataset)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=RATE, fused=fused)

    def __call__(self) -> None:
        steps = list(self.sampler.epoch(0, Workers(1)))
        items = torch.cat([step.items for step in steps])
        users = torch.cat([step.users for step in steps])[:, None].expand_as(items).reshape(-1)
        labels = torch.zeros(items.shape)
        labels[:, 0] = 1.0
        order, flat_items, flat_labels = torch.randperm(users.numel()), items.view(-1), labels.view(-1)
        for part in torch.split(order, BATCH):
            train_batch(self.model, self.optimizer, (users[part], flat_items[part], flat_labels[part]))


class Autograd:
    """Peer c: our groups and our model, differentiated by torch."""

    def __init__(self, dataset: Dataset) -> None:
        self.sampler = GroupSampler(dataset, batch_size=BATCH, negatives=NEGATIVES)
        self.model = build_model(NEUMF, len(dataset.users), len(dataset.items), generator(0, "init"))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=0.0, fused=True)

    def __call__(self) -> None:
        for step in self.sampler.epoch(0, Workers(1)):
            labels = torch.zeros(step.items.shape)
            labels[:, 0] = 1.0
            train_batch(self.model, self.optimizer, (step.users, step.items, labels))


def other_peers(dataset: Dataset, report: Report) -> dict[str, Competitor]:
    """Peers b and c in the threads that suit them."""
    found = {}
    for name, work in (
        ("b. slices of 4,096, fused Adam", Slices(dataset)),
        ("c. our groups, autograd", Autograd(dataset)),
    ):
        ways = {plural(threads): partial(in_threads, threads, work) for threads in (1, 2)}
        found[name] = Competitor(ways[fastest(name[0], ways, report)], len(dataset.train) * (1 + NEGATIVES))
    return found


def rates(
    timings: Mapping[str, Timing], competitors: Mapping[str, Competitor]
) -> dict[str, tuple[float, float]]:
    """Samples a second of wall time, and of processor time; the port's two parts become one."""

    def costs(name: str) -> tuple[float, float]:
        timing, samples = timings[name], competitors[name].samples
        return timing.seconds / samples, timing.processor_seconds / samples

    negatives, steps = costs(NEGATIVES_OF_PORT), costs(STEPS_OF_PORT)
    found = {PORT: (1.0 / (negatives[0] + steps[0]), 1.0 / (negatives[1] + steps[1]))}
    for name in timings:
        if name not in (NEGATIVES_OF_PORT, STEPS_OF_PORT):
            wall, processor = costs(name)
            found[name] = (1.0 / wall, 1.0 / processor)
    return found


def throughput(dataset: Dataset, sizes: Sizes, report: Report) -> dict[str, tuple[float, float]]:
    """Everybody in turns; the table of samples a second."""
    competitors = port(dataset, sizes, report)
    competitors |= other_peers(share_of(dataset, sizes.slices), report)
    competitors |= ours(share_of(dataset, sizes.ours))
    timings = take_turns({name: one.work for name, one in competitors.items()}, sizes.rounds)
    found = rates(timings, competitors)
    peer = found[PORT]
    report.table(
        "Thousand samples a second, training",
        ("", "of wall time", "of processor time", "times peer a", "the same by processor time"),
        [
            (
                name,
                f"{wall / 1e3:,.1f}",
                f"{processor / 1e3:,.1f}",
                f"{wall / peer[0]:.1f}",
                f"{processor / peer[1]:.1f}",
            )
            for name, (wall, processor) in found.items()
        ],
    )
    report.log(
        f"Peer a ran {sizes.batches} batches and drew negatives for {sizes.negatives:.1%} of the "
        "positives a round, added "
        f"up for an epoch; taken: {report.document['trials']['a']['taken']} (processor time leaves "
        "loader workers out). "
        f"Ours ran {sizes.ours:.1%} of an epoch a round, its negatives included."
    )
    report.keep("timings", raw(timings))
    report.keep("samples", {name: one.samples for name, one in competitors.items()})
    report.keep("samples_a_second", {name: {"wall": a, "processor": b} for name, (a, b) in found.items()})
    return found


def roofline(rates_found: dict[str, tuple[float, float]], dataset: Dataset, report: Report) -> None:
    """What matrix products allow, and the share of it that each of ours has."""
    machine: dict[str, dict[str, float]] = {}
    rows: list[tuple[str, ...]] = []
    for precision, kind in PRECISIONS.items():
        for threads in (1, 2):
            measured = {
                "square": gemm_rate([(1024, 1024, 1024)], kind, threads),
                "tower": gemm_rate(tower_shapes(NEUMF), kind, threads),
            }
            machine[f"{precision}, {plural(threads)}"] = measured
            rows.append(
                (f"{precision}, {plural(threads)}", f"{measured['square']:.0f}", f"{measured['tower']:.0f}")
            )
    copies = {plural(threads): copy_rate(threads) for threads in (1, 2)}
    report.table("This machine, GFLOP/s", ("matrix products", "1,024 squared", "in the tower's shapes"), rows)
    report.log(
        "Copying memory, GB/s read and written: " + ", ".join(f"{n} {r:.1f}" for n, r in copies.items())
    )

    shares: dict[str, dict[str, float]] = {}
    for name, (wall, _) in rates_found.items():
        model = MODELS.get(name.split(",")[0])
        if model is None or model.kind == "gmf":
            continue
        flops = flops_a_sample(model, len(dataset.items), BATCH, NEGATIVES)
        peak = machine[name.partition(", ")[2]]
        shares[name] = {
            "flop_a_sample": flops,
            "gflops": flops * wall / 1e9,
            "ceiling_samples_a_second": peak["tower"] * 1e9 / flops,
            "share_of_tower_shapes": flops * wall / 1e9 / peak["tower"],
            "share_of_square": flops * wall / 1e9 / peak["square"],
        }
    report.table(
        "Share of the roofline",
        (
            "",
            "kFLOP a sample",
            "GFLOP/s",
            "of the tower's shapes",
            "of the square",
            "ceiling, 1,000 samples/s",
        ),
        [
            (
                name,
                f"{share['flop_a_sample'] / 1e3:.1f}",
                f"{share['gflops']:.1f}",
                f"{share['share_of_tower_shapes']:.0%}",
                f"{share['share_of_square']:.0%}",
                f"{share['ceiling_samples_a_second'] / 1e3:,.0f}",
            )
            for name, share in shares.items()
        ],
    )
    moved = state_bytes(dataset) / (BATCH * (1 + NEGATIVES))
    report.log(FORMULA)
    report.log(
        "Computed on the concatenation for every sample it would be "
        f"{flops_concatenated(NEUMF) / 1e3:.0f} kFLOP. The "
        f"optimiser moves {moved / 1e3:.1f} kB a sample (7 x 4 bytes a parameter a step: weight, "
        "gradient and two moments "
        f"read, three written), which at the copying rate of one thread allows "
        f"{copies['1 thread'] * 1e6 / moved:,.0f} thousand samples/s if no cache held it: products "
        "are the roof."
    )
    report.keep(
        "roofline", {"gflops": machine, "copy_gb_per_second": copies, "shares": shares, "formula": FORMULA}
    )


def state_bytes(dataset: Dataset) -> float:
    """What a dense AdamW reads and writes a step."""
    rows = len(dataset.users) + len(dataset.items)
    return 7 * 4.0 * rows * (NEUMF.width + NEUMF.embedding)


def profiles(dataset: Dataset, report: Report) -> None:
    """Where the time of NeuMF 32 goes on one thread."""
    found = {}
    for precision in PRECISIONS:
        trainer = trainer_of(dataset, NEUMF, precision, 1)
        with torch_threads(1):
            trainer.train_epoch()
            found[precision] = profiled_epoch(trainer, NEUMF)
    totals = {precision: sum(parts.values()) for precision, parts in found.items()}
    names = list(dict.fromkeys(name for parts in found.values() for name in parts))
    report.table(
        f"NeuMF 32, one thread, {len(dataset.train):,} positives: share of the time",
        ("", *found),
        [(name, *(f"{found[p].get(name, 0.0) / totals[p]:.1%}" for p in found)) for name in names],
    )
    report.keep("profile_seconds", found)


def time_to_target(recipe: Path, report: Report) -> None:
    """From a prepared folder to the first epoch with the wanted HR@10 on test."""
    experiment = Experiment.load(recipe)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        prepare_catalog("ml-1m")[0].save(data)
        clock = Clock()
        dataset = Dataset.open(data)
        options = RunOptions(report_best_on_test=True, tracker=clock)
        train(dataset, experiment, Path(folder) / "run", data_path=data, options=options)
        whole = time.perf_counter() - clock.began
    trained = [epoch["seconds"] for epoch in clock.epochs]
    report.table(
        f"{experiment.name}: wall seconds since the start, all cores (start = {experiment.train.init})",
        ("epoch", "seconds since start", "of it training", "test HR@10", "test NDCG@10"),
        [
            (
                int(row["epoch"]),
                f"{row['seconds_since_start']:.2f}",
                f"{sum(trained[: number + 1]):.2f}",
                f"{row['test_hr@10']:.4f}",
                f"{row['test_ndcg@10']:.4f}",
            )
            for number, row in enumerate(clock.epochs)
        ],
    )
    reached = [row for row in clock.epochs if row["test_hr@10"] >= TARGET_HR]
    report.log(
        "Counted: opening the prepared data, warm start, training, evaluating and saving after each "
        f"epoch; {whole:.1f} s to "
        "the finished artifact. Test figures of every epoch are asked for here to see when, and "
        "select nothing."
    )
    report.keep("time_to_target", {"recipe": recipe.name, "epochs": clock.epochs, "whole_run_seconds": whole})
    seconds = reached[0]["seconds_since_start"] if reached else float("inf")
    report.target(f"seconds to test HR@10 ≥ {TARGET_HR}", seconds, TARGET_SECONDS, at_least=False)


def main(arguments: argparse.Namespace) -> None:
    """Measure, print, write."""
    report = Report("training", arguments)
    sizes = QUICK if arguments.quick else FULL
    sizes = replace(sizes, rounds=arguments.rounds or sizes.rounds)
    dataset = movielens()
    found = throughput(dataset, sizes, report)
    roofline(found, dataset, report)
    profiles(share_of(dataset, 1 / 32 if arguments.quick else 1 / 8), report)
    best = max(rate for name, (rate, _) in found.items() if name.startswith("NeuMF"))
    exact = max(rate for name, (rate, _) in found.items() if name.startswith("NeuMF") and "float32" in name)
    report.target("NeuMF 32, our best, times the port's loop", best / found[PORT][0], TARGET)
    report.target("NeuMF 32, our best in float32, times the port's loop", exact / found[PORT][0], TARGET)
    if not arguments.quick:
        time_to_target(Path(arguments.recipe), report)
    report.write()


if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument(
        "--recipe", default=str(ROOT / "recipes" / "ml-1m-gmf.toml"), help="for the time to HR@10 .700"
    )
    main(parser.parse_args())
