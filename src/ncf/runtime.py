"""Where a run computes: device, precision, threads, and generators derived from (seed, purpose, counters).

The one decision worth knowing: nothing in ncf draws from a global generator. A generator is made where it is
needed, from the seed, the name of its purpose, and counters such as epoch, block and rank. So any part of a
run can be drawn again without running what came before it, and a resumed run is bit-identical. torch is
imported only where it is used, because serving needs seeds and threads without torch.
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
_WATCH_SECONDS = 0.5
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
Part = TypeVar("Part")
Result = TypeVar("Result")


def seed_of(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed. Other values of `seed`, `purpose` or `counters` give an independent stream."""
    # The number of counters comes first: a SeedSequence takes (1,) and (1, 0) for the same.
    sequence = np.random.SeedSequence((len(counters), seed, zlib.crc32(purpose.encode()), *counters))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def generator(seed: int, purpose: str, *counters: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator on `device`, seeded by `seed_of(seed, purpose, *counters)`."""
    import torch

    return torch.Generator(device=device).manual_seed(seed_of(seed, purpose, *counters))


_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as a signed number
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9, signed
_SECOND = -7723592293110705685  # 0x94D049BB133111EB, signed


def random_bits(seed: int | torch.Tensor, counters: torch.Tensor) -> torch.Tensor:
    """64 random bits (int64) for each of the `counters` (int64), in their shape; they depend on nothing else.

    The numbers are those of SplitMix64 (Steele, Lea & Flood, OOPSLA'14, figure 16): the counter times the
    golden ratio, mixed. A `seed` tensor, which must broadcast to `counters`, gives each counter its own seed.
    Overflow is meant.
    """
    state = (counters + 1).mul_(_GOLDEN).add_(seed)
    state.bitwise_xor_(shift_right(state, 30)).mul_(_FIRST)
    state.bitwise_xor_(shift_right(state, 27)).mul_(_SECOND)
    return state.bitwise_xor_(shift_right(state, 31))


def shift_right(values: torch.Tensor, places: int) -> torch.Tensor:
    """int64 `values` shifted right by 1 or more `places`; zeros come in from the left, not the sign."""
    return (values >> places).bitwise_and_(2 ** (64 - places) - 1)


def choose_device(name: str = "auto") -> torch.device:
    """The device `name`; `auto` is CUDA if there is one. Raises `ConfigError` if torch cannot use it."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):
        raise ConfigError(
            f"train.device = {name!r} is not usable here: choose 'cpu', 'auto', or 'cuda' if there is a GPU."
        ) from None
    return device


def choose_precision(name: str, device: torch.device, sequences: bool = False) -> torch.dtype:
    """The type `name`; `auto` is bfloat16 if `device` multiplies it natively (CUDA, AVX512-BF16, AMX), else
    float32.

    On a CPU it is float32 for models of `sequences`: their products have new shapes in each step, and a CPU
    prepares a product of bfloat16 anew for each shape.
    """
    import torch

    if name == "auto" and sequences and device.type == "cpu":
        return torch.float32

    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_multiplies_bfloat16()
    return torch.bfloat16 if native else torch.float32


def _cpu_multiplies_bfloat16() -> bool:
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def choose_threads(threads: int = 0) -> int:
    """`threads`, or for 0 the cores that this process may use, shared with its peers on this machine."""
    cores = len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    return threads or max(1, cores // _local("SIZE", 1))


def local_rank() -> int:
    """The rank of this process among those that torchrun, Horovod or MPI started on this machine."""
    return _local("RANK", 0)


def _local(what: str, default: int) -> int:
    # torchrun sets LOCAL_WORLD_SIZE where the others set LOCAL_SIZE.
    torchrun = f"LOCAL_{what.replace('SIZE', 'WORLD_SIZE')}"
    names = (torchrun, f"HOROVOD_LOCAL_{what}", f"OMPI_COMM_WORLD_LOCAL_{what}")
    return next((int(os.environ[name]) for name in names if name in os.environ), default)


class Workers:
    """A few threads that each run torch single-threaded.

    Splitting a step into one part per thread costs two synchronizations; torch's own threads cost two for
    each operation, and stall if the cores are busy. Results are combined in the order of the parts, so they
    do not depend on which thread was faster.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "ncf-worker") if threads > 1 else None

    def map(self, function: Callable[[Part], Result], parts: list[Part]) -> list[Result]:
        """`[function(part) for part in parts]`, in parallel."""
        if self._pool is None or len(parts) < 2:
            return [function(part) for part in parts]
        return list(self._pool.map(function, parts))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


@contextmanager
def workers(threads: int) -> Iterator[Workers]:
    """`Workers` with `threads` threads; while they live, torch's own operations use one thread."""
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
    """Have glibc keep freed memory for the next step instead of returning it to the system; False if there is
    no glibc.

    Steps over large tables allocate and free the same large buffers again and again. By default the kernel
    maps and zeroes each one anew, which took half of the time of such a step.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(_M_MMAP_MAX, 0) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
    except (OSError, AttributeError):
        return False


def free_memory() -> int:
    """Bytes of memory that this process can still take: what the system has available, or its container's
    limit.
    """
    import psutil

    sizes = [int(psutil.virtual_memory().available)]
    for path in _CONTAINER_LIMITS:
        # The file is missing without that version of cgroups, and says "max" where there is no limit.
        with suppress(OSError, ValueError):
            sizes.append(int(Path(path).read_text("utf-8")))
    return min(sizes)


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """A function that says whether ctrl-C or SIGTERM was received; a second signal ends the process as usual.

    Outside the main thread, where Python allows no signal handlers, it always returns False.
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
    """Send this process SIGTERM as soon as `parent`, the process id of its parent, is gone.

    The parent normally ends its processes; if it is killed itself, nothing else would.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="ncf-parent", daemon=True).start()


def spans(length: int, parts: int) -> list[slice]:
    """At most `parts` contiguous spans of nearly equal size that cover `length` positions; none is empty."""
    parts = max(1, min(parts, length))
    bounds = [length * part // parts for part in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(bounds)]


def span_of(length: int, rank: int, size: int) -> slice:
    """Span number `rank` of the `size` that cover `length` positions; empty if there are fewer of them."""
    return slice(length * rank // size, length * (rank + 1) // size)
