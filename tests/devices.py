"""What stands for a GPU in these tests: a recorder that replays on the CPU, in the memory that a CUDA graph would use."""

from collections.abc import Callable
from typing import Any

import torch


class Replayed:
    """Like a CUDA graph: recording carries nothing out; a replay reads the same buffers and writes the same outputs."""

    made = 0

    def __init__(self, call: Callable[[], Any]) -> None:
        type(self).made += 1
        self._call = call
        self.outputs: Any = None

    def replay(self) -> None:
        """Carry it out; outputs keep their memory."""
        found = self._call()
        if self.outputs is None:
            self.outputs = found
            return
        for output, value in zip(_tensors(self.outputs), _tensors(found), strict=True):
            output.copy_(value)


def _tensors(outputs: Any) -> list[torch.Tensor]:
    if outputs is None:
        return []
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
