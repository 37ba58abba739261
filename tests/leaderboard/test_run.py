"""A leaderboard from end to end on made-up data: what is run, kept, resumed and refused."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import support
from ncf.analysis import evaluate
from ncf.baselines import BASELINES
from ncf.config import Experiment
from ncf.errors import ConfigError, DataError, Interrupted, StorageError
from ncf.leaderboard.entries import Entry, entries
from ncf.leaderboard.folder import claimed
from ncf.leaderboard.results import read_results
from ncf.serving.artifact import open_artifact
from ncf.serving.recommender import Recommender


def figures_of(folder: Path) -> dict[str, Any]:
    """Every figure of every seed."""
    return {
        str(path.relative_to(folder)): json.loads(path.read_text())["figures"]
        for path in sorted(folder.glob("*/seed-*.json"))
    }


def test_each_entry_is_searched_trained_and_evaluated(finished: Path, made_up: Path) -> None:
    assert len(list(finished.glob("gmf/search/trials/*.json"))) == 2
    assert len(list(finished.glob("mlp/search/trials/*.json"))) == 1, "nothing to search: one trial"
    assert sorted(figures_of(finished)) == sorted(
        [f"{name}/seed-{seed}.json" for name in ("gmf", "mlp", "fused") for seed in (0, 1)]
        + ["ease/seed-0.json", "popularity/seed-0.json"]
    )
    seed = json.loads((finished / "gmf" / "seed-1.json").read_text())
    for full in (False, True):
        result, _ = evaluate(finished / "gmf" / "seeds" / "1", made_up, full=full, cutoffs=(10,))
        name = "full" if full else "sampled"
        assert seed["figures"][f"{name}/ndcg@10"] == pytest.approx(result.means["ndcg@10"])
    assert (seed["seconds"] > 0, seed["milliseconds"] > 0, seed["bytes"] > 0) == (True, True, True)


def test_the_best_trial_by_validation_is_what_is_trained(finished: Path) -> None:
    trials = [json.loads(path.read_text()) for path in finished.glob("gmf/search/trials/*.json")]
    best = max(trials, key=lambda trial: trial["value"])
    chosen = json.loads((finished / "gmf" / "chosen.json").read_text())
    assert chosen["settings"] == best["parameters"]
    final = open_artifact(finished / "gmf" / "seeds" / "1").experiment
    assert final.train.learning_rate == best["parameters"]["train.learning_rate"]
    assert (final.train.validation, final.train.seed, final.train.patience) == ("include", 1, 0)
    shipped = Experiment.load(finished / "gmf" / "recipe.toml", ["train.seed=1"])
    assert shipped.digest() == final.digest()


def test_a_fused_model_is_made_of_the_tuned_halves_of_the_same_seed(finished: Path) -> None:
    fused = open_artifact(finished / "fused" / "seeds" / "1").experiment
    assert fused.pretraining is not None
    assert (
        fused.pretraining.gmf.digest() == open_artifact(finished / "gmf" / "seeds" / "1").experiment.digest()
    )
    assert (fused.model.factors, fused.model.tower) == (8, (8, 4))
    assert not (finished / "fused" / "seeds" / "1" / "gmf").exists()
    shipped = Experiment.load(finished / "fused" / "recipe.toml")
    assert shipped.digest() == open_artifact(finished / "fused" / "seeds" / "0").experiment.digest()
    seed = json.loads((finished / "fused" / "seed-1.json").read_text())
    halves = [json.loads((finished / half / "seed-1.json").read_text())["seconds"] for half in ("gmf", "mlp")]
    assert seed["seconds_of_halves"] == pytest.approx(sum(halves), abs=0.01)


def test_a_second_run_repeats_nothing(go: Any, finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/seed-*")}
    failed, heard = go(finished)
    assert (failed, heard.trials) == ([], [])
    assert len(heard.finals) == 8
    assert {path: path.stat().st_mtime_ns for path in finished.glob("*/seed-*")} == before


def test_a_run_that_was_stopped_is_resumed_to_the_same_figures(
    go: Any, files: Path, finished: Path, tmp_path: Path
) -> None:
    chosen, calls = entries(files, ["gmf", "ease"]), iter(range(10_000))

    def in_the_second_final_run() -> bool:
        return (tmp_path / "b" / "gmf" / "seed-0.json").is_file() and next(calls) > 2

    with pytest.raises(Interrupted):
        go(tmp_path / "b", chosen, stop=in_the_second_final_run)
    assert (tmp_path / "b" / "gmf" / "seeds" / "1").is_dir()
    expected = {
        name: of_seed for name, of_seed in figures_of(finished).items() if name.startswith(("gmf/", "ease/"))
    }
    assert 0 < len(figures_of(tmp_path / "b")) < len(expected)
    assert go(tmp_path / "b", chosen)[0] == []
    assert figures_of(tmp_path / "b") == expected


def test_more_trials_and_seeds_continue_and_stale_runs_are_repeated(
    go: Any, files: Path, tmp_path: Path
) -> None:
    chosen = entries(files, ["fused"])
    go(tmp_path, chosen, trials=1, seeds=1)
    first = json.loads((tmp_path / "gmf" / "chosen.json").read_text())
    _, heard = go(tmp_path, chosen, trials=4, seeds=2)
    last = json.loads((tmp_path / "gmf" / "chosen.json").read_text())
    assert last["trials"] == 4
    assert first["settings"] != last["settings"], "the seed of this test finds something better"
    assert json.loads((tmp_path / "gmf" / "seed-0.json").read_text())["digest"] == last["digest"]
    assert len(heard.trials) == 3 + 0 + 4, "the fused one's search began anew with its halves"
    _, heard = go(tmp_path, chosen, trials=1, seeds=1)
    assert json.loads((tmp_path / "gmf" / "chosen.json").read_text()) == first | {"seconds": first["seconds"]}


def test_failures_are_reported_and_stop_only_the_entries_made_of_them(
    go: Any, files: Path, tmp_path: Path
) -> None:
    def too_large(*_: Any) -> Any:
        raise MemoryError("4 TiB are missing")

    baseline = replace(BASELINES["popularity"], fitting=too_large)
    failing = Entry("large", "Large", "", {}, baseline=baseline, order=5)
    gmf, mlp, fused, popularity = entries(files, ["fused", "popularity"])
    diverging = replace(mlp, recipe={**(mlp.recipe or {}), "train": {"learning_rate": 1e30, "epochs": 2}})
    chosen = [failing, gmf, diverging, fused, popularity]
    failed, heard = go(tmp_path, chosen, trials=1, seeds=1)
    assert failed == ["large", "mlp", "fused"]
    assert heard.failures[0] == "Every one of 1 trials failed; the first: 4 TiB are missing"
    assert heard.failures[2] == "Its half mlp failed."
    assert heard.finals == [("gmf", 0), ("popularity", 0)]
    results = read_results(tmp_path, chosen, 1)
    assert [row.name for row in results.missing] == ["large", "mlp", "fused"]
    assert "4 TiB" in results.missing[0].failure
    mended = replace(failing, baseline=BASELINES["popularity"])
    assert go(tmp_path, [mended])[0] == [], "a failed one is tried again"


def test_a_limit_of_time_is_kept_and_told(
    go: Any, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_second_passes_at_each_look = SimpleNamespace(monotonic=itertools.count().__next__)
    monkeypatch.setattr("ncf.tuning.study.time", a_second_passes_at_each_look)
    chosen = entries(files, ["gmf"])
    go(tmp_path, chosen, trials=50, seeds=1, seconds=1.5)
    found = json.loads((tmp_path / "gmf" / "chosen.json").read_text())
    assert (found["trials"], found["seconds"], found["out_of_time"]) == (1, 1, True)
    assert go(tmp_path, chosen, trials=50, seeds=1, seconds=1.5)[1].trials == [], "earlier trials count"


def test_other_data_other_recipes_and_other_folders_are_refused(
    go: Any, finished: Path, files: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="is about other data"):
        go(finished, data=support.planted(users=50, items=60, each=15))
    gmf = entries(files, ["gmf"])[0]
    with pytest.raises(ConfigError, match="gmf was started in .* with another recipe or space"):
        go(finished, [replace(gmf, space={})])
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="and not a leaderboard"):
        go(tmp_path, overwrite=True)


@pytest.fixture
def begun(go: Any, files: Path, tmp_path: Path) -> Path:
    go(tmp_path, entries(files, ["popularity"]))
    return tmp_path


def test_overwriting_begins_anew(go: Any, files: Path, begun: Path) -> None:
    changed = replace(entries(files, ["popularity"])[0], space={"a": {}})
    with pytest.raises(ConfigError, match="another recipe"):
        go(begun, [*entries(files, ["ease"]), changed])
    assert not (begun / "ease").exists()  # what is refused changes nothing
    go(begun, entries(files, ["ease"]), overwrite=True)
    assert not (begun / "popularity").exists()


def test_an_earlier_leaderboard_comes_back_where_the_new_one_finds_nothing(
    go: Any, files: Path, begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    with monkeypatch.context() as patched:
        patched.setattr("ncf.leaderboard.run.search_entry", failing(StorageError("Full.")))
        with pytest.raises(StorageError):
            go(begun, entries(files, ["ease"]), overwrite=True)
    assert {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()} == before
    # A process that is killed leaves the earlier one where it moved it, here only the first part of it.
    (begun / ".leaderboard.old").mkdir()
    state = begun / "leaderboard.state.json"
    state.rename(begun / ".leaderboard.old" / state.name)
    go(begun, entries(files, ["popularity"]))
    assert {path: path.read_bytes() for path in before} == before


def failing(error: Exception) -> Any:
    def fail(*_: Any) -> None:
        raise error

    return fail


def test_data_without_validation_or_test_are_refused(go: Callable[..., Any], tmp_path: Path) -> None:
    empty = support.dataset_of([(0, 1), (1, 0)], 2, 3, test=[(0, [2, 0])])
    with pytest.raises(DataError, match="no validation positives"):
        go(tmp_path, data=empty)


def test_a_folder_that_another_process_writes_to_is_refused(go: Any, files: Path, tmp_path: Path) -> None:
    with (
        claimed(tmp_path, "made-up", "", False),
        pytest.raises(StorageError, match="Another 'ncf leaderboard' is writing"),
    ):
        go(tmp_path, entries(files, ["popularity"]))


def test_the_artifact_of_a_final_run_is_prepared_by_its_first_recommender(finished: Path) -> None:
    run = finished / "gmf" / "seeds" / "0"
    before = {path.name for path in (run / "artifact").iterdir()}
    assert not any(name.startswith(("retrieval", "fold_in")) for name in before)
    assert len(Recommender.open(run).recommend(0, k=2)) == 2
    assert "retrieval.json" in {path.name for path in (run / "artifact").iterdir()}


def test_of_the_trials_only_the_best_keeps_its_artifact(finished: Path) -> None:
    kept = [path.parent.name for path in finished.glob("gmf/search/trials/*/artifact")]
    trials = [json.loads(path.read_text()) for path in finished.glob("gmf/search/trials/*.json")]
    assert kept == [max(trials, key=lambda trial: trial["value"])["folder"]]
