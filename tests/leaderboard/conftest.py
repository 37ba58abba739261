"""A small leaderboard that is run once: two models, the two fused, and two baselines, on made-up data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import support
from ncf.data import Dataset
from ncf.leaderboard.entries import Entry, entries
from ncf.leaderboard.results import LeaderboardResults, read_board
from ncf.leaderboard.run import LeaderboardListener, LeaderboardPlan, run
from ncf.leaderboard.search import Budget
from ncf.tuning.trials import Trial

TAKING_PART = ["gmf", "mlp", "fused", "popularity", "ease"]
_TRAIN = "epochs = 2\nbatch_size = 512\nlearning_rate = 0.01\nl2_gmf = 0.001\nthreads = 1\n"
_SIZES = "factors = 8\nembedding = 8\ntower = [8, 4]\n"
FILES = {
    "gmf": f'title = "GMF"\nsource = "a paper"\norder = 1\n[recipe.model]\nkind = "gmf"\n{_SIZES}[recipe.train]\n{_TRAIN}'
    '[space]\n"train.learning_rate" = { low = 1e-3, high = 1e-1, log = true }\n"train.epochs" = { low = 1, high = 3 }\n',
    "mlp": f'title = "MLP"\norder = 2\n[recipe.model]\nkind = "mlp"\n{_SIZES}[recipe.train]\n{_TRAIN}',
    "fused": 'title = "Fused"\norder = 3\nhalves = { gmf = "gmf", mlp = "mlp" }\n[recipe.model]\nkind = "neumf"\n'
    f'[recipe.train]\n{_TRAIN}[space]\n"train.epochs" = {{ low = 0, high = 2 }}\n',
}


class Heard(LeaderboardListener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.finals: list[tuple[str, int]] = []
        self.failures: list[str] = []

    def ended(self, trial: Trial) -> None:
        self.trials.append(trial)

    def final(self, contender: Entry, seed: int, figures: dict[str, Any]) -> None:
        self.finals.append((contender.name, seed))

    def failed(self, contender: Entry, reason: str) -> None:
        self.failures.append(reason)


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder."""
    folder = tmp_path_factory.mktemp("data") / "made-up"
    support.planted(users=120, items=60, each=15).save(folder)
    return folder


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of contenders."""
    folder = tmp_path_factory.mktemp("contenders")
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
        failed = run(
            data or Dataset.open(made_up), taking_part or entries(files, TAKING_PART),
            LeaderboardPlan(folder, Budget(trials, seconds), seeds, overwrite), data_path=made_up, audience=heard, stop=stop,
        )  # fmt: skip
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
def board(finished: Path, files: Path) -> LeaderboardResults:
    return read_board(finished, entries(files, TAKING_PART), 2)
