"""Spaces: what a file says, and the sentence for what it cannot say."""

from pathlib import Path
from typing import Any

import pytest

from ncf.config import Experiment
from ncf.errors import ConfigError
from ncf.tuning import Parameter, Space

ROOT = Path(__file__).parents[2]


def refused(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        Space.parse(values, "space.toml")
    return str(caught.value)


def test_the_kind_of_a_range_is_that_of_its_setting() -> None:
    space = Space.parse(
        {
            "train.learning_rate": {"low": 1e-4, "high": 1, "log": True},
            "model.factors": {"values": [8, 16]},
            "train.epochs": {"low": 4, "high": 20, "step": 4},
        }
    )
    assert list(space) == [
        Parameter("train.learning_rate", "float", 1e-4, 1.0, log=True),
        Parameter("model.factors", "categorical", values=(8, 16)),
        Parameter("train.epochs", "integer", 4, 20, step=4),
    ]
    assert isinstance(space.parameters[0].high, float)


def test_tables_and_dotted_names_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('"train.epochs" = { low = 1, high = 3 }\n')
    (tmp_path / "b.toml").write_text("[train]\nepochs = { low = 1, high = 3 }\n")
    assert Space.load(tmp_path / "a.toml") == Space.load(tmp_path / "b.toml")


def test_every_value_of_the_example_is_admitted_by_a_recipe() -> None:
    space = Space.load(ROOT / "recipes" / "spaces" / "default.toml")
    for end in (0, -1):
        values = {p.name: p.values[end] if p.values else (p.low, p.high)[end] for p in space}
        chosen = Experiment.load(ROOT / "recipes" / "default.toml", space.overrides(values))
        assert chosen.model.tower == tuple(values["model.tower"])
        assert chosen.train.l2_gmf == values["train.l2_gmf"]


def test_texts_and_lists_become_overrides_that_are_read_back() -> None:
    space = Space.parse({"train.loss": {"values": ["bce", "bpr"]}, "model.tower": {"values": [[8], [16, 8]]}})
    experiment = Experiment.parse({}, space.overrides({"train.loss": "bpr", "model.tower": [16, 8]}))
    assert (experiment.train.loss, experiment.model.tower) == ("bpr", (16, 8))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "no settings to search"),
        ({"train.lr": {"low": 1, "high": 2}}, "train.lr is not a setting"),
        ({"data.path": {"values": ["x"]}}, "data.path is not a setting"),
        ({"name": {"values": ["x"]}}, "name is not a setting"),
        ({"train.seed": {"low": 1, "high": 2}}, "train.seed is not searched over"),
        ({"train.epochs": {"low": 5, "high": 2}}, "low is 5 and high is 2"),
        ({"train.epochs": {"low": 0.5, "high": 2}}, "valid integer"),
        ({"train.epochs": {"low": 1, "high": True}}, "True is not a number"),
        ({"train.epochs": {"low": -1, "high": 2}}, "greater than or equal to 0"),
        ({"train.epochs": 3}, "takes { low = …"),
        ({"train.epochs": {"low": 3}}, "takes { low = …"),
        ({"train.epochs": {"low": 1, "high": 2, "hgih": 3}}, "'hgih'"),
        ({"train.epochs": {"low": 1, "high": 10, "step": 4}}, "set high to 9"),
        ({"train.epochs": {"low": 1, "high": 2, "step": 0.5}}, "its step 0.5 is not"),
        ({"train.epochs": {"low": 1, "high": 3, "step": -1}}, "step must be a number above zero"),
        ({"train.epochs": {"low": 1, "high": 4, "log": True, "step": 1}}, "leave out log or step"),
        ({"train.warmup": {"low": 0, "high": 0.5, "log": True}}, "must start above zero"),
        ({"train.warmup": {"low": 0, "high": 0.5, "log": "yes"}}, "true or false"),
        ({"train.learning_rate": {"low": 0, "high": 1}}, "greater than 0"),
        ({"train.loss": {"low": 1, "high": 2}}, "is not a number"),
        ({"train.loss": {"values": ["bce", "hinge"]}}, "'hinge'"),
        ({"train.loss": {"values": []}}, "at least one value"),
        ({"train.epochs": {"values": [1], "low": 1, "high": 2}}, "keep one of the two"),
        ({"train.epochs": {"values": [2, 2]}}, "a value is given twice"),
        ({"train.epochs": {"values": [2]}, "train": {"epochs": {"values": [3]}}}, "is given twice"),
        ({"pretraining.gmf.model.kind": {"values": ["mlp"]}}, "is not a setting"),
    ],
)
def test_a_mistake_is_one_sentence(values: dict[str, Any], words: str) -> None:
    sentence = refused(values)
    assert words in sentence
    assert sentence.startswith("space.toml")
    assert "\n" not in sentence


def test_a_file_that_is_missing_or_no_toml_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"There is no space file .* of the package \(default\)"):
        Space.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 3")
    with pytest.raises(ConfigError, match="is not valid"):
        Space.load(tmp_path / "bad.toml")


def test_the_package_has_a_space_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "train.learning_rate" in {parameter.name for parameter in Space.load("default").parameters}
    Path("default").write_text("[train.epochs]\nvalues = [2]\n")
    assert [parameter.name for parameter in Space.load("default").parameters] == ["train.epochs"], "its own"


def test_a_half_of_pretraining_is_searched_only_where_there_is_one() -> None:
    space = Space.parse(
        {"pretraining.gmf.train.epochs": {"low": 1, "high": 3}, "pretraining.alpha": {"values": [0.3, 0.5]}}
    )
    with pytest.raises(ConfigError, match=r"no \[pretraining\] table"):
        space.check(Experiment.load(ROOT / "recipes" / "default.toml"))
    recipe = Experiment.load(ROOT / "recipes" / "ml-1m-neumf-pretrained.toml")
    space.check(recipe)
    overrides = space.overrides({"pretraining.gmf.train.epochs": 2, "pretraining.alpha": 0.3})
    fused = Experiment.parse(recipe.model_dump(mode="json"), overrides).pretraining
    assert fused is not None
    assert (fused.gmf.train.epochs, fused.alpha) == (2, 0.3)


def test_a_space_of_other_settings_takes_their_kinds_from_the_defaults() -> None:
    defaults = {"factors": 64, "l2": 0.1, "mode": "a"}
    given = {
        "factors": {"low": 8, "high": 128, "log": True},
        "l2": {"low": 1, "high": 10, "step": 1},
        "mode": {"values": ["a", "b"]},
    }
    space = Space.of_defaults(given, defaults, "ials")
    assert [parameter.kind for parameter in space] == ["integer", "float", "categorical"]
    assert list(Space.of_defaults({}, defaults, "ials")) == []
    for wrong, sentence in (
        (
            {"shrink": {"low": 1, "high": 2}},
            "ials: shrink is not a setting; the settings are factors, l2, mode",
        ),
        ({"l2": {"low": 2, "high": 1}}, "ials: l2: low is 2 and high is 1"),
        ({"l2": {"low": 2}}, "ials: l2 takes"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            Space.of_defaults(wrong, defaults, "ials")
