"""The marker `horovod`, and the environment that the tests with it need."""

import os
from pathlib import Path

import pytest

VARIABLE = "NCF_TEST_HOROVOD"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"horovod: needs an environment in {VARIABLE} (scripts/install-horovod makes it)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    absent = [item for item in items if item.get_closest_marker("horovod") and not os.environ.get(VARIABLE)]
    config.hook.pytest_deselected(items=absent)
    items[:] = [item for item in items if item not in absent]


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder with that environment's `python` and `horovodrun`."""
    return Path(os.environ[VARIABLE]).resolve() / "bin"
