"""Several processes: how much faster two are than one, what they send, what one pays for it, and a model of
what nobody ran.

1. NeuMF 64 on ML-1M, the same global batch in one process and in two of one thread each, in turns. Whole
   steps, drawing included, between two barriers; the order of the positives, made once an epoch, is left out.
   "Side by side" is what the machine can give: two processes that know nothing of each other, each with a
   whole batch. "By processor time" is what one works for a step over what each of two does, exchange
   included; others on the machine disturb it less.
2. What a single process pays for being able to be one of many: the very calls of a step, over the time of a
   step.
3. Bytes that a process hands to torch.distributed in a step, with a million users.
4. The cost model of `cost_model.py`: costs taken from small runs, then checked against two processes at three
   sizes. With an environment that has TorchRec (scripts/install-torchrec) sharded tables are measured and
   checked as well.

About seven minutes on two quiet cores; --quick takes one, and proves only that it runs.
"""

import argparse
import dataclasses
import importlib.util
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import cost_model
from common import Report, command_line
from cost_model import Costs, Job, memory, on_network
from ncf.training.kernels.batch import Gradients, RowGradient
from ncf.training.parallel.communicator import SingleProcess
from scaling_worker import Answer, Group

FACTOR, OVERHEAD, SENT, WITHIN = 1.8, 0.01, 0.02, 0.2
NEGATIVES = 4
BASE = ["model.kind=neumf", "model.factors=64", "train.threads=1", "train.device=cpu"]
LAZY = [*BASE, "train.optimizer=lazy", "train.precision=float32"]
MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Size:
    """How much is done: (groups a step, counted steps) of the race, and (users, items, interactions) of the
    model."""

    steps: list[tuple[int, int]]
    turns: int
    sent: list[tuple[int, int, int]]
    sent_groups: list[int]
    calibration: tuple[int, int, int]
    calibration_steps: list[tuple[int, int]]
    checks: list[tuple[int, int, int]]
    check_steps: tuple[int, int]


FULL = Size(
    [(16_384, 32), (65_536, 8)],
    4,
    [(1_000_000, 3_706, 2_000_000), (1_000_000, 100_000, 2_000_000)],
    [4_096, 16_384, 65_536],
    (100_000, 30_000, 1_000_000),
    [(4_096, 64), (32_768, 8)],
    [(100_000, 10_000, 1_000_000), (300_000, 30_000, 3_000_000), (1_000_000, 100_000, 10_000_000)],
    (32_768, 16),
)
QUICK = Size(
    [(65_536, 2)], 1, [(20_000, 4_000, 40_000)], [512],
    (4_000, 2_000, 40_000), [(512, 8), (2_048, 4)], [(5_000, 1_000, 20_000)], (1_024, 4),
)  # fmt: skip


def seconds_of(answers: list[Answer]) -> float:
    """Of a step; the barriers make them nearly equal."""
    return statistics.mean(float(answer["seconds"]) for answer in answers)


def transfer(answers: list[Answer], steps: int) -> tuple[float, float]:
    """Seconds a step of exchange itself, and of waiting for the other: who comes last to an exchange waits
    for nobody."""
    each = np.array([answer["exchanges"] for answer in answers])
    itself = each.min(axis=0).sum() / steps
    return float(itself), float(each.sum(axis=1).mean() / steps - itself)


