"""What a person reads of an error."""

from ncf.errors import ConfigError
from ncf.serving.schemas import ApiError


def test_a_long_sentence_keeps_its_beginning_and_its_remedy() -> None:
    columns = ", ".join(f"column {number} 日本" for number in range(10_000))
    sentence = f"The table has no users: its columns are {columns}: name the right one with --user."
    for error in (ConfigError(sentence), ApiError(400, "invalid", sentence)):
        assert str(error).startswith("The table has no users: its columns are column 0 日本, ")
        assert " … " in str(error)
        assert str(error).endswith(": name the right one with --user.")
        assert len(str(error).encode()) < 4_000
