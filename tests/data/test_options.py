from __future__ import annotations

from typing import Any

import pytest

from ncf.data.options import PrepareOptions, read_options
from ncf.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"split": "first"}, "--split must be one of last, random, time, none, not 'first'"),
        ({"validation": "yes"}, "--validation must be one of auto, last, random, none, not 'yes'"),
        ({"format": "xls"}, "--format must be one of csv, parquet, jsonl, movielens, lines, not 'xls'"),
        ({"delimiter": ""}, "--delimiter must not be empty"),
        ({"negatives": 0}, "--negatives must be 1 or more, not 0"),
        ({"min_user": 0}, "--min-user must be 1 or more"),
        ({"min_item": -1}, "--min-item must be 1 or more"),
        ({"seed": -1}, "--seed must be 0 or more"),
        (
            {"test_fraction": 0.6, "validation_fraction": 0.5},
            "fractions must be above 0 and together below 1",
        ),
        ({"test_fraction": 0.0}, "fractions must be above 0"),
    ],
)
def test_wrong_values(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PrepareOptions(**values)


def test_only_what_differs_is_described() -> None:
    assert PrepareOptions().as_json() == {}
    assert PrepareOptions(seed=3, user="who").as_json() == {"seed": 3, "user": "who"}


def test_column_names() -> None:
    assert PrepareOptions(time="ts", weight="w").columns.time == "ts"
    assert PrepareOptions(weight="w").columns.weight == "w"


def test_the_nearest_option_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"min_users is not an option of the preparation; did you mean min_user\?"
    ):
        read_options({"min_users": "5"})


def test_a_column_is_named_or_left_out() -> None:
    with pytest.raises(ConfigError, match="--time names a column and --no-time leaves it out"):
        PrepareOptions(time="t", no_time=True)
