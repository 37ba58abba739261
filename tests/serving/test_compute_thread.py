"""The compute thread gives back results and errors, in order, off the event loop."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from ncf.serving.compute_thread import ComputeThread


@pytest.fixture
def lane() -> Iterator[ComputeThread]:
    lane = ComputeThread()
    yield lane
    lane.close()


def test_results_and_errors_come_back(lane: ComputeThread) -> None:
    async def scenario() -> None:
        assert await lane.call(int, "7") == 7
        with pytest.raises(ValueError, match="invalid literal"):
            await lane.call(int, "x")
        assert await lane.call(threading.current_thread) is not threading.current_thread()

    asyncio.run(scenario())
    assert lane.waiting == 0


def test_many_calls_keep_their_order_and_their_answers(lane: ComputeThread) -> None:
    done: list[int] = []

    def work(number: int) -> int:
        done.append(number)
        return number * number

    async def scenario() -> list[int]:
        return await asyncio.gather(*(lane.call(work, number) for number in range(500)))

    assert asyncio.run(scenario()) == [number * number for number in range(500)]
    assert done == list(range(500))


def test_the_event_loop_runs_while_the_thread_computes(lane: ComputeThread) -> None:
    release = threading.Event()

    async def scenario() -> int:
        slow = asyncio.create_task(lane.call(release.wait, 30))
        for _ in range(20):
            await asyncio.sleep(0.001)
        waiting = lane.waiting
        release.set()
        assert await slow
        return waiting

    assert asyncio.run(scenario()) == 1


def test_a_call_nobody_waits_for_any_more_is_not_begun(lane: ComputeThread) -> None:
    release, begun = threading.Event(), []

    async def scenario() -> None:
        slow = asyncio.create_task(lane.call(release.wait, 30))
        await asyncio.sleep(0.01)
        gone = asyncio.create_task(lane.call(begun.append, "gone"))
        kept = asyncio.create_task(lane.call(begun.append, "kept"))
        await asyncio.sleep(0.01)
        gone.cancel()
        release.set()
        await asyncio.gather(slow, kept)

    asyncio.run(scenario())
    assert begun == ["kept"]


def test_closing_finishes_what_is_queued() -> None:
    lane, done = ComputeThread(), []

    async def scenario() -> None:
        tasks = [asyncio.create_task(lane.call(lambda: done.append(time.sleep(0.001)))) for _ in range(20)]
        await asyncio.sleep(0)
        await asyncio.to_thread(lane.close)
        await asyncio.gather(*tasks)

    asyncio.run(scenario())
    assert len(done) == 20
