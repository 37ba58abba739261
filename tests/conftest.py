"""Tests run side by side, one torch thread each; hypothesis draws the same examples in every run."""

import os
import signal

os.environ.setdefault("POLARS_MAX_THREADS", "1")
# Two workers and the programs that they start share the cores: threads of BLAS and OpenMP that spin while
# they wait for one took half of the suite's processor time. Libraries read these variables when they are
# loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
import torch

from aws import aws, quick  # noqa: F401  (a fixture for every test)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background jobs ignore ctrl-C, and so would every command that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
hypothesis.settings.register_profile("ncf", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("ncf")


NEEDS = {
    "sources": "NCF_TEST_SOURCES", "browser": "NCF_TEST_BROWSER", "torchserve": "NCF_TEST_TORCHSERVE",
    "soak": "NCF_TEST_SOAK", "container": "NCF_TEST_CONTAINER", "spark": "NCF_TEST_SPARK",
    "horovod": "NCF_TEST_HOROVOD",
    "torchrec": "NCF_TEST_TORCHREC",
}  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need what a machine may not have exist only where an environment variable says that it is
    there."""
    absent_marks = [mark for mark, variable in NEEDS.items() if not os.environ.get(variable)]
    absent = [item for item in items if any(item.get_closest_marker(mark) for mark in absent_marks)]
    config.hook.pytest_deselected(items=absent)
    items[:] = [item for item in items if item not in absent]
