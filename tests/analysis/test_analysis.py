"""Analysis of runs: protocols, groups, cold users and a split by time, on real runs of small data."""

import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from ncf import analysis, experiment
from ncf.analysis.cold_start import FoldedIn
from ncf.analysis.temporal_split import share_still_to_come
from ncf.data import Dataset, PrepareOptions, prepare_catalog, prepare_file
from ncf.errors import ConfigError, DataError, Interrupted
from ncf.evaluation import EvaluationResult
from ncf.models import ModelScorer
from ncf.serving.numpy_model import NumpyModel
from ncf.tracking.tracker import Silent
from support import experiment as small

OPTIONS = PrepareOptions(negatives=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`last` and `time`: one table, prepared under both splits; `run`: trained on the first. Tests only read
    it.
    """
    folder = tmp_path_factory.mktemp("analysis")
    random = np.random.default_rng(0)
    taste = random.normal(size=(60, 3)) @ random.normal(size=(3, 50)) + random.gumbel(size=(60, 50))
    users, items = np.nonzero(np.argsort(np.argsort(-taste, axis=1), axis=1) < 16)
    times = random.permutation(len(users)) + 1_600_000_000
    pl.DataFrame({"user": users, "item": items, "ts": times}).write_csv(folder / "events.csv")
    for split in ("last", "time"):
        options = replace(OPTIONS, time="ts", split=split)
        dataset, _ = prepare_file(folder / "events.csv", options)
        dataset.save(folder / split)
    train(folder / "last", folder / "run")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> analysis.EvaluatedRun:
    return analysis.open_run(folder / "run")


@pytest.fixture(scope="module")
def results(run: analysis.EvaluatedRun) -> dict[str, EvaluationResult]:
    """Both protocols' results of the run."""
    return analysis.evaluate_both(run)


def train(data: Path, path: Path, **settings: object) -> Path:
    dataset = Dataset.open(data)
    experiment.train(dataset, small("gmf", **{"epochs": 4} | settings), path, data_path=data)
    return path


def test_both_protocols_evaluate_the_same_rows(
    folder: Path, run: analysis.EvaluatedRun, results: dict[str, EvaluationResult]
) -> None:
    assert list(results) == ["sampled", "full"]
    assert analysis.is_quick(run)
    for protocol, result in results.items():
        assert result.values["hr@10"].shape == (len(run.held_out),)
        alone, artifact = analysis.evaluate(folder / "run", full=protocol == "full")
        assert alone.means == result.means
        assert artifact.experiment == run.artifact.experiment


def test_groups_count_what_training_saw(
    folder: Path, run: analysis.EvaluatedRun, results: dict[str, EvaluationResult]
) -> None:
    train = Dataset.open(folder / "last").train
    assert run.item_counts.tolist() == train.item_counts(len(run.dataset.items)).tolist()
    for by in analysis.GROUPS:
        for protocol, groups in analysis.grouped(run, results, by).items():
            assert sum(group.rows for group in groups) == len(run.held_out)
            whole = sum(group.rows * group.means["hr@10"] for group in groups) / len(run.held_out)
            assert whole == pytest.approx(results[protocol].means["hr@10"])
    (activity,) = analysis.grouped(run, results, "activity")["full"]
    assert (activity.label, activity.low, activity.high) == ("11-20", 11, 20)
    with pytest.raises(ConfigError, match="--by must be one of activity, popularity, rarity"):
        analysis.grouped(run, results, "age")


def test_a_recipe_that_trains_on_validation_has_it_counted(folder: Path, tmp_path: Path) -> None:
    run = analysis.open_run(train(folder / "last", tmp_path / "run", validation="include", epochs=1))
    assert run.trained_on.counts.tolist() == [15] * 60
    assert run.item_counts.sum() == 15 * 60


def test_folded_in_scores_are_the_networks_of_the_given_vectors(run: analysis.EvaluatedRun) -> None:
    network = NumpyModel(run.artifact.weights)
    users = np.array([3, 7, 20])
    items = torch.randint(0, 50, (4, 9), generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([7, 3, 20, 7])
    own = FoldedIn(network, users, network.queries(network.user_vectors(users)))
    scores = own(rows, items)
    assert (scores.shape, scores.dtype) == ((4, 9), torch.float32)
    torch.testing.assert_close(scores, ModelScorer(run.artifact.model)(rows, items))


def test_cold_users_between_popularity_and_whole_histories(
    run: analysis.EvaluatedRun, results: dict[str, EvaluationResult]
) -> None:
    cold = analysis.evaluate_cold_users(run)
    assert list(cold.results) == [
        "popularity", "1 item", "2 items", "3-5 items", "all items, folded in", "all items, as trained",
    ]  # fmt: skip
    assert (cold.users, cold.latest) == (60, True)
    assert "60 users with 5 items or more, known by their latest items." in cold.remark
    assert {len(result.values["hr@10"]) for result in cold.results.values()} == {60}
    assert cold.results["all items, as trained"].means == results["sampled"].means
    assert cold.results["1 item"].means != cold.results["all items, folded in"].means


def test_what_stays_of_a_history_is_the_latest_items(run: analysis.EvaluatedRun) -> None:
    from ncf.analysis.cold_start import _ordered

    train = run.dataset.train
    users = np.array([0, 5, 59])
    for user, history in zip(users, _ordered(run, users), strict=True):
        own = train.user_rows == user
        assert train.timestamps is not None
        latest = train.item_rows[own][np.argsort(-train.timestamps[own])]
        assert history.tolist() == latest.tolist()


def test_users_who_are_cold_already_are_refused(tmp_path: Path) -> None:
    pairs = [(user, (user + 7 * n) % 31) for user in range(30) for n in range(4)]
    users, items = zip(*pairs, strict=True)
    pl.DataFrame({"user": users, "item": items, "ts": list(range(120))}).write_csv(tmp_path / "few.csv")
    dataset, _ = prepare_file(tmp_path / "few.csv", OPTIONS)
    dataset.save(tmp_path / "data")
    train(tmp_path / "data", tmp_path / "run", epochs=1)
    with pytest.raises(DataError, match="every user is cold already"):
        analysis.evaluate_cold_users(analysis.open_run(tmp_path / "run"))


def test_the_share_of_training_that_was_still_to_come() -> None:
    from support import dataset_of

    dataset = dataset_of([(0, 0), (0, 1), (1, 0), (1, 2)], 2, 5, test=[(0, [3, 4]), (1, [3, 4])])
    train = replace(dataset.train, timestamps=np.array([10, 20, 5, 40]))
    assert share_still_to_come(replace(dataset, train=train)) == pytest.approx((1 / 4 + 0) / 2)


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A copy of the run, to train a split by time in."""
    return Path(shutil.copytree(folder / "run", tmp_path / "run"))


def test_a_split_by_time_beside_leave_one_out(
    folder: Path, copied: Path, results: dict[str, EvaluationResult]
) -> None:
    own, cut = analysis.folders_of(str(copied), str(folder / "time"))
    assert (own, cut) == (None, str(folder / "time"))
    assert analysis.folders_of(str(copied), str(folder / "last")) == (str(folder / "last"), None)
    run = analysis.open_run(copied)
    kept, messages = len(Dataset.open(folder / "time").train), list[str]()
    temporal = analysis.evaluate_by_time(run, cut, Silent(), messages.append)
    assert messages == [f"Training small-gmf on {kept:,} of its interactions, in {copied}/time-split/run."]
    assert list(temporal.results) == ["leave one out", "time"]
    cut_data = Dataset.open(folder / "time")
    assert analysis.is_split_by_time(cut_data)
    assert len(temporal.results["time"]["full"].values["hr@10"]) == len(cut_data.test)
    assert 0.0 < temporal.share_to_come < 1.0
    assert f"{temporal.share_to_come:.0%} of all training interactions were still to come" in temporal.leak
    assert "intervals resample users with all their rows" in temporal.rows
    again = analysis.evaluate_by_time(run, cut, Silent(), messages.append)
    assert len(messages) == 1, "the second call trains nothing"
    assert again.results["time"]["full"].means == temporal.results["time"]["full"].means


def test_a_training_on_the_past_that_was_stopped_is_resumed(
    folder: Path, copied: Path, tmp_path: Path
) -> None:
    run, cut = analysis.open_run(copied), folder / "time"
    with pytest.raises(Interrupted):
        analysis.evaluate_by_time(run, cut, Silent(), lambda _: None, stop=lambda: True)
    resumed = analysis.evaluate_by_time(run, cut, Silent(), lambda _: None)
    whole = analysis.open_run(train(cut, tmp_path / "whole"))
    expected = analysis.evaluate_both(whole, ("sampled",))["sampled"]
    assert resumed.results["time"]["sampled"].means == expected.means


def test_the_known_source_is_split_again(tmp_path: Path) -> None:
    dataset, _ = prepare_catalog("ml-100k", PrepareOptions())
    dataset.save(tmp_path / "data")
    path = train(tmp_path / "data", tmp_path / "run", epochs=1, batch_size=4096)
    temporal = analysis.evaluate_by_time(analysis.open_run(path), None, Silent(), lambda _: None)
    cut = Dataset.open(path / "time-split" / "data")
    assert analysis.is_split_by_time(cut)
    assert temporal.runs["time"].dataset.digest == cut.digest
    assert 0.2 < temporal.share_to_come < 0.6


def test_data_that_cannot_be_split_by_time_say_what_to_do(folder: Path, run: analysis.EvaluatedRun) -> None:
    with pytest.raises(DataError, match="The table of events is not in the catalogue.*--data FOLDER"):
        analysis.evaluate_by_time(run, None, Silent(), lambda _: None)
    dataset = Dataset.open(folder / "last")
    timeless = replace(run, dataset=replace(dataset, train=replace(dataset.train, timestamps=None)))
    with pytest.raises(DataError, match="have no times"):
        analysis.evaluate_by_time(timeless, None, Silent(), lambda _: None)


def test_an_archive_cannot_hold_another_training(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / "run" / "artifact", ".")
    run = analysis.open_run(archive, folder / "last")
    with pytest.raises(ConfigError, match="give that folder instead of .*model.tar.gz"):
        analysis.evaluate_by_time(run, folder / "time", Silent(), lambda _: None)


def test_runs_of_other_data_are_not_compared(folder: Path, tmp_path: Path) -> None:
    path = train(folder / "time", tmp_path / "run", epochs=1)
    with pytest.raises(DataError, match="cannot be paired"):
        analysis.compare_runs(folder / "run", path)
    same = analysis.compare_runs(folder / "run", folder / "run", full=True)
    assert same["ndcg@10"].p_value == 1.0


@pytest.fixture(scope="module")
def later(folder: Path) -> Path:
    """`folder`'s table with a new user and a new item, and one more interaction of each known user."""
    events = pl.read_csv(folder / "events.csv")
    more = [(u, 50 if u == 0 else (u * 7) % 50, 1_700_000_000) for u in range(60)]
    more += [(99, item, 1_700_000_000 + item) for item in range(20)]
    table = pl.concat([events, pl.DataFrame(more, schema=events.columns, orient="row")])
    table.write_csv(folder / "later.csv")
    prepare_file(folder / "later.csv", OPTIONS)[0].save(folder / "later")
    return folder / "later"


def test_a_run_on_later_data_is_judged_through_the_ids(folder: Path, later: Path) -> None:
    with pytest.raises(DataError, match="was trained on"):
        analysis.open_run(folder / "run", later)
    run, data = analysis.open_run(folder / "run", later, other_data=True), Dataset.open(later)
    known = {
        (user, item)
        for row, user in enumerate(run.artifact.users.ids.tolist())
        for item in run.artifact.items.ids_of(run.artifact.seen.row(row)).tolist()
    }
    pairs = zip(data.users.ids_of(data.test.user_rows), data.items.ids_of(data.test.positives), strict=True)
    fresh = sorted(pair for pair in pairs if pair not in known)
    rows = run.held_out
    ids = zip(run.dataset.users.ids_of(rows.user_rows), run.dataset.items.ids_of(rows.positives), strict=True)
    assert sorted(ids) == fresh
    assert 0 < len(fresh) < len(data.test)
    assert run.other_data is not None
    assert "1 of 61 users are unknown to it" in run.other_data
    assert "1 of 51 items are (ranked last)" in run.other_data
    assert f"and {len(data.test) - len(fresh)} of {len(data.test)} test rows" in run.other_data
    popularity = run.artifact.item_columns["popularity"].to_numpy()
    for result in analysis.evaluate_both(run).values():
        assert result.cold_users == 1
        assert len(result.values["mrr"]) == len(fresh)
    new = rows.user_rows == data.users.row(99)
    scores = run.scorer(
        torch.from_numpy(rows.user_rows[new]).long(), torch.from_numpy(rows.candidates[new]).long()
    )
    expected = [popularity[run.artifact.items.row(id)] for id in data.items.ids_of(rows.candidates[new][0])]
    assert [score for score in scores[0].tolist() if score > -np.inf] == [
        count
        for count, id in zip(expected, data.items.ids_of(rows.candidates[new][0]), strict=True)
        if id != 50
    ]
    with pytest.raises(ConfigError, match="--by, --cold and --split time need the data of training"):
        analysis.grouped(run, analysis.evaluate_both(run), "activity")


def test_old_and_new_are_compared_on_rows_that_are_new_to_both(
    folder: Path, later: Path, tmp_path: Path
) -> None:
    new = train(later, tmp_path / "run", epochs=1)
    runs = analysis.paired_runs(folder / "run", new, later)
    assert runs[0].held_out.candidates.tolist() == runs[1].held_out.candidates.tolist()
    assert runs[1].other_data is None
    compared = analysis.compare_runs(folder / "run", new, later)
    own = analysis.evaluate_both(runs[1], ("sampled",))["sampled"]
    assert compared["ndcg@10"].mean_b == pytest.approx(own.means["ndcg@10"])
    nothing = replace(Dataset.open(folder / "last"), digest="other")
    nothing.save(tmp_path / "same")
    with pytest.raises(
        DataError, match="All 60 test rows of events are on record of the model: give data with"
    ):
        analysis.open_run(folder / "run", tmp_path / "same", other_data=True)
