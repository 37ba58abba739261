from __future__ import annotations

import uuid
from decimal import Decimal

import polars as pl
import pytest

from ncf.data.values import (
    as_integer,
    as_integers,
    as_text,
    as_time,
    as_unified,
    bytes_as_text,
    gap_sentence,
    is_text,
    time_facts,
    time_written,
    unified,
)


@pytest.mark.parametrize(
    ("values", "written"),
    [
        (["1", "-2"], "integer"),
        (["1", "2.0"], "whole"),
        (["1", "2.5"], "float"),
        (["1e9"], "whole"),
        (["2024-01-31"], "%Y-%m-%d"),
        (["2024-01-31 10:00:00"], "%Y-%m-%d %H:%M:%S%.f"),
        (["2024-01-31T10:00:00+02", "2024-01-31T10:00:00.5Z"], "%Y-%m-%dT%H:%M:%S%.f%#z"),
        (["2024-01-31", "2024-01-31 10:00"], "iso"),
        (["2024-01-31", "2024-02-01", "7"], "%Y-%m-%d"),
        (["yesterday"], "integer"),
        ([], "integer"),
    ],
)
def test_time_written(values: list[str], written: str) -> None:
    facts = pl.DataFrame({"t": pl.Series(values, dtype=pl.String)}).select(time_facts(pl.col("t")))
    assert time_written(facts.row(0, named=True)) == written


ISO = [
    ("1970-01-02", 86_400_000_000),
    ("1970/1/2 00:00", 86_400_000_000),
    ("1970-01-01T00:00:01.5Z", 1_500_000),
    ("1970-01-01 02:00:00+02:00", 0),
    ("1970-01-01T00:00:00.123456789 UTC", 123_456),
    ("1969-12-31T19:30:00-0530", 3_600_000_000),
    ("1970-01-01 00:00:00+00", 0),
    ("1970-02-30", None),
    ("1970-01-01T24:00:00", None),
    ("01.02.1970", None),
]


@pytest.mark.parametrize(
    ("value", "written", "expected"),
    [
        ("12", "integer", 12),
        ("12.0", "whole", 12),
        ("12.5", "whole", None),
        ("12.5", "float", 12_500_000),
        ("inf", "float", None),
        ("1970-01-02", "%Y-%m-%d", 86_400_000_000),
        ("1970-01-01T02:00:01.5+0200", "%Y-%m-%dT%H:%M:%S%.f%#z", 1_500_000),
        ("x", "integer", None),
        ("x", "float", None),
        ("x", "%Y-%m-%d", None),
        *((text, "iso", moment) for text, moment in ISO),
    ],
)
def test_as_time(value: str, written: str, expected: int | None) -> None:
    result = pl.DataFrame({"t": [value]}).select(as_time(pl.col("t"), written))
    assert result.dtypes == [pl.Int64]
    assert result.item() == expected


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
        (str(2**63), True),
    ],
)
def test_is_text(value: str, text: bool) -> None:
    frame = pl.DataFrame({"id": [value]})
    assert frame.select(is_text(pl.col("id"), pl.String())).item() is text
    if not text:
        assert frame.select(as_integer(pl.col("id"), pl.String())).item() == int(value)


@pytest.mark.parametrize(
    ("values", "dtype", "integers", "texts"),
    [
        ([1.0, 2.5, float("nan")], pl.Float64(), [1, None, None], None),
        ([7, 2**64 - 1], pl.UInt64(), [7, None], ["7", str(2**64 - 1)]),
        ([Decimal(7), Decimal("2.5")], pl.Decimal(38, 10), [7, None], ["7", None]),
        ([Decimal(2**63)], pl.Decimal(38, 10), [None], [str(2**63)]),
        ([True], pl.Boolean(), [None], ["true"]),
    ],
)
def test_ids_of_a_type(
    values: list[object], dtype: pl.DataType, integers: list[int | None], texts: list[str | None] | None
) -> None:
    frame, column = pl.DataFrame({"id": pl.Series(values, dtype=dtype)}), pl.col("id")
    assert frame.select(as_integer(column, dtype)).to_series().to_list() == integers
    wide = [
        number is None and texts is not None and texts[n] is not None for n, number in enumerate(integers)
    ]
    assert frame.select(column.is_not_null() & is_text(column, dtype)).to_series().to_list() == wide
    if texts is not None:
        assert frame.select(as_text(column, dtype)).to_series().to_list() == texts


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["7", "7.0", "-2.00"], [7, 7, -2]),
        (["1.0", f"{2**64}.0"], ["1", str(2**64)]),
        (["1.0", "1.1"], None),
        (["007.0"], None),
        (["-0"], None),
    ],
)
def test_decimals_of_whole_value(texts: list[str], expected: list[object] | None) -> None:
    found = as_integers(pl.Series(texts))
    assert (None if found is None else found.to_list()) == expected


def test_bytes() -> None:
    ids = [uuid.UUID(int=n << 100 | 0xFF) for n in range(3)]
    columns = {"uuid": [id.bytes for id in ids], "text": ["é".encode(), b"b", b"c"], "other": [b"\xff"] * 3}
    frame = pl.DataFrame(columns)
    for name, expected in (("uuid", list(map(str, ids))), ("text", ["é", "b", "c"])):
        expression = bytes_as_text(frame[name])
        assert expression is not None
        assert frame.select(expression).to_series().to_list() == expected
    assert bytes_as_text(frame["other"]) is None


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ([pl.Int32(), pl.Int64()], pl.Int64()),
        ([pl.UInt64(), pl.Int64()], pl.String()),
        ([pl.String(), pl.Float64()], pl.String()),
        ([pl.Date(), pl.Datetime("ms", "UTC")], pl.Datetime("us")),
        ([pl.Date(), pl.String()], pl.String()),
        ([pl.String(), pl.List(pl.Int64)], pl.List(pl.Null)),
    ],
)
def test_unified(dtypes: list[pl.DataType], expected: pl.DataType) -> None:
    assert unified(dtypes) == expected
    for dtype in dtypes:
        cast = pl.DataFrame({"v": pl.Series([], dtype=dtype)}).select(
            as_unified(pl.col("v"), dtype, expected)
        )
        assert cast.dtypes == [expected]


def test_whole_floats_become_the_text_of_their_integers() -> None:
    frame = pl.DataFrame({"v": [7.0, 1e16, 2.5]}).select(as_unified(pl.col("v"), pl.Float64(), pl.String()))
    assert frame.to_series().to_list() == ["7", "10000000000000000", "2.5"]


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
