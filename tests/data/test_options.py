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
        ({"repeats": "first"}, "--repeats must be one of latest, sum, not 'first'"),
        ({"event_weights": {"view": 1}}, "what types of events weigh: name their column with --event"),
        ({"event": "e", "event_weights": {"view": -1}}, "view=-1 must be a number of 0 or more"),
        ({"event": "e", "event_weights": {"view": float("inf")}}, "view=inf must be a number of 0 or more"),
        ({"event": "e", "event_weights": {"view": 0.0}}, "Every --event-weight is 0, which leaves no row"),
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


def test_weights_of_events_from_text() -> None:
    read = read_options({"event": "type", "event_weights": "purchase=3,a=b=0.5"})
    assert read["event_weights"] == {"purchase": 3.0, "a=b": 0.5}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("view", "--event-weight view is not TYPE=NUMBER, such as purchase=3"),
        ("=1", "--event-weight =1 is not TYPE=NUMBER"),
        ("view=many", "--event-weight view=many is not TYPE=NUMBER"),
        ("view=1,view=2", "--event-weight gives 'view' two weights"),
    ],
)
def test_weights_of_events_that_cannot_be_read(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_options({"event": "type", "event_weights": text})


def test_a_column_is_named_or_left_out() -> None:
    with pytest.raises(ConfigError, match="--time names a column and --no-time leaves it out"):
        PrepareOptions(time="t", no_time=True)
