"""The compute thread: calls from the event loop, done one after the other beside it.

The one decision worth knowing: answers go back to the event loop in batches. What has gathered in the queue
while the thread computed is taken together, and the loop is woken once for all of it; under load the two
threads then trade the interpreter lock a few times a bunch instead of a few times a request.
`ThreadPoolExecutor` wakes the loop for every call and takes twice as long to do so (docs/performance.md).
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")
_Task = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]

_BUNCH = 8


class ComputeThread:
    """One thread. `waiting` counts the calls that are queued or being computed."""

    def __init__(self) -> None:
        self.waiting = 0
        self._begun: float | None = None
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="ncf-compute", daemon=True)
        self._thread.start()

    async def call(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """The result of `function(*arguments)`, or its exception; a cancelled call is not begun."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.waiting += 1
        try:
            self._tasks.put((future, function, arguments))
            return await future
        finally:
            self.waiting -= 1

    @property
    def busy(self) -> float:
        """For how many seconds the present call has been computed; infinite where the thread has died."""
        begun = self._begun
        if not self._thread.is_alive():
            return math.inf
        return 0.0 if begun is None else time.monotonic() - begun

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._tasks.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            bunch = self._next()
            done = []
            for task in bunch:
                if task is not None and not task[0].cancelled():
                    self._begun = time.monotonic()
                    done.append((task[0], *_outcome(task)))
            self._begun = None
            if done:
                done[0][0].get_loop().call_soon_threadsafe(_deliver, done)
            if None in bunch:
                return

    def _next(self) -> list[_Task | None]:
        """At least one task, and those that wait already."""
        bunch = [self._tasks.get()]
        try:
            while len(bunch) < _BUNCH and bunch[-1] is not None:
                bunch.append(self._tasks.get_nowait())
        except Empty:
            pass
        return bunch


def _outcome(task: _Task) -> tuple[Any, BaseException | None]:
    _, function, arguments = task
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error


def _deliver(done: list[tuple["asyncio.Future[Any]", Any, BaseException | None]]) -> None:
    """Runs on the event loop."""
    for future, result, error in done:
        if future.cancelled():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
