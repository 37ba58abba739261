"""Minutes of mixed load: memory stays flat, and every request is answered."""

import json
import os
import time
from pathlib import Path

import pytest

from processes import load, running, workers_of

BODIES = [
    json.dumps(body)
    for body in (
        {"users": ["104", 105, "nobody"], "k": 5},
        {"users": [110], "candidates": list(range(500, 520)), "describe": True},
        {"history": [503, 505, "?"], "k": 7},
        {"items": [507], "similar": True},
        {"pairs": [[104, 503]] * 20},
        {"user": [104] * 30, "item": list(range(500, 530))},
    )
]


def occupied(process: int) -> int:
    """Bytes that the process has for itself alone."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(
        1024 * int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty"))
    )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_memory_is_flat_under_load(artifact: Path) -> None:
    seconds = float(os.environ["NCF_TEST_SOAK"])
    with running(artifact, "--workers", 2) as (server, port), load(port, 4, BODIES) as clients:
        time.sleep(seconds * 0.2)
        workers = workers_of(server)
        before = {process: occupied(process) for process in workers}
        time.sleep(seconds * 0.8)
        assert workers_of(server) == workers
        growth = {process: occupied(process) / before[process] - 1 for process in workers}
    answered = sum(client.answered for client in clients)
    print(f"{answered} requests in {seconds:.0f} s; growth of the workers {list(growth.values())}")
    assert len(workers) == 2
    assert all(abs(share) < 0.05 for share in growth.values()), growth
    assert sum(client.broken + client.refused for client in clients) == 0
    assert sum(client.asked for client in clients) == answered
