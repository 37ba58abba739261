"""A warm start: what keeps its values, what is placed, and by which rows it may be judged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from ncf.analysis import open_run
from ncf.cli import app
from ncf.config import Experiment
from ncf.data import Dataset, Vocabulary
from ncf.errors import CheckpointError, ConfigError, DataError
from ncf.experiment import Run, RunOptions, train
from ncf.models import build_model, history_branch, sequence_branch
from ncf.renewal.final import recipe_of, twin_of
from ncf.renewal.warm import WarmStart, warm_recipe
from ncf.serving.artifact import open_artifact
from ncf.serving.numpy_model import NumpyModel
from support import KINDS as EVERY_KIND
from support import dataset_of, experiment, planted

QUICK = RunOptions(serves=False, verdict=False)
KINDS = (*EVERY_KIND, "recent")
USERS, ITEMS = 60, 50


def recipe(kind: str, **changes: object) -> Experiment:
    settings = experiment("history-gmf" if kind == "recent" else kind, epochs=2, **changes)
    if kind != "recent":
        return settings
    return settings.model_copy(update={"model": settings.model.model_copy(update={"history_half_life": 3.0})})


@pytest.fixture(scope="module")
def data() -> Dataset:
    made = planted(USERS, ITEMS, each=12)
    times = np.random.default_rng(1).permutation(len(made.train)).astype(np.int64)
    return replace(made, train=replace(made.train, timestamps=times), digest="")


@pytest.fixture(scope="module")
def runs(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("warm")
    data.save(folder / "data")
    return {
        kind: train(data, recipe(kind), folder / kind, data_path=folder / "data", options=QUICK)
        for kind in KINDS
    }


def filled(run: Run, dataset: Dataset) -> tuple[WarmStart, torch.nn.Module]:
    """The model of a warm start on `dataset`, frozen."""
    earlier = WarmStart.of(run.folder, dataset)
    return earlier, earlier.model(earlier.seen(dataset))


@pytest.mark.parametrize("kind", KINDS)
def test_on_the_same_data_nothing_changes(kind: str, data: Dataset, runs: dict[str, Run]) -> None:
    earlier, model = filled(runs[kind], data)
    for name, value in open_artifact(runs[kind].folder).model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-5)
    assert earlier.counts["users"] == {"kept": USERS, "folded_in": 0, "dropped": 0}
    assert earlier.counts["held_out_rows_trained_on"] == 0


def newer(data: Dataset) -> Dataset:
    """Other rows, users and items dropped and added; nobody uses the new item 9."""
    users = np.sort(np.concatenate([data.users.ids[5:], [7, 900]]))
    items = np.sort(np.concatenate([data.items.ids[3:], [9, 990]]))
    rows = {"user": {old: row for row, old in enumerate(users.tolist())},
            "item": {old: row for row, old in enumerate(items.tolist())}}  # fmt: skip
    named = zip(data.users.ids_of(data.train.user_rows), data.items.ids_of(data.train.item_rows), strict=True)
    pairs = [(rows["user"][u], rows["item"][i]) for u, i in named if u in rows["user"] and i in rows["item"]]
    pairs += [(rows["user"][900], item) for item in range(4, 12)]
    pairs += [(user, rows["item"][990]) for user in range(20)]
    made = dataset_of(sorted(set(pairs)), len(users), len(items))
    table = pl.DataFrame({"id": items, "popularity": made.popularity, "title": [f"w{i % 4}" for i in items]})
    times = np.arange(len(made.train), dtype=np.int64)
    return replace(made, users=Vocabulary(users), items=Vocabulary(items), item_columns=table, digest="",
                   train=replace(made.train, timestamps=times))  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_matched_by_id_and_the_rest_is_placed(
    kind: str, data: Dataset, runs: dict[str, Run]
) -> None:
    """Known users and items keep their values, wherever they are now; a slow loop over ids says which."""
    dataset = newer(data)
    artifact = open_artifact(runs[kind].folder)
    earlier = WarmStart.of(runs[kind].folder, dataset)
    model = build_model(artifact.experiment.model, len(dataset.users), len(dataset.items))
    earlier.fill(model, dataset)
    assert earlier.counts["users"] == {"kept": 55, "folded_in": 2, "dropped": 5}
    assert earlier.counts["items"] == {
        "kept": 47, "by_users": 1, "by_columns": 1, "at_the_mean": 0, "dropped": 3
    }  # fmt: skip
    old, new = artifact.model.state_dict(), model.state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in new.values())
    for name in (name for name in old if name.endswith(("item_table", "item_bias"))):
        for row, item in enumerate(dataset.items.ids.tolist()):
            if (before := artifact.items.row(item)) >= 0:
                assert torch.equal(new[name][row], old[name][before])
    if history_branch(model) is None and sequence_branch(model) is None:
        for name in (name for name in old if name.endswith("user_table")):
            for row, user in enumerate(dataset.users.ids.tolist()):
                if (before := artifact.users.row(user)) >= 0:
                    assert torch.equal(new[name][row], old[name][before])


def test_a_new_user_gets_what_a_visitor_gets(data: Dataset, runs: dict[str, Run]) -> None:
    dataset, artifact = newer(data), open_artifact(runs["gmf"].folder)
    _, model = filled(runs["gmf"], dataset)
    row = dataset.users.row(900)
    history = artifact.items.rows(dataset.items.ids_of(dataset.seen_in_training.row(row)))
    served = artifact.fold_in(NumpyModel(artifact.weights)).vector(history[history >= 0])
    np.testing.assert_allclose(model.state_dict()["user_table"][row].numpy(), served, atol=1e-6)


def test_an_item_is_placed_near_where_training_put_it(tmp_path: Path) -> None:
    """A known item under another id, with the same users, gets a vector like its own; one of columns less."""
    data = planted(400, 60, each=20)
    run = train(data, experiment("gmf", epochs=15, l2_gmf=0.01), tmp_path / "run", options=QUICK)
    renamed = data.items.ids.copy()
    renamed[:10] += 1000
    other = replace(data, items=Vocabulary(renamed), digest="")
    _, model = filled(run, other)
    trained = open_artifact(run.folder).weights["item_table"]
    placed = model.state_dict()["item_table"].numpy()
    near = [float(np.corrcoef(placed[item], trained[item])[0, 1]) for item in range(10)]
    others = [float(np.corrcoef(placed[item], trained[item + 20])[0, 1]) for item in range(10)]
    assert np.mean(near) > 0.8 > 0.4 > np.mean(others)


def test_rows_that_the_old_run_was_trained_on_do_not_judge_the_new_one(
    data: Dataset, runs: dict[str, Run], tmp_path: Path
) -> None:
    """Held out anew at random, some rows were training rows before."""
    held = data.test.user_rows[:20]
    learned = np.array([data.seen_in_training.row(int(user))[0] for user in held], np.int32)
    lists = data.test.candidates.copy()
    lists[:20, 0] = learned
    pairs = {*zip(data.train.user_rows.tolist(), data.train.item_rows.tolist(), strict=True)}
    rest = sorted(pairs - {*zip(held.tolist(), learned.tolist(), strict=True)})
    other = dataset_of(
        rest,
        USERS,
        ITEMS,
        [(int(u), row.tolist()) for u, row in zip(data.test.user_rows, lists, strict=True)],
    )
    other.save(tmp_path / "data")
    settings = warm_recipe(runs["gmf"].folder, None, [])
    assert settings.train.epochs == 4
    run = train(
        other, settings, tmp_path / "run", data_path=tmp_path / "data", warm=runs["gmf"].folder, options=QUICK
    )
    assert run.metrics["warm"]["held_out_rows_trained_on"] == 20
    assert run.metrics["test"]["rows"] == len(data.test) - 20
    assert len(open_run(run.folder).held_out) == len(data.test) - 20


def test_it_is_never_kept_below_its_start(data: Dataset, tmp_path: Path) -> None:
    good = train(data, recipe("gmf", init="spectral"), tmp_path / "good", options=QUICK)
    harmful = warm_recipe(good.folder, None, ["train.learning_rate=50", "train.epochs=2"])
    run = train(data, harmful, tmp_path / "run", warm=good.folder, options=QUICK)
    assert run.metrics["selected"].startswith("the start")
    assert run.metrics["test"]["metrics"] == pytest.approx(good.metrics["test"]["metrics"])
    assert len(run.metrics["history"]) == 2


def test_its_final_fit_starts_where_it_did(data: Dataset, runs: dict[str, Run], tmp_path: Path) -> None:
    settings = warm_recipe(runs["gmf"].folder, None, ["train.epochs=1"])
    judged = train(data, settings, tmp_path / "judged", warm=runs["gmf"].folder, options=QUICK)
    twin = twin_of(judged.folder)
    fitted = train(data, recipe_of(twin), tmp_path / "final", final=judged.folder, options=QUICK)
    assert fitted.metrics["warm"]["from"] == str(runs["gmf"].folder)
    with pytest.raises(CheckpointError, match="begun with another --from"):
        train(data, settings, tmp_path / "judged", options=replace(QUICK, resume=True))


@pytest.mark.parametrize(
    ("kind", "changes", "sentence"),
    [
        ("mlp", {}, "has model.kind = gmf and the recipe mlp"),
        ("gmf", {"factors": 16}, "has model.factors = 8 and the recipe 16"),
    ],
)
def test_another_kind_or_width_is_refused(
    kind: str, changes: dict[str, object], sentence: str, runs: dict[str, Run]
) -> None:
    other = experiment(kind)
    other = other.model_copy(update={"model": other.model.model_copy(update=changes)})
    with pytest.raises(ConfigError, match=sentence):
        warm_recipe(runs["gmf"].folder, other, [])


def test_data_with_none_of_its_items_are_refused(data: Dataset, runs: dict[str, Run]) -> None:
    other = replace(data, items=Vocabulary(data.items.ids + 1000), digest="")
    with pytest.raises(DataError, match="knows none of the 50 items of made-up, such as 1500, but 500"):
        WarmStart.of(runs["gmf"].folder, other)


def test_tables_alone_learn_at_a_higher_rate(runs: dict[str, Run]) -> None:
    """Layers keep the recipe's rate; a setting or a recipe that is given decides itself."""
    own = recipe("gmf").train.learning_rate

    def rate(kind: str, given: Experiment | None = None, *changes: str) -> float:
        return warm_recipe(runs[kind].folder, given, list(changes)).train.learning_rate

    assert rate("gmf") == rate("mf") == 0.02 > own
    assert rate("neumf") == rate("mlp") == own
    assert rate("gmf", recipe("gmf")) == own
    assert rate("gmf", None, "train.learning_rate=0.3") == 0.3


def test_the_command_takes_the_recipe_of_the_run(
    runs: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "--from", str(runs["gmf"].folder), "--data", str(runs["gmf"].folder.parent / "data")]
    done = CliRunner().invoke(app, [*words, "--output", "run", "--quiet", "--set", "train.epochs=1"])
    assert done.exit_code == 0, done.output
    assert open_artifact("run").experiment.train.epochs == 1
    done = CliRunner().invoke(app, [*words, "--final", "x"])
    assert isinstance(done.exception, ConfigError)
