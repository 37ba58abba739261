"""Tests with TorchRec exist only where NCF_TEST_TORCHREC names the environment that scripts/install-torchrec makes."""

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "torchrec: needs the environment in NCF_TEST_TORCHREC (scripts/install-torchrec makes it)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("NCF_TEST_TORCHREC"):
        return
    absent = [item for item in items if item.get_closest_marker("torchrec")]
    config.hook.pytest_deselected(items=absent)
    items[:] = [item for item in items if item not in absent]
