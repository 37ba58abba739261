"""Small tables that every test of the data wing can use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncf.data import Dataset, Interactions, PrepareOptions, prepare_catalog, prepare_file


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a text file into the test's folder."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def random_pairs(seed: int, users: int, items: int, size: int) -> Interactions:
    """Distinct pairs with times, sorted by user and item."""
    generator = np.random.default_rng(seed)
    keys = np.sort(generator.choice(users * items, size=size, replace=False))
    return Interactions(
        (keys // items).astype(np.int32),
        (keys % items).astype(np.int32),
        generator.integers(0, 50, size).astype(np.int64),
    )


@pytest.fixture
def pairs() -> Callable[[int, int, int, int], Interactions]:
    return random_pairs


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """40 users, 30 items, 400 interactions as CSV with times and ratings."""
    table = random_pairs(7, 40, 30, 400)
    ratings = np.random.default_rng(8).integers(1, 6, len(table))
    assert table.timestamps is not None
    lines = [
        f"u{user},{item + 100},{rating},{time}"
        for user, item, rating, time in zip(
            table.user_rows, table.item_rows, ratings, table.timestamps, strict=True
        )
    ]
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,rating,timestamp\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture
def dataset(events: Path) -> Dataset:
    return prepare_file(events, PrepareOptions(negatives=5))[0]


@pytest.fixture(scope="session")
def ml_1m() -> Dataset:
    """ML-1M as it is bundled; takes seconds, so it is prepared once."""
    return prepare_catalog("ml-1m")[0]
