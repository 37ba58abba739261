"""What stands in for a GPU: a recorder that replays on CPU, and a watch over operations that would wait."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_TELL = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "bincount", "masked_select", "equal"}
_INDEX = {"index", "index_put_", "_index_put_impl_"}


class Replayed:
    """Like a CUDA graph: recording carries nothing out; replays use the same buffers and the same outputs."""

    made = 0

    def __init__(self, call: Callable[[], Any]) -> None:
        type(self).made += 1
        self._call = call
        self.outputs: Any = None

    def replay(self) -> None:
        """Carry it out; outputs keep their memory."""
        outputs = self._call()
        if self.outputs is None:
            self.outputs = outputs
            return
        for output, value in zip(_tensors(self.outputs), _tensors(outputs), strict=True):
            output.copy_(value)


def _tensors(outputs: Any) -> list[torch.Tensor]:
    if outputs is None:
        return []
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


class Waits(TorchDispatchMode):
    """Counts, by name, operations whose result or shape the CPU has to be told by the device."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name in _INDEX and any(place is not None and place.dtype == torch.bool for place in args[1])
        if name in _TELL or masks:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))
