"""Processes that `horovodrun` or `mpirun` started, connected by Horovod (docs/horovod.md; legacy).

In: the environment that the launcher made. Out: a `Communicator`. The one decision worth knowing: tensors go
through host memory, because Horovod is built here without NCCL. On GPUs torchrun is faster.

Horovod waits forever for a process that hangs, and has the same message for every other failure. So a thread
of ours stops Horovod if an exchange takes too long. The watchdog finds out which process it was
(`ncf.training.parallel.watchdog`).

Source: Horovod 0.28.1, https://horovod.readthedocs.io.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ncf.errors import ConfigError, Interrupted, LostProcess
from ncf.runtime import local_rank
from ncf.training.parallel.communicator import Collective, Communicator, SingleProcess, Value
from ncf.training.parallel.watchdog import Watchdog

Result = TypeVar("Result")
_WATCHING = timedelta(seconds=5)
_GRACE = 5.0
"""Seconds that Horovod may take to shut down."""


class Clock:
    """Shuts Horovod down if an exchange takes too long, and ends this process if that does not help."""

    def __init__(self, shutdown: Callable[[], None], watch: Watchdog, patience: float) -> None:
        """`shutdown` ends Horovod; `watch` explains the delay; an exchange may take `patience` seconds."""
        self.late = False
        self._shutdown, self._watch, self._patience = shutdown, watch, patience
        self._began: float | None = None
        self._over = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch the time while the block runs; shut Horovod down after it."""
        thread = threading.Thread(target=self._look, name="ncf-clock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            self._shutdown()

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Time the exchange in the block."""
        self._began = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - self._began
            # gloo has a time-out of its own, which may have ended the exchange a little earlier
            self._began, self.late = None, self.late or took > 0.9 * self._patience

    def _look(self) -> None:
        while not self._over.wait(min(1.0, self._patience / 10)):
            began = self._began
            if began is not None and time.monotonic() - began > self._patience:
                self.late = True
                self._end()
                return

    def _end(self) -> None:
        """Shut Horovod down. MPI does not end while one of its processes is stopped; then this process
        exits."""
        ending = threading.Thread(target=self._shutdown, daemon=True)
        ending.start()
        ending.join(_GRACE)
        if ending.is_alive():
            print("ncf:", self._watch.explained("timed out"), file=sys.stderr, flush=True)
            os._exit(1)


class Horovod(Collective):
    """The communicator of Horovod's processes."""

    def __init__(self, hvd: Any, watch: Watchdog, clock: Clock) -> None:
        """`hvd` is the module `horovod.torch`, initialised; `watch` counts exchanges and `clock` times
        them."""
        self._hvd, self.watch, self._clock = hvd, watch, clock
        self.rank, self.size = watch.rank, watch.size

    def _exchange(self, call: Callable[..., Result], *arguments: Any, **names: Any) -> Result:
        """Call Horovod. Raises a `RuntimeError` whose message tells a late process from a lost one."""
        self.watch.count += 1
        try:
            with self._clock.exchange():
                return call(*arguments, **names)
        except (self._hvd.HorovodInternalError, ValueError) as error:
            if self._clock.late:
                raise RuntimeError(f"timed out: {error}") from error
            if isinstance(error, ValueError):
                raise
            raise RuntimeError(f"connection closed: {error}") from error

    def _sum(self, flat: Tensor) -> Tensor:
        here = flat.cpu()
        if self.size == 2:
            allreduce, op = self._hvd.allreduce_, self._hvd.Sum
            summed: Tensor = self._exchange(allreduce, here, op=op, name="gradients")
            return summed.to(flat.device)
        return self._sum_in_pairs(here).to(flat.device)

    def _swap(self, pieces: Tensor) -> Tensor:
        swapped: Tensor = self._exchange(self._hvd.alltoall, pieces, name="pieces")
        return swapped

    def _join(self, piece: Tensor) -> Tensor:
        joined: Tensor = self._exchange(self._hvd.allgather, piece, name="sums")
        return joined

    def _broadcast(self, tensor: Tensor, name: str) -> Tensor:
        moved = tensor.cpu()
        self._exchange(self._hvd.broadcast_, moved, root_rank=0, name=name)
        return moved

    def _gather(self, rows: Tensor) -> list[Tensor]:
        """Horovod gathers parts of different lengths into one; the lengths, gathered first, tell where to
        split it."""
        here = torch.tensor([len(rows)])
        lengths = self._exchange(self._hvd.allgather, here, name="lengths").tolist()
        gathered = self._exchange(self._hvd.allgather, rows.cpu().contiguous(), name="rows")
        return list(gathered.to(rows.device).split(lengths))

    def all_gather_object(self, value: Value) -> list[Value]:
        values: list[Value] = self._exchange(self._hvd.allgather_object, value, name="all")
        return values

    def broadcast(self, value: Value) -> Value:
        shared: Value = self._exchange(self._hvd.broadcast_object, value, root_rank=0, name="share")
        return shared

    def barrier(self) -> None:
        self._exchange(self._hvd.barrier)


@contextmanager
def horovod(timeout: timedelta) -> Iterator[Communicator]:
    """Join the processes that were started together with this one, and leave them at the end.

    `timeout` limits every exchange. Raises `ConfigError` if Horovod is not installed.
    """
    try:
        hvd = importlib.import_module("horovod.torch")
    except ImportError:
        raise ConfigError(
            "--distributed horovod needs Horovod, which is not installed: scripts/install-horovod builds it, "
            "or use --distributed torchrun."
        ) from None
    seconds = max(2, round(timeout.total_seconds()))
    os.environ["HOROVOD_GLOO_TIMEOUT_SECONDS"] = str(seconds)
    os.environ["HOROVOD_STALL_CHECK_DISABLE"] = "1"  # it would warn about the wait for process 0's artifact
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    hvd.init()
    if hvd.size() == 1:
        hvd.shutdown()
        yield SingleProcess()
        return
    watch = Watchdog(hvd.rank(), hvd.size(), _store(hvd))
    clock = Clock(hvd.shutdown, watch, seconds)
    try:
        with clock.running(), watch.over():
            yield Horovod(hvd, watch, clock)
    except (Interrupted, LostProcess):
        raise
    except Exception:
        if watch.rank == 0:
            # This process holds the store in which the others look for its message.
            time.sleep(_GRACE)
        raise


def _store(hvd: Any) -> Any:
    """The watchdog's store, which process 0 holds; None for a process that cannot reach it."""
    store = None
    if hvd.rank() == 0:
        store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=_WATCHING)  # type: ignore[attr-defined]
    host = os.environ.get("HOROVOD_HOSTNAME") or socket.gethostname()
    host, port = hvd.broadcast_object((host, store.port if store else 0), root_rank=0, name="watch")
    with suppress(RuntimeError):
        return store or dist.TCPStore(host, port, is_master=False, timeout=_WATCHING)  # type: ignore[attr-defined]
    return None
