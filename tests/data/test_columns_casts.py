from __future__ import annotations

import polars as pl
import pytest

from ncf.data.columns import as_integer, as_time, gap_sentence, has_fractions, is_text, time_format


@pytest.mark.parametrize(
    ("values", "written"),
    [
        (["1", "-2"], "integer"),
        (["1.0", "2.5"], "float"),
        (["1e9"], "float"),
        (["2024-01-31"], "%Y-%m-%d"),
        (["2024-01-31 10:00:00"], "%Y-%m-%d %H:%M:%S%.f"),
        (["2024-01-31T10:00:00.25Z"], "%Y-%m-%dT%H:%M:%S%.fZ"),
        (["yesterday"], "integer"),
        ([], "integer"),
    ],
)
def test_time_format(values: list[str], written: str) -> None:
    assert time_format(pl.Series(values, dtype=pl.String)) == written


@pytest.mark.parametrize(
    ("value", "written", "expected"),
    [
        ("12", "integer", 12),
        ("12.0", "whole", 12),
        ("12.5", "float", 12_500_000),
        ("1970-01-02", "%Y-%m-%d", 86_400_000_000),
        ("1970-01-01T00:00:01.5Z", "%Y-%m-%dT%H:%M:%S%.fZ", 1_500_000),
        ("x", "integer", None),
        ("x", "float", None),
        ("x", "%Y-%m-%d", None),
    ],
)
def test_as_time(value: str, written: str, expected: int | None) -> None:
    result = pl.DataFrame({"t": [value]}).select(as_time(pl.col("t"), written))
    assert result.dtypes == [pl.Int64]
    assert result.item() == expected


def test_has_fractions() -> None:
    frame = pl.DataFrame({"whole": ["1.0", "2"], "half": ["1", "2.5"]})
    assert frame.select(has_fractions(pl.col("whole")), has_fractions(pl.col("half"))).row(0) == (False, True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("12", False),
        ("-3", False),
        ("0", False),
        ("007", True),
        ("+1", True),
        ("-0", True),
        ("a", True),
        ("1.5", True),
    ],
)
def test_is_text(value: str, text: bool) -> None:
    frame = pl.DataFrame({"id": [value]})
    assert frame.select(is_text(pl.col("id"), pl.String())).item() is text
    if not text:
        assert frame.select(as_integer(pl.col("id"), pl.String())).item() == int(value)


def test_whole_floats_are_integers() -> None:
    frame = pl.DataFrame({"id": [1.0, 2.5, float("nan")]})
    assert frame.select(as_integer(pl.col("id"), pl.Float64())).to_series().to_list() == [1, None, None]


@pytest.mark.parametrize(
    ("raw", "part"),
    [(None, "is missing in line 3"), (float("nan"), "is NaN in"), ("x", "where a number is expected")],
)
def test_gap_sentence(raw: object, part: str) -> None:
    assert part in gap_sentence("rating", "stars", raw, "line 3 of a.csv", 2)


def test_gap_sentence_of_a_negative_time() -> None:
    sentence = gap_sentence("time", "ts", -3, "line 3 of a.csv", 1, negative=True)
    assert sentence == (
        "The time (column 'ts') is -3 in line 3 of a.csv (1 row in all), which is before 0 or 1970: "
        "correct or remove those rows."
    )