def race(report: Report, size: Size, one: Group, two: Group, turns: int) -> None:
    """Part 1."""
    rows, found = [], {}
    for precision in ("float32", "auto"):
        for groups, steps in size.steps:
            order = {
                "data": "ml-1m",
                "settings": [*BASE, f"train.precision={precision}", f"train.batch_size={groups}"],
                "warm": 2,
                "steps": steps,
            }
            taken: dict[str, list[list[Answer]]] = {"one": [], "two": [], "beside": []}
            for turn in range(turns + 1):
                answers = {
                    "one": one.ask("train", **order),
                    "two": two.ask("train", **order),
                    "beside": two.ask("train", **{**order, "steps": max(1, steps // 2), "alone": True}),
                }
                for name, answer in answers.items():
                    taken[name] += [answer] if turn else []
            single, double, beside = (
                statistics.median(map(seconds_of, taken[name])) for name in ("one", "two", "beside")
            )
            parts = [transfer(answers, steps) for answers in taken["two"]]
            itself, waiting = (statistics.median(part[n] for part in parts) for n in (0, 1))
            spent = {
                name: statistics.median(answers[0]["spent"].get(name, 0.0) for answers in taken["two"])
                for name in ("optimizer", "halves", "bytes")
            }
            ratio, ceiling = single / double, 2 * single / beside
            work, share = (
                statistics.median(max(a["processor"] for a in answers) for answers in taken[name])
                for name in ("one", "two")
            )
            samples = groups * (1 + NEGATIVES) / 1e3
            rows.append(
                (
                    f"{precision}, {groups:,} groups",
                    f"{samples / single:,.0f}",
                    f"{samples / double:,.0f}",
                    f"{ratio:.2f}",
                    f"{work / share:.2f}",
                    f"{ceiling:.2f}",
                    f"{double * 1e3:.0f}",
                    f"{itself / double:.1%}",
                    f"{waiting / double:.1%}",
                    f"{spent['optimizer'] / double:.1%}",
                    f"{spent['halves'] / double:.1%}",
                    f"{spent['bytes'] / MIB:.1f}",
                )
            )
            found[f"{precision}, {groups}"] = {
                "ratio": ratio,
                "by_processor_time": work / share,
                "ceiling": ceiling,
                "taken": taken,
            }
            report.target(f"two processes over one, {precision}, steps of {groups:,} groups", ratio, FACTOR)
    report.table(
        "NeuMF 64 on ML-1M, one thread a process; shares of a step of two processes",
        (
            "",
            "1: k samples/s",
            "2",
            "2 over 1",
            "by processor time",
            "side by side",
            "ms a step",
            "exchange",
            "waiting",
            "optimiser",
            "first layer's halves",
            "MiB sent",
        ),
        rows,
    )
    report.log(
        "The optimiser and the first layer's halves over whole tables are done by both processes alike."
    )
    report.keep("race", found)


def overhead(report: Report, one: Group, size: Size) -> None:
    """Part 2: what `Trainer._step` and `train_epoch` ask of the communicator, with tensors of a step's
    shapes."""
    groups = 4_096
    order = {"data": "ml-1m", "settings": [*BASE, "train.precision=auto", f"train.batch_size={groups}"]}
    step = seconds_of(one.ask("train", **order, warm=2, steps=size.steps[0][1]))
    alone, tensors = SingleProcess(), [torch.zeros(1) for _ in range(20)]
    gradients: Gradients = {tensor: RowGradient(None, tensor) for tensor in tensors}
    repeats, epoch = 10_000, 3

    def calls(number: int) -> None:
        alone.phase(f"training, step {number + 1} of epoch {epoch + 1}")
        told: list[Tensor] = []
        *_, stopping = alone.sum([*tensors, tensors[0].new_tensor(float(False))])
        told.append(stopping)
        bool(told[0] > 0)
        alone.add(gradients)

    began = time.perf_counter()
    for number in range(repeats):
        calls(number)
    spent = (time.perf_counter() - began) / repeats
    report.log(
        f"The communicator of a single process: {spent * 1e6:.1f} µs in a step of {groups:,} groups "
        f"of {step * 1e3:.1f} ms."
    )
    report.keep("overhead", {"communicator_seconds": spent, "step_seconds": step})
    report.target("the communicator's share of a single process's step", spent / step, OVERHEAD, False)


def bytes_sent(report: Report, size: Size, two: Group) -> None:
    """Part 3."""
    rows = []
    for data in size.sent:
        for groups in size.sent_groups:
            settings = [*BASE, "train.precision=float32", f"train.batch_size={groups}"]
            answers = two.ask("train", data=data, settings=settings, warm=1, steps=1, touch=False)
            two.ask("forget")
            handed = max(answer["spent"]["bytes"] for answer in answers)
            dense = answers[0]["parameters"] * cost_model.FLOAT
            rows.append((data[1], groups, handed, handed / dense))
    report.table(
        f"Bytes that each of two processes sends in a step, NeuMF 64, {size.sent[0][0]:,} users",
        ("items", "groups a step", "MiB", "of the dense gradient"),
        [
            (f"{items:,}", f"{groups:,}", f"{sent / MIB:.1f}", f"{share:.2%}")
            for items, groups, sent, share in rows
        ],
    )
    report.keep("sent", rows)
    for items, groups, _, share in rows:
        report.target(f"bytes sent, {items:,} items, steps of {groups:,} groups", share, SENT, at_least=False)


def calibrate(report: Report, size: Size, two: Group, with_torchrec: bool) -> Costs:
    """Costs from two processes that train side by side without each other, and from exchanges of nothing but
    tensors."""
    equations, rests, drawing, moving = [], [], [], []
    for groups, steps in size.calibration_steps:
        order = {"data": size.calibration, "settings": [*LAZY, f"train.batch_size={groups}"], "alone": True}
        for answer in two.ask("train", **order, warm=2, steps=steps):
            spent, samples = answer["spent"], groups * (1 + NEGATIVES)
            equations.append((samples, spent["item_rows"]))
            rests.append(answer["seconds"] - spent["unique"] - spent["optimizer"])
            drawing.append(spent["unique"] / (samples + groups))
            moving.append(spent["optimizer"] / spent["moved_rows"])
    sample, item_row = np.linalg.lstsq(np.array(equations), np.array(rests), rcond=None)[0].tolist()
    carried = two.ask("carry")
    job = Job(*size.checks[-1], size.check_steps[0], 2)
    merged = two.ask("merge", rows=round(job.own_items), table=job.items)
    costs = Costs(
        sample, statistics.mean(drawing), max(0.0, item_row), statistics.mean(moving),
        statistics.mean(answer["seconds"] for answer in merged),
        statistics.mean(answer["latency"] for answer in carried),
        statistics.mean(answer["bandwidth"] for answer in carried),
    )  # fmt: skip
    if with_torchrec:
        groups, steps = size.calibration_steps[-1]
        settings = [
            *LAZY[:-2],
            "train.precision=float32",
            "train.tables=sharded",
            f"train.batch_size={groups}",
        ]
        answers = two.ask("train", data=size.calibration, settings=settings, warm=2, steps=2 * steps)
        ours = Job(*size.calibration, groups, 2)
        known = cost_model.sharded(ours, dataclasses.replace(costs, sharded_row=0.0))
        rest = seconds_of(answers) - sum(known.values())
        costs = dataclasses.replace(costs, sharded_row=rest / ours.own_rows)
    two.ask("forget")
    units = [
        ("a sample: forward, backward, drawing", costs.sample),
        ("an item's row in the first layer", costs.item_row),
        ("a draw whose row is looked for", costs.draw),
        ("a row moved by the lazy Adam", costs.moved_row),
        ("a row gathered and added", costs.gathered_row),
        ("a row of sharded tables, there and back", costs.sharded_row),
        ("an exchange of nothing, this machine", costs.latency),
    ]
    report.table(
        f"Costs of one thread, both cores busy, NeuMF 64; {size.calibration[2]:,} interactions",
        ("", "µs"),
        [(name, "not measured" if value != value else f"{value * 1e6:.2f}") for name, value in units],
    )
    report.log(f"Between the two processes: {costs.bandwidth / 1e9:.2f} GB/s.")
    report.keep("costs", dataclasses.asdict(costs))
    return costs


def check(report: Report, size: Size, two: Group, costs: Costs, with_torchrec: bool, turns: int) -> None:
    """Part 4: what the model says of two processes, and what they take."""
    rows = []
    groups, steps = size.check_steps
    kinds = {"replicated": [*LAZY, f"train.batch_size={groups}"]}
    if with_torchrec:
        kinds["sharded"] = [
            *BASE,
            "train.precision=float32",
            "train.tables=sharded",
            f"train.batch_size={groups}",
        ]
    for data in size.checks:
        job = Job(*data, groups, 2)
        for kind, settings in kinds.items():
            model = cost_model.replicated if kind == "replicated" else cost_model.sharded
            predicted = sum(model(job, costs).values())
            order = {"data": data, "settings": settings, "warm": 2, "steps": steps}
            measured = statistics.median(seconds_of(two.ask("train", **order)) for _ in range(turns))
            two.ask("forget")
            rows.append((kind, data, predicted, measured))
    report.table(
        f"The model against two processes, {steps} steps of {groups:,} groups",
        (
            "tables",
            "interactions",
            "users",
            "items",
            "predicted ms",
            "measured ms",
            "predicted over measured",
        ),
        [
            (kind, f"{n:,}", f"{users:,}", f"{items:,}", f"{p * 1e3:.0f}", f"{m * 1e3:.0f}", f"{p / m:.2f}")
            for kind, (users, items, n), p, m in rows
        ],
    )
    report.keep("checks", rows)
    for kind, data, predicted, measured in rows:
        off = abs(predicted / measured - 1)
        report.target(f"model off by, {kind}, {data[2]:,} interactions", off, WITHIN, at_least=False)


GIGA = {"users": 100_000_000, "items": 10_000_000, "interactions": 1_000_000_000, "groups": 2**20}
HOST_CORES, HOST_BITS, FLOW_BITS = 64, 25e9, 10e9
"""r7a.16xlarge as AWS publishes it: 64 cores of Zen 4, 512 GiB, 25 Gbit/s; and 10 Gbit/s for one connection
of TCP between hosts of one cluster placement group (5 elsewhere), which is what a ring of gloo has to each
neighbour."""


def extrapolate(report: Report, costs: Costs) -> None:
    """One epoch over a thousand million interactions."""
    plans = [("replicated", hosts, 1) for hosts in (1, 4, 16)]
    plans += [("sharded", hosts, 8) for hosts in (4, 16)] if costs.sharded_row == costs.sharded_row else []
    rows, kept = [], []
    for kind, hosts, each in plans:
        job = Job(**GIGA, processes=hosts * each, threads=HOST_CORES // each)
        if kind == "replicated":
            terms = cost_model.replicated(job, on_network(costs, min(HOST_BITS, FLOW_BITS)))
        else:
            terms = cost_model.sharded(job, on_network(costs, HOST_BITS / each), 1 - 1 / hosts)
        held = memory(job, kind == "sharded")
        minutes = {name: seconds * job.steps / 60 for name, seconds in terms.items()}
        kept.append(
            {"tables": kind, "hosts": hosts, "processes": job.processes, "minutes": minutes, "bytes": held}
        )
        moving = sum(value for name, value in minutes.items() if "mov" in name)
        rows.append(
            (
                f"{kind}, {hosts} x {each}",
                f"{sum(minutes.values()):,.0f}",
                f"{minutes['samples'] + minutes['item rows']:,.1f}",
                f"{minutes['finding rows']:,.1f}",
                f"{moving:,.1f}",
                f"{minutes.get('adding rows', 0.0):,.1f}",
                f"{minutes['sending'] + minutes['latency']:,.1f}",
                f"{sum(held.values()) / GIB:,.0f}",
                f"{sum(held.values()) * each / GIB:,.0f}",
            )
        )
    report.table(
        (
            "Model: an epoch over 1,000 M interactions, 100 M users, 10 M items; r7a.16xlarge, steps of "
            "1,048,576 groups"
        ),
        (
            "hosts x processes",
            "minutes",
            "samples",
            "finding rows",
            "moving rows",
            "adding rows",
            "network",
            "GiB a process",
            "a host",
        ),
        rows,
    )
    report.keep("extrapolated", kept)


def main(arguments: argparse.Namespace) -> None:
    """Measure, print, write."""
    report = Report("scaling", arguments)
    size = QUICK if arguments.quick else FULL
    turns = arguments.rounds or size.turns
    with_torchrec = importlib.util.find_spec("torchrec") is not None
    with Group(1) as one, Group(2) as two:
        if "race" in arguments.parts:
            race(report, size, one, two, turns)
        if "overhead" in arguments.parts:
            overhead(report, one, size)
        one.ask("forget")
        two.ask("forget")
        if "sent" in arguments.parts:
            bytes_sent(report, size, two)
        if "model" in arguments.parts:
            costs = calibrate(report, size, two, with_torchrec)
            check(report, size, two, costs, with_torchrec, min(turns, 2))
            extrapolate(report, costs)
    report.write()


PARTS = ["race", "overhead", "sent", "model"]

if __name__ == "__main__":
    parser = command_line(__doc__)
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS, help="all by default")
    main(parser.parse_args())
