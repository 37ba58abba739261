"""Tests run side by side, one torch thread each; hypothesis draws the same examples in every run."""

import os

import hypothesis
import pytest
import torch

os.environ.setdefault("POLARS_MAX_THREADS", "1")
torch.set_num_threads(1)
hypothesis.settings.register_profile("ncf", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("ncf")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of files that the project may not ship exist only where NCF_TEST_SOURCES says where they are."""
    if "NCF_TEST_SOURCES" in os.environ:
        return
    absent = [item for item in items if item.get_closest_marker("sources")]
    config.hook.pytest_deselected(items=absent)
    items[:] = [item for item in items if item not in absent]
