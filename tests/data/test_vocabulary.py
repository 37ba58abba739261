from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.data.vocabulary import Vocabulary, encode
from ncf.errors import DataError


def test_rows_shape_and_dtype() -> None:
    rows = Vocabulary.build([30, 10, 20, 10]).rows([10, 99, 30])
    assert rows.shape == (3,)
    assert rows.dtype == np.int32
    assert rows.tolist() == [0, -1, 2]


def test_integers_are_sorted_int64() -> None:
    vocabulary = Vocabulary.build([30, 10, 20, 10])
    assert vocabulary.kind == "integer"
    assert vocabulary.ids.dtype == np.int64
    assert vocabulary.ids.tolist() == [10, 20, 30]
    assert len(vocabulary) == 3


def test_a_mixture_becomes_strings() -> None:
    vocabulary = Vocabulary.build([7, "a", "b"])
    assert vocabulary.kind == "string"
    assert vocabulary.ids.tolist() == ["7", "a", "b"]
    assert vocabulary.row(7) == 0
    assert vocabulary.row("7") == 0


@pytest.mark.parametrize(
    ("asked", "row"),
    [(42, 1), ("42", 1), (np.int32(42), 1), (42.0, 1), ("042", -1), ("+42", -1), (" 42", -1), ("42.0", -1),
     ("", -1), ("x", -1), (None, -1), (42.5, -1), (float("nan"), -1),
     (True, -1), (10**30, -1), ("9" * 30, -1), ("-5", 0), (-5, 0)],
)  # fmt: skip
def test_integer_vocabulary_finds_only_canonical_forms(asked: object, row: int) -> None:
    assert Vocabulary.build([-5, 42]).row(asked) == row


@pytest.mark.parametrize(("asked", "row"), [("007", 0), (7, 1), ("7", 1), ("é", 2), (None, -1), ("", -1)])
def test_string_vocabulary_keeps_leading_zeros(asked: object, row: int) -> None:
    assert Vocabulary.build(["é", "007", "7"]).row(asked) == row


def test_mixed_query() -> None:
    assert Vocabulary.build([1, 2, 3]).rows(["3", 1, "x", 2.0]).tolist() == [2, 0, -1, 1]


def test_large_queries_agree_with_a_dictionary() -> None:
    generator = np.random.default_rng(0)
    for spread in (5_000, 10**15):
        ids = np.unique(generator.integers(-spread, spread, 3_000))
        asked = np.concatenate([ids, generator.integers(-2 * spread, 2 * spread, 5_000)])
        row_of = {int(id): row for row, id in enumerate(ids)}
        expected = [row_of.get(int(id), -1) for id in asked]
        assert Vocabulary(ids).rows(asked).tolist() == expected
        assert Vocabulary(ids).rows(pl.Series(asked)).tolist() == expected


@pytest.mark.parametrize("empty", [[], np.zeros(0, np.int64), np.zeros(0, object)])
def test_empty_query(empty: object) -> None:
    rows = Vocabulary.build([1, 2]).rows(empty)  # type: ignore[arg-type]
    assert rows.shape == (0,)
    assert rows.dtype == np.int32


def test_empty_vocabulary_knows_nothing() -> None:
    assert Vocabulary.build([]).rows([1, "a"]).tolist() == [-1, -1]


def test_ids_of_keeps_the_shape_and_refuses_unknown_rows() -> None:
    vocabulary = Vocabulary.build(["a", "b"])
    assert vocabulary.ids_of([[1, 0]]).tolist() == [["b", "a"]]
    with pytest.raises(IndexError):
        vocabulary.ids_of([-1])


ids = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=12),
    st.lists(st.text(max_size=5), min_size=1, max_size=6),
    st.lists(st.one_of(st.integers(-9, 9), st.text("ab0", max_size=2)), min_size=1, max_size=9),
)


@given(ids)
def test_round_trip(values: list[int | str]) -> None:
    vocabulary = Vocabulary.build(values)
    rows = vocabulary.rows(values)
    assert [str(id) for id in vocabulary.ids_of(rows)] == [str(value) for value in values]
    assert len(vocabulary) == len(set(map(str, values)))
    assert vocabulary.rows(vocabulary.ids).tolist() == list(range(len(vocabulary)))


queries = st.one_of(
    st.integers(-(2**70), 2**70),
    st.text("-+0123456789. x\n", max_size=22),
    st.floats(),
    st.none(),
    st.booleans(),
)


@given(st.lists(queries, max_size=5), st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5))
def test_few_and_many_ids_are_found_alike(asked: list[object], known: list[int]) -> None:
    vocabulary = Vocabulary.build([*known, 0, 7])
    asked = [*asked, *map(str, known), *known]
    many = vocabulary.rows([*asked, *([7] * 300)])[: len(asked)]
    assert vocabulary.rows(asked).tolist() == many.tolist()


def test_encode_shape_and_dtype() -> None:
    vocabulary, rows = encode(pl.Series([5, 3, 5]), "user")
    assert rows.dtype == np.int32
    assert rows.tolist() == [1, 0, 1]
    assert vocabulary.ids.tolist() == [3, 5]


@given(st.lists(st.text("abc019-", min_size=1, max_size=4), min_size=1, max_size=12))
def test_encode_text_keeps_every_id(texts: list[str]) -> None:
    vocabulary, rows = encode(pl.Series(texts), "user")
    assert [str(id) for id in vocabulary.ids_of(rows)] == texts


def test_text_that_is_integers_throughout_is_an_integer_vocabulary() -> None:
    assert encode(pl.Series(["10", "9", "-1"]), "user")[0].ids.tolist() == [-1, 9, 10]
    assert encode(pl.Series(["10", "09"]), "user")[0].kind == "string"
    assert encode(pl.Series([str(2**63 - 1)]), "user")[0].row(str(2**63 - 1)) == 0
    assert encode(pl.Series([str(2**63)]), "user")[0].kind == "string"


@pytest.mark.parametrize("missing", ["NaN", "null", "None", ""])
def test_missing_ids_are_refused(missing: str) -> None:
    with pytest.raises(
        DataError, match=rf"column 'user' has rows whose id is '{missing}': remove those rows"
    ):
        encode(pl.Series(["a", missing]), "user")


def test_null_ids_are_refused() -> None:
    with pytest.raises(DataError, match="has 1 rows without an id"):
        encode(pl.Series([1, None]), "user")
