"""A function of tensors, recorded once for each set of shapes and then replayed as one launch (CUDA graphs).

In: a function that depends only on its tensors, on what it keeps on the device, and on a few constants. Out:
what it returns. A training step is a hundred small kernels; launching them one by one from Python takes
longer than they run.

The decision worth knowing: the first calls run unrecorded, since libraries set themselves up on first use and
a recording must not wait for that. A replay reads the buffers of its recording and writes into the same
outputs, so a caller that keeps an output beyond the next call makes a copy.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
WARM_UP = 3
"""Calls before the first recording."""


class GraphRecording(Protocol):
    """A recorded call. Recording does not carry it out."""

    outputs: Any

    def replay(self) -> None:
        """Carry it out, from the memory of its inputs to that of its outputs."""


Recorder = Callable[[Callable[[], Any]], GraphRecording]


class CudaRecording:
    """A `torch.cuda.CUDAGraph`. Other threads may use the device meanwhile, as NCCL's watchdog does."""

    def __init__(self, device: torch.device, call: Callable[[], Any]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self.outputs = call()

    def replay(self) -> None:
        self._graph.replay()


def recorder_of(device: torch.device) -> Recorder | None:
    """What records on this device; None where functions run unrecorded."""
    return partial(CudaRecording, device) if device.type == "cuda" else None


class Recorded(Generic[Result]):
    """`function(inputs, *constants)`; the constants are numbers that become part of the recording."""

    def __init__(self, function: Callable[..., Result], recorder: Recorder | None) -> None:
        self._function, self._recorder = function, recorder
        self._calls = 0
        self._recordings: dict[tuple[object, ...], tuple[list[Tensor], GraphRecording]] = {}

    def __call__(self, inputs: list[Tensor], *constants: float) -> Result:
        """The function's result, in memory that the next call with these shapes may overwrite."""
        self._calls += 1
        if self._recorder is None or self._calls <= WARM_UP:
            return self._function(inputs, *constants)
        # Constants are part of the key, since a recording has them built in.
        key = (*(tensor.shape for tensor in inputs), *constants)
        if key not in self._recordings:
            # The recording always reads these buffers, so each call's inputs are copied into them.
            buffers = [tensor.clone() for tensor in inputs]
            call = self._recorder(lambda: self._function(buffers, *constants))
            self._recordings[key] = buffers, call
        buffers, recording = self._recordings[key]
        for buffer, tensor in zip(buffers, inputs, strict=True):
            buffer.copy_(tensor)
        recording.replay()
        outputs: Result = recording.outputs
        return outputs
