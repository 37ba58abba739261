"""Where a run computes: device, precision, threads, and generators derived from (seed, purpose, counters).

The one decision worth knowing: nothing in ncf draws from a global generator. A generator is made where it is needed
from the seed, the name of its purpose and the counters that tell draws apart (epoch, block, rank), so any part of a
run can be drawn again without running what came before it; that is what makes a resumed run equal to the bit.

torch is imported where it is used: serving needs seeds and threads, but no torch.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ncf.errors import ConfigError

if TYPE_CHECKING:
    import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_LOOK_SECONDS = 0.5
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
Part = TypeVar("Part")
Result = TypeVar("Result")


def seed_of(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed for one purpose; different purposes and counters give independent streams."""
    # The number of counters comes first: a SeedSequence takes (1,) and (1, 0) for the same.
    sequence = np.random.SeedSequence((len(counters), seed, zlib.crc32(purpose.encode()), *counters))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def generator(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator from `seed_of`."""
    import torch

    return torch.Generator(device=device).manual_seed(seed_of(seed, purpose, *counters))


def choose_device(name: str = "auto") -> torch.device:
    """`auto` takes a CUDA device where there is one; a name torch cannot use is a `ConfigError`."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(
            f"train.device = {name!r} is not usable here: choose 'cpu', 'cuda' where there is one, or 'auto'."
        ) from None
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it natively (CUDA, AVX512-BF16, AMX), else float32."""
    import torch

    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_multiplies_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def choose_threads(threads: int = 0) -> int:
    """0 is every core that this process may run on, inside a container's or scheduler's limits, divided among the
    processes that train together on this machine."""
    cores = len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    return threads or max(1, cores // _local("SIZE", 1))


def local_rank() -> int:
    """This process's place among those that torchrun, Horovod or MPI started on this machine."""
    return _local("RANK", 0)


def _local(what: str, default: int) -> int:
    # torchrun says LOCAL_WORLD_SIZE where the others say LOCAL_SIZE.
    names = [
        f"LOCAL_{what.replace('SIZE', 'WORLD_SIZE')}",
        f"HOROVOD_LOCAL_{what}",
        f"OMPI_COMM_WORLD_LOCAL_{what}",
    ]
    return next((int(os.environ[name]) for name in names if name in os.environ), default)


class Workers:
    """A few threads that each run torch single-threaded.

    Splitting a step once into one part a thread costs two synchronisations; torch's own threads cost two for every
    operation, and stall on a machine whose cores are busy. Results are combined in the order of the parts, so they
    do not depend on which thread was faster.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "ncf-worker") if threads > 1 else None

    def map(self, function: Callable[[Part], Result], parts: list[Part]) -> list[Result]:
        """`[function(part) for part in parts]`, side by side."""
        if self._pool is None or len(parts) < 2:
            return [function(part) for part in parts]
        return list(self._pool.map(function, parts))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


@contextmanager
def workers(threads: int) -> Iterator[Workers]:
    """`Workers`, with torch's own threading set to one while they live."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = Workers(threads)
    try:
        yield pool
    finally:
        pool.close()
        torch.set_num_threads(before)


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the next step instead of giving it back to the system; False elsewhere.

    Steps over large tables free and take the same large buffers again and again. By default each is mapped afresh and its
    pages are zeroed by the kernel, which was half of the time of such a step.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    except (OSError, AttributeError):
        return False


def free_memory() -> int:
    """Bytes of memory that this process can still take: what the system has available, at most its container's limit."""
    import psutil

    sizes = [int(psutil.virtual_memory().available)]
    for path in _CONTAINER_LIMITS:
        # The file is missing without that version of cgroups, and says "max" where there is no limit.
        with suppress(OSError, ValueError):
            sizes.append(int(Path(path).read_text("utf-8")))
    return min(sizes)


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether ctrl-C or SIGTERM has come; the second one ends the process as usual.

    Elsewhere than on the main thread, where Python admits no handlers, the answer is always no.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: object) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with(parent: int) -> None:
    """Send this process SIGTERM as soon as `parent` is no longer the one that it was started by.

    Whoever starts a group of processes ends them; if it is killed itself, nobody else would.
    """

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=look, name="ncf-parent", daemon=True).start()


def spans(length: int, parts: int) -> list[slice]:
    """`length` positions cut into at most `parts` contiguous spans of nearly equal size, none empty."""
    parts = max(1, min(parts, length))
    bounds = [length * part // parts for part in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(bounds)]


def span_of(length: int, rank: int, size: int) -> slice:
    """The `rank`-th of `size` spans of nearly equal size; empty where there are fewer positions than spans."""
    return slice(length * rank // size, length * (rank + 1) // size)
