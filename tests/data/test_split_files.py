"""A published split of two files: both layouts, the validation hold-out, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.data import Dataset, PrepareOptions, prepare_split_files
from ncf.data.interactions import Interactions
from ncf.data.splits import hold_out_share
from ncf.errors import ConfigError, DataError

TRAIN = "0 10 11 12 13 14\n1 10 20\n2 11 12 13 14 15 16 17\n"
TEST = "0 15 16\n1 11\n2 \n"


def files(folder: Path, train: str = TRAIN, test: str = TEST, ending: str = "txt") -> tuple[Path, Path]:
    paths = folder / f"made.train.{ending}", folder / f"made.test.{ending}"
    for path, text in zip(paths, (train, test), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def pairs(dataset: Dataset, stage: str) -> set[tuple[object, object]]:
    held_out = dataset.test if stage == "test" else dataset.validation
    rows = (dataset.train.user_rows, dataset.train.item_rows)
    users, items = rows if stage == "train" else (held_out.user_rows, held_out.positives)
    return set(zip(dataset.users.ids_of(users).tolist(), dataset.items.ids_of(items).tolist(), strict=True))


def test_lines(tmp_path: Path) -> None:
    dataset, report = prepare_split_files(*files(tmp_path))
    assert pairs(dataset, "test") == {(0, 15), (0, 16), (1, 11)}
    assert pairs(dataset, "train") | pairs(dataset, "validation") == {
        (user, item)
        for user, items in ((0, range(10, 15)), (1, (10, 20)), (2, range(11, 18)))
        for item in items
    }
    assert not dataset.test.has_lists
    assert not dataset.validation.has_lists
    assert dataset.name == "made"
    assert dataset.description["protocol"] == "full ranking"
    assert "protocol  full ranking: test and validation have no candidate lists" in report.lines()
    assert not any(line.startswith("audit") for line in report.lines())


def test_a_share_of_each_user_is_validation_and_small_users_keep_theirs(tmp_path: Path) -> None:
    dataset, report = prepare_split_files(*files(tmp_path))
    users = dataset.users.ids_of(dataset.validation.user_rows).tolist()
    assert sorted(users) == [0, 2]  # of 5 and 7 items one each, of 2 none
    assert any("random 10% of each user's items, rounded half up" in line for line in report.lines())
    assert "          1 users have too few items for that and stay in training whole" in report.lines()
    without = prepare_split_files(*files(tmp_path), PrepareOptions(validation="none"))[0]
    assert len(without.validation) == 0
    other = prepare_split_files(*files(tmp_path), PrepareOptions(seed=3))[0]
    assert pairs(other, "validation") != pairs(dataset, "validation")


def test_all_layouts_give_the_same_data(tmp_path: Path) -> None:
    wanted = prepare_split_files(*files(tmp_path))[0].digest
    tables = [
        "user,item\n"
        + "".join(f"{line.split()[0]},{item}\n" for line in text.splitlines() for item in line.split()[1:])
        for text in (TRAIN, TEST)
    ]
    assert prepare_split_files(*files(tmp_path, *tables, "csv"))[0].digest == wanted
    packed = []
    for path in files(tmp_path, TRAIN.replace(" ", "\t"), f"\n{TEST.replace(' ', '  ')}\n\n"):
        packed.append(path.with_suffix(".txt.gz"))
        packed[-1].write_bytes(gzip.compress(path.read_bytes()))
    assert prepare_split_files(*packed)[0].digest == wanted
    named = [path.rename(path.with_suffix(".list")) for path in files(tmp_path)]
    assert prepare_split_files(*named)[0].digest == wanted
    assert (
        prepare_split_files(*files(tmp_path, ending="csv"), PrepareOptions(format="lines"))[0].digest
        == wanted
    )


def test_a_saved_folder_opens_again(tmp_path: Path) -> None:
    dataset, _ = prepare_split_files(*files(tmp_path))
    dataset.save(tmp_path / "data")
    again = Dataset.open(tmp_path / "data", verify="full")
    assert again.digest == dataset.digest
    assert not again.test.has_lists
    included = again.with_validation_in_training()
    assert len(included.train) == len(dataset.train) + len(dataset.validation)


def test_ids_of_either_file_may_be_text(tmp_path: Path) -> None:
    paths = files(tmp_path, "7 1 2\n8 1 3\n", "7 007\n8 2\n")
    dataset, _ = prepare_split_files(*paths, PrepareOptions(validation="none"))
    assert dataset.users.kind == "integer"
    assert pairs(dataset, "test") == {(7, "007"), (8, "2")}


def test_users_and_items_of_the_test_alone_stay_cold(tmp_path: Path) -> None:
    paths = files(tmp_path, test="0 15 99\n77 10 11\n78 10\n")
    dataset, report = prepare_split_files(*paths)
    assert {user for user, _ in pairs(dataset, "test")} == {0, 77, 78}
    assert "cold      2 test users without a training interaction, kept" in report.lines()
    assert "cold      1 items without a training interaction" in report.lines()
    dropped, report = prepare_split_files(*paths, PrepareOptions(drop_unknown_users=True))
    assert pairs(dropped, "test") == {(0, 15), (0, 99)}
    assert dropped.description["dropped"]["unknown_test_users"] == 2
    assert "cold_users" not in dropped.description["split"]


def test_repeated_pairs_count_once(tmp_path: Path) -> None:
    paths = files(tmp_path, "0 1 2 2\n1 1 3\n", "0 3 3 1\n1 2\n")
    dataset, _ = prepare_split_files(*paths, PrepareOptions(validation="none"))
    assert pairs(dataset, "test") == {(0, 3), (0, 1), (1, 2)}
    assert len(dataset.test) == 3
    dropped = dataset.description["dropped"]
    assert (dropped["duplicates"], dropped["test_duplicates"], dropped["test_positives_in_train"]) == (
        1,
        1,
        1,
    )


def test_times_of_a_table_choose_the_latest_for_validation(tmp_path: Path) -> None:
    train = "user,item,time\n" + "".join(f"{user},{item},{item}\n" for user in (1, 2) for item in range(6))
    dataset, _ = prepare_split_files(*files(tmp_path, train, "user,item\n1,9\n2,8\n", "csv"))
    assert pairs(dataset, "validation") == {(1, 5), (2, 5)}


@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        ("1 10 5 880\n1 11 4 881\n2 10 3 882\n", TEST, "looks like a table: each line has 4 fields"),
        (TRAIN, "user item\n1 2\n2 3\n", "The first line of .*made.test.txt looks like names of columns"),
        ("0\n1\n", TEST, "has no rows"),
        ("", TEST, "is empty"),
        ("0 1\n", "0 2\n", "only one user"),
        ("0 1 2\n1 2 3\n", "0 3\n1 4\n", "use --validation none"),
    ],
)
def test_what_is_refused(tmp_path: Path, train: str, test: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        prepare_split_files(*files(tmp_path, train, test))


def test_options_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--min-user cannot be used with a published split"):
        prepare_split_files(*files(tmp_path), PrepareOptions(min_user=5))
    with pytest.raises(ConfigError, match="--negatives cannot be used with --test"):
        prepare_split_files(*files(tmp_path), PrepareOptions(negatives=50))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    train, test = files(tmp_path)
    packed = tmp_path / "made.train.txt.gz"
    packed.write_bytes(gzip.compress(train.read_bytes())[:-9])
    with pytest.raises(DataError, match="made.train.txt.gz"):
        prepare_split_files(packed, test)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6),
    st.floats(0.01, 0.99),
    st.sampled_from(["last", "random"]),
)
def test_shares(counts: list[int], share: float, scheme: str) -> None:
    users = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    times = np.random.default_rng(1).integers(0, 9, len(users)).astype(np.int64)
    rows = Interactions(users, np.arange(len(users), dtype=np.int32), times)
    at = hold_out_share(rows, len(counts), scheme, share, np.random.default_rng(0))
    taken = np.bincount(users[at], minlength=len(counts)).tolist()
    assert taken == [min(int(count * share + 0.5), max(count - 1, 0)) for count in counts]
    if scheme == "last":
        rest = np.setdiff1d(np.arange(len(users)), at)
        for user in range(len(counts)):
            own, left = times[at[users[at] == user]], times[rest[users[rest] == user]]
            assert not len(own) or not len(left) or own.min() >= left.max()
