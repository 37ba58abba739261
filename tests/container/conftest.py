"""One image for all tests with containers, built once; an engine is started where none answers."""

from pathlib import Path

import pytest

from containers import OptMl
from images import TWO_EPOCHS, image, ml_100k, two_epochs

__all__ = ["image", "ml_100k", "two_epochs"]


@pytest.fixture(scope="session")
def trained(image: str, ml_100k: Path, tmp_path_factory: pytest.TempPathFactory) -> OptMl:
    """/opt/ml after two epochs of ML-100K in the image, without a network; what was printed is in `log`."""
    job = OptMl.make(tmp_path_factory.mktemp("trained"), TWO_EPOCHS, ml_100k)
    done = job.train(image, "--network", "none")
    assert done.returncode == 0, done.stderr
    (job.root / "log").write_text(done.stdout, "utf-8")
    return job
