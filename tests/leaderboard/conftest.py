"""A small leaderboard that is run once: two models, the two fused, and two baselines, on made-up data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import support
from ncf.data import Dataset
from ncf.leaderboard.entries import Entry, entries
from ncf.leaderboard.results import LeaderboardResults, read_results
from ncf.leaderboard.run import LeaderboardListener, LeaderboardPlan, run
from ncf.leaderboard.search import Budget
from ncf.tuning.trials import Trial

TAKING_PART = ["gmf", "mlp", "fused", "popularity", "ease"]
_TRAIN = "epochs = 2\nbatch_size = 512\nlearning_rate = 0.01\nl2_gmf = 0.001\nthreads = 1\n"
_SIZES = "factors = 8\nembedding = 8\ntower = [8, 4]\n"
FILES = {
    "gmf": f"""title = "GMF"
source = "a paper"
order = 1
[recipe.model]
kind = "gmf"
{_SIZES}[recipe.train]
{_TRAIN}[space]
"train.learning_rate" = {{ low = 1e-3, high = 1e-1, log = true }}
"train.epochs" = {{ low = 1, high = 3 }}
""",
    "mlp": f"""title = "MLP"
order = 2
[recipe.model]
kind = "mlp"
{_SIZES}[recipe.train]
{_TRAIN}""",
    "fused": f"""title = "Fused"
order = 3
halves = {{ gmf = "gmf", mlp = "mlp" }}
[recipe.model]
kind = "neumf"
[recipe.train]
{_TRAIN}[space]
"train.epochs" = {{ low = 0, high = 2 }}
""",
}


class Heard(LeaderboardListener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.finals: list[tuple[str, int]] = []
        self.failures: list[str] = []

    def ended(self, trial: Trial) -> None:
        self.trials.append(trial)

    def final_run(self, entry: Entry, seed: int, figures: dict[str, Any]) -> None:
        self.finals.append((entry.name, seed))

    def failed(self, entry: Entry, reason: str) -> None:
        self.failures.append(reason)


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder."""
    folder = tmp_path_factory.mktemp("data") / "made-up"
    support.planted(users=120, items=60, each=15).save(folder)
    return folder


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of entries."""
    folder = tmp_path_factory.mktemp("entries")
    for name, text in FILES.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


@pytest.fixture(scope="session")
def go(made_up: Path, files: Path) -> Callable[..., tuple[list[str], Heard]]:
    """Runs a leaderboard in a folder: who failed, and what was told."""

    def leaderboard(
        folder: Path, taking_part: list[Entry] | None = None, trials: int = 2, seeds: int = 2,
        stop: Callable[[], bool] = lambda: False, data: Dataset | None = None, seconds: float | None = None,
        overwrite: bool = False,
    ) -> tuple[list[str], Heard]:  # fmt: skip
        heard = Heard()
        chosen = taking_part or entries(files, TAKING_PART)
        plan = LeaderboardPlan(folder, Budget(trials, seconds), seeds, overwrite)
        failed = run(
            data or Dataset.open(made_up), chosen, plan, data_path=made_up, listener=heard, stop=stop
        )
        return failed, heard

    return leaderboard


@pytest.fixture(scope="session")
def finished(go: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a leaderboard that went through; to be read, not changed."""
    folder = tmp_path_factory.mktemp("board") / "finished"
    failed, _ = go(folder)
    assert failed == []
    return folder


@pytest.fixture(scope="session")
def results(finished: Path, files: Path) -> LeaderboardResults:
    return read_results(finished, entries(files, TAKING_PART), 2)
