"""New events for prepared data: what preparing both tables at once gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ncf.data import Dataset, PrepareOptions, prepare_catalog, prepare_file, update_data
from ncf.data.columns import ColumnNames
from ncf.errors import DataError

ROWS = 400
WEIGHTS = {
    "weight": "amount", "event": "amount", "repeats": "sum",
    "event_weights": {"1": 0, "2": 0.3, "3": 1, "4": 2, "5": 0.25},
}  # fmt: skip


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """Rows in order of time, some pairs twice."""
    random = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "customer": [f"u{row}" for row in random.integers(0, 25, ROWS)],
            "sku": random.integers(100, 140, ROWS),
            "when": np.sort(random.integers(0, 10**6, ROWS)),
            "amount": random.integers(1, 6, ROWS).astype(np.float64),
        }
    )


def parts(table: pl.DataFrame, folder: Path, kind: str = "csv", cut: int = 300) -> tuple[Path, Path, Path]:
    """Files of the first rows, of the others and of all."""
    paths = []
    for name, rows in (("old", table.head(cut)), ("new", table.tail(len(table) - cut)), ("all", table)):
        path = folder / f"{name}.{kind}"
        if kind == "parquet":
            rows.write_parquet(path)
        elif kind == "jsonl":
            rows.write_ndjson(path)
        else:
            rows.write_csv(path)
        paths.append(path)
    return paths[0], paths[1], paths[2]


NAMED = PrepareOptions(user="customer", item="sku", time="when", negatives=5)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize(
    "changes",
    [{}, WEIGHTS, {"rating": "amount", "min_rating": 3.0}, {"split": "random", "seed": 3}],
)
def test_it_is_what_preparing_both_at_once_gives(
    kind: str, changes: dict[str, object], table: pl.DataFrame, tmp_path: Path
) -> None:
    old, new, everything = parts(table, tmp_path, kind)
    options = replace(NAMED, **changes)
    prepare_file(old, options)[0].save(tmp_path / "data")
    whole = prepare_file(everything, options)[0]
    update = update_data(Dataset.open(tmp_path / "data"), new)
    assert update.prepared is not None
    dataset, report = update.prepared
    assert dataset.digest == whole.digest
    assert np.array_equal(dataset.test.timestamps, whole.test.timestamps)
    assert dataset.description["source"]["updates"] == [new.name]
    assert dataset.description["options"] == whole.description["options"]
    assert len(report.lines())


def test_rows_that_are_there_already_are_counted_and_change_nothing(
    table: pl.DataFrame, tmp_path: Path
) -> None:
    old, _, _ = parts(table, tmp_path)
    dataset = prepare_file(old, NAMED)[0]
    assert update_data(dataset, old).prepared is None
    overlapping = table.slice(250, 100)
    overlapping.write_csv(tmp_path / "more.csv")
    update = update_data(dataset, tmp_path / "more.csv")
    latest = {(u, i): t for u, i, t in table.head(300).select("customer", "sku", "when").iter_rows()}
    slow = sum(
        t <= latest.get((u, i), -1) for u, i, t in overlapping.select("customer", "sku", "when").iter_rows()
    )
    assert (update.rows, update.already) == (100, slow)
    assert 50 <= slow < 100


def test_without_times_a_known_pair_is_never_new(table: pl.DataFrame, tmp_path: Path) -> None:
    old, new, _ = parts(table.select("customer", "sku"), tmp_path)
    dataset = prepare_file(old, replace(NAMED, time=None, split="random"))[0]
    update = update_data(dataset, new)
    pairs = {*table.head(300).select("customer", "sku").iter_rows()}
    assert update.already == sum(
        pair in pairs for pair in table.tail(100).select("customer", "sku").iter_rows()
    )


def test_other_names_types_and_items(table: pl.DataFrame, tmp_path: Path) -> None:
    """Item ids that were integers become texts beside new texts; old items keep their columns."""
    old, _, _ = parts(table, tmp_path)
    pl.DataFrame({"sku": range(100, 140), "title": [f"T{n}" for n in range(100, 140)]}).write_csv(
        tmp_path / "i.csv"
    )
    dataset = prepare_file(old, replace(NAMED, items_file=str(tmp_path / "i.csv")))[0]
    pl.DataFrame({"who": ["u1", "new"], "what": ["x9", "100"], "at": [10**7, 10**7]}).write_csv(
        tmp_path / "e.csv"
    )
    update = update_data(dataset, tmp_path / "e.csv", ColumnNames("who", "what", "at"))
    assert update.prepared is not None
    items = update.prepared[0].item_columns
    assert items.filter(pl.col("id") == "100")["title"].to_list() == ["T100"]
    assert items.filter(pl.col("id") == "x9")["title"].to_list() == [None]
    assert "new" in update.prepared[0].users.ids.tolist()


def test_what_cannot_be_updated_is_refused(table: pl.DataFrame, tmp_path: Path) -> None:
    old, new, _ = parts(table, tmp_path)
    dataset = prepare_file(old, NAMED)[0]
    table.tail(5).with_columns(pl.from_epoch("when")).write_csv(tmp_path / "dates.csv")
    with pytest.raises(DataError, match="are microseconds, and those of old as given"):
        update_data(dataset, tmp_path / "dates.csv")
    table.tail(5).rename({"customer": "somebody"}).write_csv(tmp_path / "named.csv")
    with pytest.raises(DataError, match="There is no column 'customer'"):
        update_data(dataset, tmp_path / "named.csv")
    before = replace(dataset, test=replace(dataset.test, timestamps=None))
    with pytest.raises(DataError, match="before held-out rows kept their times"):
        update_data(before, new)
    with pytest.raises(DataError, match="The split of ml-1m was published"):
        update_data(prepare_catalog("ml-1m")[0], new)
