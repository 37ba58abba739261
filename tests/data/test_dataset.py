from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from polars.testing import assert_frame_equal

from ncf.data import Dataset, PrepareOptions, prepare_catalog, prepare_file
from ncf.data import dataset as module
from ncf.data import folder as storage
from ncf.errors import DataError, StorageError

Write = Callable[[str, str], Path]


@pytest.fixture
def folder(dataset: Dataset, tmp_path: Path) -> Path:
    dataset.save(tmp_path / "prepared")
    return tmp_path / "prepared"


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "dataset.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_shapes_and_dtypes(dataset: Dataset) -> None:
    users, items = len(dataset.users), len(dataset.items)
    assert (users, items) == (40, 30)
    assert dataset.train.user_rows.dtype == dataset.train.item_rows.dtype == np.int32
    assert dataset.train.timestamps is not None
    assert dataset.train.timestamps.dtype == np.int64
    assert dataset.test.candidates.shape == (len(dataset.test), 6)
    assert dataset.test.candidates.dtype == dataset.validation.candidates.dtype == np.int32
    assert (dataset.known.offsets.shape, dataset.known.columns.dtype) == ((users + 1,), np.int32)
    assert (dataset.popularity.shape, dataset.popularity.dtype) == ((items,), np.int64)
    assert dataset.item_columns.columns[:2] == ["id", "popularity"]
    assert len(dataset.item_columns) == items


def test_opened_is_what_was_saved(dataset: Dataset, folder: Path) -> None:
    opened = Dataset.open(folder, verify="full")
    assert opened.name == dataset.name == "events"
    assert opened.digest == dataset.digest == module._digest(opened)
    assert opened.description == dataset.description
    assert opened.users.ids.tolist() == dataset.users.ids.tolist()
    assert opened.items.ids.tolist() == dataset.items.ids.tolist()
    assert_frame_equal(opened.item_columns, dataset.item_columns)
    for mine, theirs in zip(module._arrays(opened).items(), module._arrays(dataset).items(), strict=True):
        assert mine[0] == theirs[0]
        assert mine[1].dtype == theirs[1].dtype
        np.testing.assert_array_equal(mine[1], theirs[1])


def test_big_arrays_are_mapped(folder: Path) -> None:
    rows = Dataset.open(folder).train.item_rows
    assert isinstance(rows.base, np.memmap)
    assert rows.flags.writeable  # copy on write: torch takes it without a warning
    rows[0] += 1
    assert Dataset.open(folder).train.item_rows[0] == rows[0] - 1


def test_description_is_plain_json(dataset: Dataset) -> None:
    assert json.loads(json.dumps(dataset.description)) == dataset.description


def test_seen_before(dataset: Dataset) -> None:
    validation, test = dataset.seen_before("validation"), dataset.seen_before("test")
    assert validation.columns.tolist() == dataset.train.item_rows.tolist()
    assert not validation.contains(dataset.validation.user_rows, dataset.validation.positives).any()
    assert test.contains(dataset.validation.user_rows, dataset.validation.positives).all()
    assert not test.contains(dataset.test.user_rows, dataset.test.positives).any()
    assert len(test.columns) == len(dataset.known.columns) - len(dataset.test)


def test_validation_in_training(dataset: Dataset) -> None:
    final = dataset.with_validation_in_training()
    assert len(final.validation) == 0
    assert final.validation.candidates.shape == (0, 6)
    assert len(final.train) == len(dataset.train) + len(dataset.validation)
    assert final.popularity.sum() == len(final.train)
    assert final.digest != dataset.digest
    assert final.seen_in_training.contains(dataset.validation.user_rows, dataset.validation.positives).all()
    assert final.train.timestamps is not None
    assert len(final.train.timestamps) == len(final.train)
    assert final.test is dataset.test
    again = final.with_validation_in_training()
    assert again.digest == final.digest


def test_validation_in_training_of_an_opened_folder_saves_again(folder: Path, tmp_path: Path) -> None:
    final = Dataset.open(folder).with_validation_in_training()
    final.save(tmp_path / "final")
    assert Dataset.open(tmp_path / "final").digest == final.digest


