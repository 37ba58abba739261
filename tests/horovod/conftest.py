"""The environment that the tests marked `horovod` need."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder with that environment's `python` and `horovodrun`."""
    return Path(os.environ["NCF_TEST_HOROVOD"]).resolve() / "bin"
