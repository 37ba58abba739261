"""An experiment survives the way through SageMaker's strings, however toolkits wrap them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncf.config import Experiment
from ncf.errors import ConfigError
from ncf.sagemaker.container.hyperparameters import LONGEST, from_hyperparameters, to_hyperparameters

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
WHOLE = st.integers(1, 10_000)
REAL = st.floats(1e-6, 0.9)


def _some(choices: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=choices)


SINGLE = _some(
    {
        "name": NAMES | st.sampled_from(["5", "1e3", "true", "nan", "2020-01-01"]),
        "model": _some(
            {
                "kind": st.sampled_from(["gmf", "mlp", "neumf"]),
                "factors": WHOLE,
                "tower": st.lists(WHOLE, min_size=1, max_size=4),
                "dropout": REAL,
            }
        ),
        "train": _some(
            {
                "epochs": WHOLE,
                "learning_rate": REAL,
                "l2_gmf": st.just(0.0),
                "precision": st.sampled_from(["float32", "bfloat16"]),
                "device": st.sampled_from(["cpu", "cuda:1"]),
                "seed": st.integers(0, 2**40),
            }
        ),
        "evaluation": _some({"cutoffs": st.lists(WHOLE, min_size=1, max_size=3, unique=True)}),
    }
)


def _parsed(values: dict[str, Any]) -> Experiment | None:
    try:
        return Experiment.parse(values)
    except ConfigError:
        return None


EXPERIMENTS = SINGLE.map(_parsed).filter(lambda experiment: experiment is not None)


@given(EXPERIMENTS)
def test_there_and_back(experiment: Experiment) -> None:
    assert from_hyperparameters(to_hyperparameters(experiment)) == experiment


@given(EXPERIMENTS)
def test_there_and_back_with_each_value_wrapped_once_more(experiment: Experiment) -> None:
    wrapped = {name: json.dumps(value) for name, value in to_hyperparameters(experiment).items()}
    assert from_hyperparameters(wrapped) == experiment


@given(EXPERIMENTS)
def test_there_and_back_as_a_toolkit_decodes_and_prints_them(experiment: Experiment) -> None:
    """Names that look like a number lose their quotes on this way: the file that has them decides."""
    values = {name: json.dumps(value) for name, value in to_hyperparameters(experiment).items()}
    printed = {name: str(json.loads(value)) for name, value in values.items()}
    assert from_hyperparameters(printed) == experiment


def test_a_pretrained_recipe_fits() -> None:
    half = {"name": "half", "train": {"epochs": 3}}
    halves = {
        "gmf": half | {"model": {"kind": "gmf"}},
        "mlp": half | {"model": {"kind": "mlp", "tower": [64, 32, 16]}},
    }
    experiment = Experiment.parse({"model": {"kind": "neumf"}, "pretraining": halves})
    assert from_hyperparameters(to_hyperparameters(experiment)) == experiment


def test_only_what_differs_from_the_defaults_travels_and_never_the_data() -> None:
    experiment = Experiment.parse({"data": {"catalog": "ml-1m"}, "train": {"epochs": 3, "seed": 0}})
    assert to_hyperparameters(experiment) == {"train.epochs": "3"}


def test_what_sagemaker_would_refuse_is_refused_here() -> None:
    experiment = Experiment.parse({"model": {"tower": [1] * LONGEST}})
    with pytest.raises(ConfigError, match="2500 characters"):
        to_hyperparameters(experiment)


def test_names_of_toolkits_are_passed_over_and_others_refused() -> None:
    toolkit = {"sagemaker_program": '"train.py"', "_tuning_objective_metric": "validation_ndcg@10"}
    assert from_hyperparameters(toolkit | {"train.epochs": "2"}).train.epochs == 2
    with pytest.raises(ConfigError, match="epoch"):
        from_hyperparameters({"epoch": "2"})