def test_weights_survive(write: Write, tmp_path: Path) -> None:
    lines = "".join(f"{u},{i},{i},{u + i + 1}\n" for u in range(5) for i in range(4 + u % 2))
    options = PrepareOptions(weight="w", negatives=1, validation="random")
    path = write("a.csv", f"user,item,ts,w\n{lines}" + "9,7,1,1\n9,8,1,1\n")
    dataset, _ = prepare_file(path, options)
    dataset.save(tmp_path / "out")
    weights = Dataset.open(tmp_path / "out").train.weights
    assert weights is not None
    assert weights.dtype == np.float32
    assert len(weights) == len(dataset.train)
    final = dataset.with_validation_in_training().train.weights
    assert final is not None
    assert len(final) == len(dataset.train) + len(dataset.validation)


def test_save_replaces_a_prepared_folder(folder: Path) -> None:
    other, _ = prepare_catalog("ml-100k")
    other.save(folder)
    assert Dataset.open(folder).name == "ml-100k"
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_save_over_the_folder_it_was_opened_from(folder: Path) -> None:
    opened = Dataset.open(folder)
    opened.save(folder)
    assert Dataset.open(folder, verify="full").digest == opened.digest


@pytest.mark.parametrize("text", ["", "[]", '{"description": "of my own"}'])
def test_save_refuses_a_folder_of_others_with_a_file_of_that_name(
    dataset: Dataset, tmp_path: Path, text: str
) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(StorageError, match="is not a prepared data folder"):
        dataset.save(tmp_path)
    assert (tmp_path / "dataset.json").read_text() == text


def test_save_loses_no_file_that_was_added_to_a_prepared_folder(dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    dataset.save(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="holds other files too, such as notes.txt: move them"):
        dataset.save(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").unlink()
    dataset.save(folder)


def test_save_refuses_a_folder_with_other_files(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious.txt").write_text("mine")
    with pytest.raises(
        StorageError, match="holds other files and is not a prepared data folder: choose an empty"
    ):
        dataset.save(tmp_path / "home")
    assert (tmp_path / "home" / "precious.txt").read_text() == "mine"


def test_save_refuses_a_file(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StorageError, match="is a file, not a folder: choose another output folder"):
        dataset.save(tmp_path / "out")


def test_no_space_leaves_the_earlier_folder(
    dataset: Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage, "write_array", full)
    with pytest.raises(StorageError, match=r"There is no space left to write .*prepared: free some space"):
        dataset.save(folder)
    assert Dataset.open(folder, verify="full").digest == dataset.digest
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_open_refuses_other_folders(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            DataError, match=r"is not a prepared data folder .*make one with 'ncf prepare --input FILE"
        ):
            Dataset.open(folder)


def test_open_refuses_another_version(folder: Path) -> None:
    edit(folder, lambda document: document.update(schema_version=99))
    with pytest.raises(
        DataError, match="schema version 99 and this version of ncf reads 1: run 'ncf prepare' again"
    ):
        Dataset.open(folder)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"schema_version": 1}', '{"schema_version": 1, "files": []}']
)
def test_open_refuses_a_damaged_description(folder: Path, text: str) -> None:
    (folder / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r"The data folder .* is damaged: .*; run 'ncf prepare' again\."):
        Dataset.open(folder)


def test_open_refuses_a_missing_file(folder: Path) -> None:
    (folder / "train_items.npy").unlink()
    with pytest.raises(DataError, match=r"is damaged: train_items\.npy is missing"):
        Dataset.open(folder)


@pytest.mark.parametrize("verify", [True, False, "full"])
def test_open_refuses_a_truncated_file(folder: Path, verify: Any) -> None:
    path = folder / "test_candidates.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"test_candidates\.npy has [\d,]+ bytes instead of"):
        Dataset.open(folder, verify=verify)


@pytest.mark.parametrize("name", ["train_users.npy", "users.parquet", "items.parquet", "known_offsets.npy"])
def test_open_refuses_a_flipped_bit(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-5] ^= 1
    (folder / name).write_bytes(bytes(content))
    with pytest.raises(DataError, match=f"the content of {name} has changed"):
        Dataset.open(folder)


def test_big_files_are_read_only_when_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray((folder / "train_items.npy").read_bytes())
    content[-1] ^= 1
    (folder / "train_items.npy").write_bytes(bytes(content))
    monkeypatch.setattr(storage, "SMALL_FILE", 100)
    Dataset.open(folder)
    with pytest.raises(DataError, match="has changed"):
        Dataset.open(folder, verify="full")


def test_digest_depends_on_content_and_not_on_the_description(events: Path) -> None:
    first, again, other = (
        prepare_file(events, PrepareOptions(negatives=5, seed=seed), name)[0]
        for seed, name in ((0, "a"), (0, "b"), (1, "a"))
    )
    assert first.digest == again.digest
    assert first.digest != other.digest
