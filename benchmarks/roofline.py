"""What the machine could do, and where a training step spends its time.

The roof: matrix products in the shapes of the tower and in a large square, and copying of memory, each with
the threads that training uses (one product a thread, as the package computes, not torch's own threads). Below
it: the floating-point operations that a sample needs. Profile: one thread, by operation, from torch's
profiler.

Legend: C = 1 + K candidates of a group, B groups a step, I items, D factors, E embedding width, H_1 ... H_L
tower.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from ncf.config import ModelConfig
from ncf.runtime import Workers
from ncf.training import Trainer
from ncf.training.sampling import Step
from ncf.training.step_runner import CpuRunner

FORMULA = (
    "FLOP a sample = 3 x ( 2 D [GMF] + 2 E H_1 / C [user's half, once a group] + 2 I E H_1 / (B C) "
    "[items' half, once a "
    "step] + sum of 2 H_l H_{l+1} [tower] + 2 H_L [output] ), 3 for forward, gradient of inputs, "
    "gradient of weights"
)
_CHUNK_ROWS = 2560
_SPELLS, _SECONDS = 5, 0.15

Shape = tuple[int, int, int]


def flops_a_sample(model: ModelConfig, items: int, batch: int, negatives: int) -> float:
    """See `FORMULA`."""
    candidates = 1 + negatives
    total = 2.0 * model.width if model.kind != "mlp" else 0.0
    if model.kind != "gmf":
        first = 2.0 * model.embedding * model.tower[0]
        total += first / candidates + first * items / (batch * candidates)
        total += sum(2.0 * a * b for a, b in pairwise(model.tower)) + 2.0 * model.tower[-1]
    return 3.0 * total


def flops_concatenated(model: ModelConfig) -> float:
    """The same for a first layer on the concatenation of both vectors, computed for every sample."""
    widths = (2 * model.embedding, *model.tower)
    tower = sum(2.0 * a * b for a, b in pairwise(widths)) + 2.0 * model.tower[-1]
    return 3.0 * (2.0 * model.width * (model.kind != "mlp") + tower * (model.kind != "gmf"))


def tower_shapes(model: ModelConfig) -> list[Shape]:
    """(m, k, n) of every product of a chunk: forward, gradient of the input, gradient of the weight."""
    shapes = []
    for a, b in pairwise(model.tower):
        shapes += [(_CHUNK_ROWS, a, b), (_CHUNK_ROWS, b, a), (b, _CHUNK_ROWS, a)]
    return shapes


def gemm_rate(shapes: list[Shape], precision: torch.dtype, threads: int) -> float:
    """GFLOP/s of all threads together over a mix of products."""

    def run(_: int) -> float:
        operands = [(torch.randn(m, k).to(precision), torch.randn(k, n).to(precision)) for m, k, n in shapes]
        return _repeats(lambda: [torch.mm(a, b) for a, b in operands])

    flops = sum(2.0 * m * k * n for m, k, n in shapes)
    return sum(flops * rate for rate in _in_threads(run, threads)) / 1e9


def copy_rate(threads: int) -> float:
    """GB/s of all threads together, reading and writing counted, between arrays that no cache holds."""

    def run(_: int) -> float:
        source = torch.ones(2**25)
        target = torch.empty_like(source)
        return 2.0 * source.numel() * 4 * _repeats(lambda: target.copy_(source))

    return sum(_in_threads(run, threads)) / 1e9


def _in_threads(run: Callable[[int], float], threads: int) -> list[float]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = Workers(threads)
    try:
        return pool.map(run, list(range(threads)))
    finally:
        pool.close()
        torch.set_num_threads(before)


def _repeats(work: Callable[[], object]) -> float:
    """Calls a second, in the best of a few spells: a roof is what was possible."""
    work()
    rates = []
    for _ in range(_SPELLS):
        done, began = 0, time.perf_counter()
        while time.perf_counter() - began < _SECONDS:
            work()
            done += 1
        rates.append(done / (time.perf_counter() - began))
    return max(rates)


def profiled_epoch(trainer: Trainer, model: ModelConfig) -> dict[str, float]:
    """Seconds of an epoch by part; what is in no operation is Python's and the dispatcher's."""
    assert isinstance(trainer.runner, CpuRunner)
    optimizer = trainer.runner.optimizer
    epoch, step = trainer.sampler.epoch, optimizer.step

    def labelled_epoch(*arguments: Any) -> Iterator[Step]:
        blocks = epoch(*arguments)
        while True:
            with record_function("sampling"):
                block = next(blocks, None)
            if block is None:
                return
            yield block

    def labelled_step(*arguments: Any) -> None:
        with record_function("optimiser"):
            step(*arguments)

    with (
        patch.object(trainer.sampler, "epoch", labelled_epoch),
        patch.object(optimizer, "step", labelled_step),
        profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler,
    ):
        began = time.perf_counter()
        trainer.train_epoch()
        wall = time.perf_counter() - began
    parts: defaultdict[str, float] = defaultdict(float)
    for event in profiler.events() or []:
        parts[_part(event, model)] += event.self_cpu_time_total / 1e6
    parts["Python, dispatch, profiler"] = max(0.0, wall - sum(parts.values()))
    return dict(sorted(parts.items(), key=lambda part: -part[1]))


_LABELS = ("sampling", "optimiser")
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "addmv_", "dot")
_GATHER = ("index_select", "index", "gather", "embedding")
_SCATTER = ("index_add", "index_add_", "index_put_", "_index_put_impl_", "scatter_add_")


def _part(event: Any, model: ModelConfig) -> str:
    place = event
    while place is not None:
        if place.name in _LABELS:
            return str(place.name)
        place = place.cpu_parent
    name = event.name.removeprefix("aten::")
    if name in _PRODUCTS:
        return _product(name, event.input_shapes or [], model)
    if name in _GATHER:
        return "gather (index_select)"
    return "scatter (index_add)" if name in _SCATTER else "elementwise, sums, copies"


def _product(name: str, shapes: list[list[int]], model: ModelConfig) -> str:
    if name in ("bmm", "baddbmm"):
        return "GMF's products (bmm)"
    sizes = sorted({size for shape in shapes for size in shape if len(shape) == 2})
    first = {model.embedding, model.tower[0]}
    if set(sizes[:-1]) == first:
        return "first layer's products"
    if len(sizes) < 3:
        return "output layer's products"
    return "tower's products, forward" if name == "addmm" else "tower's products, backward"
