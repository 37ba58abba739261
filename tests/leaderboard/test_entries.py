"""The entries: files and baselines, chosen and refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ncf.baselines import BASELINES
from ncf.config import Experiment
from ncf.errors import ConfigError
from ncf.leaderboard.entries import entries, fitting_entries, space_of
from ncf.leaderboard.search import recipe_of
from support import checkerboard


def test_the_files_of_this_repository_and_every_baseline_take_part_with_valid_recipes_and_spaces() -> None:
    everyone = entries()
    names = [entry.name for entry in everyone]
    assert {"gmf", "mlp", "neumf", "neumf-pretrained", *BASELINES} <= set(names)
    recipes = dict[str, Experiment]()
    for entry in everyone:
        halves = {part: recipes[half] for part, half in entry.halves.items()}
        recipe = recipe_of(entry, halves) if entry.recipe else None
        if recipe is not None:
            recipes[entry.name] = recipe
        assert [parameter.name for parameter in space_of(entry, recipe)] == list(entry.space)
        assert entry.source


def test_what_the_data_do_not_suit_is_left_out_unless_it_is_named() -> None:
    chosen, dataset = entries(only=["popularity", "trending", "bpr"]), checkerboard()
    weights, times = np.ones(len(dataset.train), np.float32), np.arange(len(dataset.train))
    weighted = replace(dataset, train=replace(dataset.train, weights=weights), digest="w")
    timed = replace(dataset, train=replace(dataset.train, timestamps=times), digest="t")
    assert [entry.name for entry in fitting_entries(chosen, timed)[0]] == ["popularity", "trending", "bpr"]
    kept, said = fitting_entries(chosen, weighted)
    assert [entry.name for entry in kept] == ["popularity"]
    assert said == [
        "Trending is left out: it needs times, which these data do not have.",
        "BPR is left out: it does not know the weights of these data.",
    ]
    assert len(fitting_entries(chosen, weighted, ["bpr"])[0]) == 2


def test_an_entry_made_of_others_comes_after_them_and_pulls_them_in(files: Path) -> None:
    assert [entry.name for entry in entries(files, ["fused"])] == ["gmf", "mlp", "fused"]
    assert [entry.name for entry in entries(files, ["ease", "fused"])] == ["gmf", "mlp", "ease", "fused"]


def test_unknown_names_and_skipped_halves_are_refused(files: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"There is no entry 'svd'; the entries are fused, gmf, mlp, popularity"
    ):
        entries(files, ["svd"])
    with pytest.raises(ConfigError, match="mlp cannot be skipped because another entry is made of it"):
        entries(files, skip=["mlp"])
    with pytest.raises(ConfigError, match="No entries are left to run"):
        entries(files, ["ease"], ["ease"])
    with pytest.raises(ConfigError, match="There is no folder of entries"):
        entries(files / "nowhere")
    assert "mlp" not in [entry.name for entry in entries(files, skip=["mlp", "fused"])]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("title = 'A'\n", "has no \\[recipe\\]"),
        ("colour = 'red'\n[recipe]\n", "has 'colour': it takes"),
        ("[recipe\n", "cannot be read"),
        ("[recipe.model]\nkind = 'no'\n", "model.kind"),
        ("[recipe]\n[space]\n'train.colour' = { low = 1, high = 2 }\n", "not a setting that can be searched"),
        ("halves = { gmf = 'a' }\n[recipe]\n", "halves must name a gmf and an mlp"),
        ("halves = { gmf = 'ease', mlp = 'mlp' }\n[recipe]\n", "its half 'ease' is not a model"),
    ],
)
def test_a_file_with_a_mistake_is_refused_with_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        entries(tmp_path)


def test_the_digest_follows_what_decides_the_result(files: Path, tmp_path: Path) -> None:
    (tmp_path / "gmf.toml").write_text((files / "gmf.toml").read_text().replace('"GMF"', '"Another title"'))
    before, titled = entries(files, ["gmf"])[0], entries(tmp_path, ["gmf"])[0]
    assert before.digest() == titled.digest()
    (tmp_path / "gmf.toml").write_text((files / "gmf.toml").read_text().replace("factors = 8", "factors = 9"))
    assert before.digest() != entries(tmp_path, ["gmf"])[0].digest()


def test_one_made_of_others_that_are_made_of_others_comes_after_all_of_them() -> None:
    names = [entry.name for entry in entries(only=["neumf-distilled"])]
    assert sorted(names) == ["gmf", "gmf-distilled", "mlp", "neumf-distilled"]
    assert names[2:] == ["gmf-distilled", "neumf-distilled"]
