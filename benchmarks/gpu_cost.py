"""What a step or a scoring call costs a GPU, worked out without one: operations, bytes, FLOP; an estimate, no
measurement.

The work is carried out on torch's `meta` device, where tensors have shapes and no numbers, and every
operation that would be launched is counted with the bytes it reads and writes: all its tensors once, of a
gather twice its result, of a scatter-add three times what is added. Time is at least bytes over the memory's
rate, plus a gap for each launch; products at a tensor core's rate take less than the bytes they move, for
layers as narrow as these.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ncf.config import ModelConfig
from ncf.models import ModelScorer, build_model
from ncf.runtime import Workers
from ncf.training.gpu.step import DeviceRows
from ncf.training.kernels.batch import Batch
from ncf.training.kernels.branch import Objective, StepParts
from ncf.training.kernels.step import loss_and_gradients
from ncf.training.losses import LOSSES
from roofline import flops_a_sample

H100_BYTES_A_SECOND = 0.8 * 3.35e12
"""Four fifths of the 3.35 TB/s that NVIDIA's data sheet gives for the SXM5 card."""
H100_FLOP_A_SECOND = 0.3 * 989e12
"""bfloat16 on tensor cores: three tenths of the data sheet's dense rate, as the layers are narrow."""
GAP_IN_A_GRAPH, GAP_OUTSIDE = 2e-6, 5e-6
"""Seconds between kernels: of a recorded step, and launched from Python."""
_BYTES_A_DRAW, _ADAMW_LAUNCHES, _ADAMW_BYTES = 450, 2, 28
"""Sampling: some 25 operations on 64-bit numbers and one look-up a draw. AdamW: seven float32 a parameter."""
_NO_WORK = ("empty", "new_empty", "detach")


@dataclass(frozen=True)
class Cost:
    """Of one call: kernels launched, bytes moved, floating-point operations; `gap` is between two kernels."""

    launches: int
    bytes: float
    flop: float
    gap: float

    @property
    def seconds(self) -> float:
        """On an H100, if nothing overlaps."""
        return (
            max(self.bytes / H100_BYTES_A_SECOND, self.flop / H100_FLOP_A_SECOND) + self.launches * self.gap
        )


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what runs within it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.launches, self.bytes = 0, 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not func.is_view and not name.startswith(_NO_WORK):
            self.launches += 1
            self.bytes += _moved(name, args, result)
        return result


def _moved(name: str, arguments: Any, result: Any) -> float:
    if name == "index_select":
        return 2.0 * _size(result)
    if name == "index_add_":
        return 3.0 * _size(arguments[3])
    written = sum(_size(tensor) for tensor in _tensors(result))
    fills = name.startswith("new_") or name.endswith("_like")
    return written if fills else written + sum(_size(tensor) for tensor in _tensors(arguments))


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


def _size(tensor: Tensor) -> float:
    return float(tensor.numel() * tensor.element_size())


def _counted(work: Callable[[], object]) -> Counter:
    counter = Counter()
    with counter:
        work()
    return counter


def step_cost(sizes: ModelConfig, users: int, items: int, groups: int, negatives: int) -> Cost:
    """Of a recorded step over `groups`, with its share of the drawing and a dense AdamW over all
    parameters."""
    model = build_model(sizes, users, items).to("meta")
    users_B = torch.empty(groups, dtype=torch.int64, device="meta")
    items_BC = torch.empty(groups, 1 + negatives, dtype=torch.int64, device="meta")
    batch = Batch(DeviceRows.whole(users_B, users), DeviceRows.whole(items_BC, items))
    objective = Objective(LOSSES["bce"], l2_gmf=0.01, precision=torch.bfloat16, chunk=2**20)
    counter = _counted(
        lambda: loss_and_gradients(
            model, batch, objective, Workers(1), parts=StepParts([slice(0, groups)], 1)
        )
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(
        counter.launches + 2 * _ADAMW_LAUNCHES,
        counter.bytes + _ADAMW_BYTES * parameters + _BYTES_A_DRAW * groups * negatives,
        flops_a_sample(sizes, items, groups, negatives) * groups * (1 + negatives),
        GAP_IN_A_GRAPH,
    )


def scoring_cost(sizes: ModelConfig, users: int, items: int, rows: int, candidates: int) -> Cost:
    """Of scoring `rows` lists, launched from Python; the activations are taken not to stay in the card's
    cache."""
    scorer = ModelScorer(build_model(sizes, users, items).to("meta"))
    users_T = torch.empty(rows, dtype=torch.int64, device="meta")
    items_TC = torch.empty(rows, candidates, dtype=torch.int64, device="meta")
    counter = _counted(lambda: scorer(users_T, items_TC))
    flop = flops_a_sample(sizes, items, rows, candidates - 1) / 3.0 * rows * candidates
    return Cost(counter.launches, counter.bytes, flop, GAP_OUTSIDE)
