"""`ncf evaluate`: what is printed, and the one JSON object."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from ncf import experiment
from ncf.cli import app
from ncf.data import Dataset, PrepareOptions, prepare_file
from ncf.errors import ConfigError
from ncf.tracking import console
from support import experiment as small


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run `run` on data with times, its data `last`, and the same table split by time in `time`."""
    folder = tmp_path_factory.mktemp("project")
    random = np.random.default_rng(1)
    users, items = np.nonzero(random.random((50, 40)) < 0.3)
    times = random.permutation(len(users)) + 1_600_000_000
    pl.DataFrame({"user": users, "item": items, "ts": times}).write_csv(folder / "events.csv")
    for split in ("last", "time"):
        dataset, _ = prepare_file(folder / "events.csv", PrepareOptions(time="ts", split=split, negatives=15))  # type: ignore[arg-type]
        dataset.save(folder / split)
        name = "run" if split == "last" else "by-time"
        experiment.train(dataset, small("gmf", epochs=2), folder / name, data_path=folder / split)
    return folder


@pytest.fixture(autouse=True)
def _here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(console.OUT, "width", 200)


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["evaluate", *arguments])
    assert done.exit_code == 0, done.output + repr(done.exception)
    return done.stdout


def parsed(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(printed(*arguments, "--json")))


def test_a_person_sees_both_protocols_and_the_warning() -> None:
    text = printed("run")
    assert "sampled" in text.splitlines()[2]
    assert "full" in text.splitlines()[2]
    assert "Sampled metrics can rank models differently from full ones (Krichene & Rendle, KDD'20)" in text
    alone = printed("run", "--protocol", "sampled")
    assert "coverage" not in alone
    assert "'ncf evaluate run --full' shows the full ranking" in alone
    assert "Sampled metrics" not in printed("run", "--full")


def test_large_catalogues_are_ranked_on_demand_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("ncf.analysis.evaluate"), "_QUICK_SCORES", 100)
    assert "coverage" not in printed("run")
    assert "coverage" in printed("run", "--protocol", "both")


def test_one_protocol_has_its_keys_at_the_top_and_two_have_their_names() -> None:
    sampled, full, both = (parsed("run", *more) for more in ([], ["--full"], ["--protocol", "both"]))
    assert sampled["protocol"] == "sampled"
    assert full["protocol"] == "full"
    assert both["protocol"] == "both"
    for alone in (sampled, full):
        assert both[alone["protocol"]] == {
            key: value for key, value in alone.items() if key not in ("run", "name", "split", "verdict")
        }


def test_groups_and_cold_users() -> None:
    text = printed("run", "--by", "activity", "--by", "popularity", "--cold")
    for words in (
        "by interactions of the user",
        "head (",
        "by interactions of the held-out item",
        "3-5 items",
        "all items, as trained",
        "Training saw all their items",
    ):
        assert words in text
    document = parsed("run", "--by", "activity", "--cold")
    groups = document["groups"]["interactions of the user"]["sampled"]
    assert sum(group["rows"] for group in groups) == document["rows"]
    least = sum(group["rows"] for group in groups if group["low"] > 5)
    assert least <= document["cold_users"]["users"] <= document["rows"]
    assert set(document["cold_users"]["known"]) >= {"popularity", "1 item", "2 items", "3-5 items"}


def test_a_split_by_time() -> None:
    text = printed("run", "--split", "time", "--data", "time")
    assert "leave one out" in text
    assert "still to come" in text
    document = parsed("run", "--split", "time", "--data", "time")
    assert document["splits"]["leave one out"]["sampled"]["metrics"] == parsed("run")["metrics"]
    assert 0 < document["share_still_to_come"] < 1
    own = parsed("by-time", "--split", "time")
    assert own["sampled"]["metrics"] == parsed("by-time")["metrics"], "evaluated as it is"
    assert not Path("by-time/time-split").exists()
    assert "Rows of one user" not in printed("by-time", "--split", "time")


@pytest.mark.parametrize("warm", [False, True])
def test_old_and_new_are_compared_on_rows_that_neither_has_seen(
    warm: bool, project: Path, tmp_path: Path
) -> None:
    """What the old run was trained on, or held out, is left out for both; a warm start has learned it too."""
    table = pl.read_csv("events.csv")
    more = pl.DataFrame([(user, 40 + user % 5, 1_700_000_000) for user in range(0, 50, 2)], table.schema,
                        orient="row")  # fmt: skip
    options = PrepareOptions(split="random", negatives=15, seed=9)
    pl.concat([table, more]).write_csv(tmp_path / "later.csv")
    prepare_file(tmp_path / "later.csv", options)[0].save(tmp_path / "later")
    later, new = Dataset.open(tmp_path / "later"), tmp_path / "new"
    settings, earlier = small("gmf", epochs=1), project / "run" if warm else None
    experiment.train(later, settings, new, data_path=tmp_path / "later", warm=earlier)
    old = {*table.select("user", "item").iter_rows()}
    test = zip(
        later.users.ids_of(later.test.user_rows), later.items.ids_of(later.test.positives), strict=True
    )
    fresh = sum(pair not in old for pair in test)
    assert 0 < fresh < len(later.test)
    words = ["compare", "run", str(new), "--data", str(tmp_path / "later")]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, repr(done.exception)
    document = json.loads(done.stdout)
    assert (document["rows"], document["rows_left_out"]) == (fresh, len(later.test) - fresh)
    assert len(document["other_data"]) == 1 + warm
    said = CliRunner().invoke(app, words).stdout
    assert f"Compared on the {fresh} rows that are on the record of neither; " in said
    alone = parsed("run", "--data", str(tmp_path / "later"))
    assert alone["rows"] == fresh
    assert (
        f"{len(later.test) - fresh} of {len(later.test)} test rows are on its record" in alone["other_data"]
    )
    assert document["metrics"]["ndcg@10"]["mean_a"] == pytest.approx(alone["metrics"]["ndcg@10"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--protocol", "sampled", "--full"], "leave one of them out"),
        (["--split", "time", "--cold"], "leave out --by, --cold, --protocol and --full"),
    ],
)
def test_mistakes_are_sentences(arguments: list[str], sentence: str) -> None:
    done = CliRunner().invoke(app, ["evaluate", "run", *arguments])
    assert isinstance(done.exception, ConfigError)
    assert sentence in str(done.exception)
