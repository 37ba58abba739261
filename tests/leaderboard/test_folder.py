"""The folder of a leaderboard belongs to one process and one data set, and is never somebody else's."""

from pathlib import Path

import pytest

from ncf.errors import ConfigError, StorageError
from ncf.leaderboard.folder import claimed


def test_a_folder_with_other_files_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with (
            pytest.raises(StorageError, match="holds other files"),
            claimed(tmp_path, "made-up", "a", overwrite),
        ):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_second_process_waits_its_turn_elsewhere(tmp_path: Path) -> None:
    with (
        claimed(tmp_path, "made-up", "a", False),
        pytest.raises(StorageError, match="Another 'ncf leaderboard'"),
        claimed(tmp_path, "made-up", "a", False),
    ):
        pass


def test_other_data_are_refused_until_asked_to_begin_anew(tmp_path: Path) -> None:
    with claimed(tmp_path / "board", "made-up", "a", False):
        (tmp_path / "board" / "kept.json").write_text("{}")
    with (
        pytest.raises(ConfigError, match="about other data"),
        claimed(tmp_path / "board", "other", "b", False),
    ):
        pass
    assert (tmp_path / "board" / "kept.json").is_file()
    with claimed(tmp_path / "board", "other", "b", True):
        assert not (tmp_path / "board" / "kept.json").is_file()
