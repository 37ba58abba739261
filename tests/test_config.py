"""Recipes: what they admit, how overrides are read, what is said of a mistake, and what the digest covers."""

from pathlib import Path

import pytest

from ncf.config import Experiment
from ncf.errors import ConfigError

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_named_like_its_file(path: Path) -> None:
    assert Experiment.load(path).name == path.stem


def test_there_is_a_recipe_for_each_published_model() -> None:
    assert {"ml-1m-gmf", "ml-1m-mlp", "ml-1m-neumf", "ml-1m-neumf-pretrained"} <= {
        path.stem for path in RECIPES
    }


def test_overrides_are_read_as_toml() -> None:
    settings = Experiment.parse(
        {"name": "x"},
        [
            "train.epochs=5",
            "train.learning_rate=1e-2",
            "model.kind=gmf",
            "model.tower=[32, 8]",
            "data.path=data/a b",
        ],
    )
    assert (settings.train.epochs, settings.train.learning_rate) == (5, 0.01)
    assert (settings.model.kind, settings.model.tower, settings.data.path) == ("gmf", (32, 8), "data/a b")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.epochs", "--set takes section.key=value"),
        ("=5", "--set takes section.key=value"),
        ("train.epochs=-1", "train.epochs: Input should be greater than or equal to 0, not -1"),
        ("train.epochs=many", "train.epochs: Input should be a valid integer.*'many'"),
        ("train.epoch=5", "train.epoch is not a setting of ncf"),
        ("train.learning_rate=nan", "train.learning_rate: Input should be"),
        (
            "model.kind=svd",
            "model.kind: Input should be 'gmf', 'mlp', 'neumf', 'mf', "
            "'history-gmf', 'history-neumf', 'sasrec' or 'sasrec-neumf', not 'svd'",
        ),
        ("name.x=1", "'name' is a value, so it has no keys"),
        ("model.tower=[]", "model.tower: Tuple should have at least 1 item"),
        ("train.epochs=0", "train.epochs = 0 keeps random tables"),
        ("train.half_life=30", "half_life: a number of hours, days or weeks is due, such as 12h.*, not '30'"),
        ("train.half_life=0d", "half_life: a number of hours, days or weeks is due, .* not '0d'"),
        ("train.half_life=1y", "half_life: a number of hours, days or weeks is due, .* not '1y'"),
    ],
)
def test_a_mistake_is_named(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Experiment.parse({"name": "x"}, [override])


def test_patience_needs_a_hold_out() -> None:
    with pytest.raises(ConfigError, match="set validation = 'hold-out' or patience = 0"):
        Experiment.parse({"train": {"patience": 3, "validation": "include"}})


def test_unreadable_recipes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no recipe"):
        Experiment.load(tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("[train\nepochs = 3")
    with pytest.raises(ConfigError, match="is not valid"):
        Experiment.load(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        Experiment.load(broken)


def test_halves_are_read_from_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "g.toml").write_text('name = "g"\n[model]\nkind = "gmf"\nfactors = 8')
    (tmp_path / "m.toml").write_text('name = "m"\n[model]\nkind = "mlp"')
    fused = tmp_path / "n.toml"
    fused.write_text('name = "n"\n[pretraining]\ngmf = "g.toml"\nmlp = "m.toml"\nalpha = 0.7')
    settings = Experiment.load(fused)
    assert settings.pretraining is not None
    assert settings.pretraining.gmf.model.factors == 8
    fused.write_text('name = "n"\n[pretraining]\ngmf = "m.toml"\nmlp = "m.toml"')
    with pytest.raises(
        ConfigError, match="fuses a gmf, .* into a neumf, .* and these are mlp, mlp and neumf"
    ):
        Experiment.load(fused)


def test_the_digest_is_of_what_decides_the_result() -> None:
    base = Experiment.parse({"name": "a"})
    same = Experiment.parse(
        {
            "name": "b",
            "data": {"path": "elsewhere"},
            "train": {"keep_checkpoints": 9},
            "evaluation": {"bootstrap": 7},
        }
    )
    assert base.digest() == same.digest()
    assert base.digest() != Experiment.parse({"train": {"learning_rate": 0.1}}).digest()


def test_an_experiment_survives_its_json() -> None:
    for path in RECIPES:
        settings = Experiment.load(path)
        assert Experiment.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("text", ["2024-05-01", "20240501", "1e5", "true", '"2024"'])
def test_a_text_is_taken_as_it_is_given(text: str) -> None:
    assert Experiment.parse({}, [f"name={text}"]).name == text.strip('"')


@pytest.mark.parametrize(
    ("override", "value"),
    [("train.batch_size=1e5", 100_000), ("train.learning_rate=.5", 0.5), ("model.tower=[8, 4]", (8, 4)),
     ("model.factors=1e1", 10), ("data.path=7", "7"), ("train.device=cuda:0", "cuda:0")],
)  # fmt: skip
def test_a_value_is_read_as_its_setting_asks(override: str, value: object) -> None:
    section, key = override.partition("=")[0].split(".")
    assert getattr(getattr(Experiment.parse({}, [override]), section), key) == value


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("epochs=3", r"epochs is not a setting of ncf; did you mean train\.epochs\?"),
        ("pretraining.gmf.train.epoch=3", r"did you mean pretraining\.gmf\.train\.epochs\?"),
        ("zzz=1", r"zzz is not a setting of ncf; see docs/training\.md"),
        ("model.tower=128,64", r"model\.tower: a list such as \[128, 64\] is due, not '128,64'"),
        ("train.epochs=2024-05-01", r"train\.epochs: .*, not '2024-05-01'"),
    ],
)
def test_what_is_wrong_with_an_override(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Experiment.parse({}, [override])


def test_a_date_in_a_recipe_is_shown_as_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("name = 2024-05-01\n")
    with pytest.raises(ConfigError, match="name: a text is due: put 2024-05-01 in quotes"):
        Experiment.load(tmp_path / "r.toml")
