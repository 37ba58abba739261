"""Names that SageMaker admits."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.errors import ConfigError
from ncf.sagemaker.names import LONGEST, checked, new_name

NOW = datetime(2026, 11, 24, 17, 30, 12, 123456, UTC)
SAGEMAKERS = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
"""The pattern of TrainingJobName in the API reference."""


def test_it_reads_project_recipe_time() -> None:
    assert new_name("ncf", "ml-1m-neumf", now=NOW) == "ncf-ml-1m-neumf-20261124-173012-123"


@given(st.lists(st.text(max_size=80), max_size=4))
def test_every_name_is_admitted_and_keeps_its_time(parts: list[str]) -> None:
    name = new_name(*parts, now=NOW)
    assert re.fullmatch(SAGEMAKERS, name)
    assert name.endswith("20261124-173012-123")
    assert checked(name, "Job") == name


def test_names_a_millisecond_apart_differ_and_sort_by_time() -> None:
    later = NOW.replace(microsecond=124456)
    assert new_name("a", now=NOW) < new_name("a", now=later)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "ä", "a" * (LONGEST + 1), "a b", "a\n"])
def test_what_sagemaker_refuses_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not possible in SageMaker: use letters, digits and hyphens"):
        checked(name, "The job")


@pytest.mark.parametrize("name", ["a", "a--b", "A1", "a" * LONGEST])
def test_what_sagemaker_takes_is_taken(name: str) -> None:
    assert checked(name, "The job") == name
