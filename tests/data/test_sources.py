from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import polars as pl
import pytest

from ncf.data.item_table import GENRES
from ncf.data.sources import (
    atomic_files,
    bundled_columns,
    bundled_split,
    movielens_100k_zip,
    pinterest_by_user,
)
from ncf.errors import DataError

REPOSITORY_DATA = Path(__file__).parents[2] / "data"


def test_bundled_split_shapes() -> None:
    split = bundled_split("ml-1m")(REPOSITORY_DATA).split
    assert split is not None
    assert split.train_users.shape == (994_169,)
    assert split.negatives is not None
    assert split.negatives.shape == (6_040, 99)
    assert split.train_times is None


def test_bundled_files_are_small() -> None:
    sizes = [path.stat().st_size for path in REPOSITORY_DATA.glob("*.parquet")]
    assert max(sizes) < 2e6
    assert sum(sizes) < 3e6


def test_damaged_bundle(tmp_path: Path) -> None:
    for part in ("train", "test"):
        pl.DataFrame({"user": [1, 2], "item": [1, 2]}).write_parquet(tmp_path / f"x.{part}.parquet")
    pl.DataFrame({"item": [1, 2, 3]}).write_parquet(tmp_path / "x.negatives.parquet")
    with pytest.raises(DataError, match=r"x\.negatives\.parquet is damaged: restore it from the repository"):
        bundled_split("x")(tmp_path)
    (tmp_path / "x.test.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"x\.test\.parquet is damaged: restore it"):
        bundled_split("x")(tmp_path)


def write_zip(folder: Path) -> None:
    data = "196\t242\t3\t881250949\n186\t302\t4\t891717742\n"
    flags = [
        "|".join("1" if genre in wanted else "0" for genre in GENRES) for wanted in (["Drama", "War"], [])
    ]
    items = f"242|Café (de Paris) (1997)|01-Jan-1997||http://x|{flags[0]}\n302|unknown||||{flags[1]}\n"
    with zipfile.ZipFile(folder / "ml-100k.zip", "w") as archive:
        archive.writestr("ml-100k/u.data", data)
        archive.writestr("ml-100k/u.item", items.encode("latin-1"))


def test_movielens_zip(tmp_path: Path) -> None:
    write_zip(tmp_path)
    loaded = movielens_100k_zip(tmp_path)
    assert loaded.columns is not None
    assert loaded.columns.time is not None
    assert loaded.columns.time.to_list() == [881250949, 891717742]
    assert loaded.item_table is not None
    assert loaded.item_table.frame.rows() == [
        ("242", "Café (de Paris)", "Drama War", "1997"),
        ("302", "unknown", "", None),
    ]


def test_damaged_zip(tmp_path: Path) -> None:
    (tmp_path / "ml-100k.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"ml-100k\.zip is damaged: remove it and let it be fetched again"):
        movielens_100k_zip(tmp_path)


def test_atomic_files(tmp_path: Path) -> None:
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (tmp_path / "x.inter").write_text(f"{header}1\t2\t3.0\t4.0\n")
    (tmp_path / "x.item").write_text("item_id:token\tmovie_title:token_seq\n2\tTwo\n")
    loaded = atomic_files("x")(tmp_path)
    assert loaded.columns is not None
    assert loaded.columns.time is not None
    assert loaded.columns.time.to_list() == [4]
    assert loaded.item_table is not None
    assert loaded.item_table.frame.columns == ["item_id", "movie_title"]


def test_bundled_columns() -> None:
    loaded = bundled_columns("ml-100k")(REPOSITORY_DATA)
    assert loaded.facts["rows"] == 100_000
    assert loaded.item_table is not None
    assert len(loaded.item_table.frame) == 1_682


def test_pinterest_by_user(tmp_path: Path) -> None:
    (tmp_path / "pin.train.txt.gz").write_bytes(gzip.compress(b"0 5 6\n1 7 8 9\n"))
    (tmp_path / "pin.test.txt.gz").write_bytes(gzip.compress(b"0 10\n1\n"))
    (tmp_path / "pinterest-20.test.rating").write_text("0\t10\t1\t0\n1\t7\t1\t0\n2\t5\t1\t0\n")
    loaded = pinterest_by_user(tmp_path)
    assert loaded.drops_unknown_users
    assert loaded.split is not None
    assert loaded.split.train_users.tolist() == [0, 0, 1, 1, 1, 0]
    assert loaded.split.train_items.tolist() == [5, 6, 7, 8, 9, 10]
    assert loaded.split.test_users.tolist() == [0, 1, 2]
    assert loaded.split.negatives is None


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"0 5 6\n" * 99)[:30], b"plain", gzip.compress(b"0 x\n")],
    ids=["cut off", "not compressed", "not numbers"],
)
def test_damaged_pinterest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pin.train.txt.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"pin\.train\.txt\.gz is damaged or cut off"):
        pinterest_by_user(tmp_path)
