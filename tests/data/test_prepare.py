"""The whole way, from a file to a data set."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ncf.data import Dataset, PrepareOptions, prepare_catalog, prepare_file, prepare_ncf_triple
from ncf.errors import ConfigError, DataError

Write = Callable[[str, str], Path]


@pytest.mark.parametrize("suffix", ["tsv", "parquet", "jsonl", "csv.gz", "inter"])
def test_every_format_gives_the_same_data_set(events: Path, tmp_path: Path, suffix: str) -> None:
    table = pl.read_csv(events)
    path = tmp_path / f"other.{suffix}"
    if suffix == "parquet":
        table.write_parquet(path)
    elif suffix == "jsonl":
        table.write_ndjson(path)
    elif suffix == "csv.gz":
        path.write_bytes(gzip.compress(events.read_bytes()))
    elif suffix == "inter":
        table.rename({name: f"{name}:token" for name in table.columns}).write_csv(path, separator="\t")
    else:
        table.write_csv(path, separator="\t")
    options = PrepareOptions(negatives=5)
    assert prepare_file(path, options)[0].digest == prepare_file(events, options)[0].digest


def test_the_order_of_the_rows_does_not_matter(events: Path, tmp_path: Path) -> None:
    pl.read_csv(events).sample(fraction=1, shuffle=True, seed=1).write_csv(tmp_path / "b.csv")
    for split in ("last", "random", "time"):
        options = PrepareOptions(negatives=5, split=split)  # type: ignore[arg-type]
        assert prepare_file(tmp_path / "b.csv", options)[0].digest == prepare_file(events, options)[0].digest


def test_held_out_agrees_with_a_loop(events: Path) -> None:
    dataset, _ = prepare_file(events, PrepareOptions(negatives=5))
    by_user: dict[str, dict[int, int]] = {}
    for user, item, _, time in pl.read_csv(events).iter_rows():
        mine = by_user.setdefault(user, {})
        mine[item] = max(time, mine.get(item, 0))
    for lists, place in ((dataset.test, -1), (dataset.validation, -2)):
        expected = {user: sorted(mine.values())[place] for user, mine in by_user.items() if len(mine) >= 3}
        users, items = dataset.users.ids_of(lists.user_rows), dataset.items.ids_of(lists.positives)
        pairs = list(zip(users.tolist(), items.tolist(), strict=True))
        assert {user: by_user[user][item] for user, item in pairs} == expected


def test_seed(events: Path) -> None:
    digests = {prepare_file(events, PrepareOptions(negatives=5, seed=seed))[0].digest for seed in (0, 0, 1)}
    assert len(digests) == 2


def test_names_and_a_table_of_items(write: Write, events: Path) -> None:
    items = write("items.csv", "item_id,title,year\n100,A,1999\n105,B,2001\n")
    dataset, _ = prepare_file(events, PrepareOptions(negatives=5, items_file=str(items)), name="mine")
    assert dataset.name == "mine"
    assert dataset.item_columns.columns == ["id", "popularity", "title", "year"]
    assert dataset.item_columns["title"][dataset.items.row(105)] == "B"


def test_dates(write: Write) -> None:
    lines = [f"{user},{item},2024-01-{item + 1:02}" for user in range(4) for item in range(4 + user)]
    path = write("a.csv", "user,item,date\n" + "\n".join(lines) + "\n")
    dataset, _ = prepare_file(path, PrepareOptions(negatives=1))
    assert dataset.description["time_unit"] == "microseconds"
    assert dataset.items.ids_of(dataset.test.positives).tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty: give a file with interactions"),
        ("user,item,time\n", "has no rows: give a file with interactions"),
        ("a,b,c\n1,2,3\n", "No column looks like the user .*the columns are 'a', 'b', 'c'"),
        ("user,item\n1,2\n", "No column looks like the time .*or use --split random"),
        ("user,item,time\n1,1,1\n1,2,1\n1,3,3\n", "There is only one user, so nothing can be ranked"),
        ("user,item,time\n1,1,1\n2,1,1\n3,1,3\n", "There is only one item, so nothing can be ranked"),
        ("user,item,time\n1,1,x\n", "'x' in line 2 of .* where a number or an ISO date is expected"),
        ("user,item,time\n1,1,-1\n", "is -1 in line 2 of .* which is before 0 or 1970"),
        ("user,item,time\nNaN,1,1\n2,2,2\n", "column 'user' has rows whose id is 'NaN': remove those rows"),
        ("user,item,time\n1,1,1\n1,2,2\n1,", "is missing in line 4 .*complete or remove those rows"),
    ],
)
def test_bad_files(write: Write, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        prepare_file(write("a.csv", text))


def test_filters_that_leave_nothing(events: Path) -> None:
    with pytest.raises(
        DataError, match="No interaction is left after the filters: lower --min-rating, --min-user"
    ):
        prepare_file(events, PrepareOptions(min_user=1000))
    with pytest.raises(DataError, match="No interaction is left after the filters"):
        prepare_file(events, PrepareOptions(min_rating=6))


def test_triple(tmp_path: Path) -> None:
    (tmp_path / "x.train.rating").write_text("".join(f"{n // 4}\t{n}\t1\t0\n" for n in range(12)))
    (tmp_path / "x.test.rating").write_text("0\t5\t1\t0\n1\t0\t1\t0\n")
    (tmp_path / "x.test.negative").write_text("(0,5)\t6\t7\n(1,0)\t2\t1\n")
    dataset, report = prepare_ncf_triple(tmp_path / "x", PrepareOptions(negatives=2))
    assert dataset.name == "x"
    assert dataset.test.candidates.tolist() == [[5, 6, 7], [0, 2, 1]]
    assert (
        report.lines()[0] == "read      14 interactions from x.train.rating, .test.rating and .test.negative"
    )


def test_golden_ml_1m(ml_1m: Dataset) -> None:
    assert (len(ml_1m.users), len(ml_1m.items)) == (6_040, 3_706)
    assert len(ml_1m.train) + len(ml_1m.validation) == 994_169
    assert len(ml_1m.validation) == len(ml_1m.test) == 6_040
    assert ml_1m.test.candidates.shape == ml_1m.validation.candidates.shape == (6_040, 100)
    assert ml_1m.users.ids.tolist() == list(range(6_040))
    assert ml_1m.items.ids.tolist() == list(range(3_706))
    assert ml_1m.description["counts"]["cold_items"] == 2
    assert ml_1m.test.positives[:3].tolist() == [25, 133, 207]
    assert ml_1m.test.candidates[0, :6].tolist() == [25, 1064, 174, 2791, 3373, 269]


def test_golden_ml_1m_audit(ml_1m: Dataset) -> None:
    assert ml_1m.description["audit"] == {
        "validation": {"lists": 6_040, "negatives": 99, "with_duplicates": 0, "positive_among_negatives": 0,
                       "training_positives_among_negatives": 0, "known_positives_among_negatives": 0},
        "test": {"lists": 6_040, "negatives": 99, "with_duplicates": 0, "positive_among_negatives": 156,
                 "training_positives_among_negatives": 0, "known_positives_among_negatives": 0},
    }  # fmt: skip


def test_golden_ml_1m_final_run(ml_1m: Dataset) -> None:
    final = ml_1m.with_validation_in_training()
    assert len(final.train) == 994_169
    assert final.train.csr(6_040).counts.min() == 19
    assert final.train.csr(6_040).counts.max() == 2_313


def test_golden_ml_100k() -> None:
    dataset, _ = prepare_catalog("ml-100k")
    assert (len(dataset.users), len(dataset.items)) == (943, 1_682)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 100_000
    assert len(dataset.test) == 943
    assert dataset.item_columns.columns == ["id", "popularity", "title", "year", "genres"]
    toy_story = dataset.item_columns.row(dataset.items.row(1), named=True)
    assert toy_story["title"] == "Toy Story"
    assert toy_story["year"] == 1995
    assert toy_story["genres"] == "Animation Children's Comedy"
    assert dataset.train.timestamps is not None


def test_ml_100k_by_time_and_at_random() -> None:
    for split in ("time", "random"):
        dataset, _ = prepare_catalog("ml-100k", PrepareOptions(split=split))  # type: ignore[arg-type]
        assert len(dataset.test) > 900
        assert dataset.description["audit"]["test"]["known_positives_among_negatives"] == 0


def test_popularity_corrected_validation_holds_out_rarer_items() -> None:
    plain, corrected = (
        prepare_catalog(
            "ml-100k", PrepareOptions(validation="random", validation_popularity_exponent=exponent)
        )[0]
        for exponent in (0.0, 1.0)
    )
    popularity = plain.popularity + np.bincount(plain.validation.positives, minlength=len(plain.items))
    assert (
        popularity[corrected.validation.positives].mean()
        < 0.8 * popularity[plain.validation.positives].mean()
    )
    assert corrected.description["split"]["validation"].endswith("by popularity to the power of -1")


def test_unknown_catalogue_name() -> None:
    with pytest.raises(
        ConfigError, match=r"There is no data set 'ml-2m' in the catalogue: it has ml-1m, ml-100k"
    ):
        prepare_catalog("ml-2m")


def test_nothing_is_held_out(events: Path) -> None:
    dataset, report = prepare_file(events, PrepareOptions(split="none"))
    assert (len(dataset.train), len(dataset.test), len(dataset.validation)) == (400, 0, 0)
    assert any("nothing is held out" in line for line in report.lines())
    dataset, _ = prepare_file(events, PrepareOptions(split="none", validation="last", negatives=5))
    assert (len(dataset.test), len(dataset.validation)) == (0, 40)


def test_the_report_tells_what_was_not_used(write: Write) -> None:
    rows = [f"{user},{item},{'' if item else 5},x" for user in range(4) for item in range(user, user + 4)]
    path = write("a.csv", "user,item,score,date\n" + "\n".join(rows) + "\n")
    _, report = prepare_file(path, PrepareOptions(negatives=1, split="random"))
    left_out = [line for line in report.lines() if line.startswith("left out")]
    assert left_out == [
        "left out  rating = score, which only --min-rating needs",
        "left out  time = date, which 16 rows lack or write otherwise",
    ]
    with pytest.raises(DataError, match=r"The time \(column 'date'\) is 'x' in line 2"):
        prepare_file(path, PrepareOptions(negatives=1))


def test_equal_times_are_counted(write: Write) -> None:
    rows = [f"{user},{item},7" for user in range(30) for item in range(user, user + 5)]
    path = write("a.csv", "user,item,time\n" + "\n".join(rows) + "\n")
    dataset, report = prepare_file(path, PrepareOptions(negatives=1))
    assert any("30 users have several items at their latest time" in line for line in report.lines())
    last = np.array([dataset.known.row(user)[-1] for user in range(30)])
    assert 0 < (dataset.test.positives == last).sum() < 15
