"""`ncf train` in one process as launchers start it: what it refuses, and that a restart does not resume an
older run."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from launch.conftest import losses
from ncf.cli import app
from ncf.errors import ConfigError, StorageError


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def train(*more: str) -> Result:
    return CliRunner().invoke(app, ["train", "small.toml", "--data", "data", *more])


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["--nproc", "2", "--distributed", "horovod"], {}, "leave --distributed horovod out"),
        (["--nproc", "2"], {"WORLD_SIZE": "2", "RANK": "0"}, "torchrun started this process already"),
        (["--nproc", "2"], {"HOROVOD_SIZE": "2"}, "Horovod started this process already"),
        (["--max-restarts", "1"], {}, "--max-restarts needs --nproc"),
        ([], {"TORCHELASTIC_MAX_RESTARTS": "1"}, "torchrun --max-restarts needs --output"),
    ],
)
def test_what_contradicts_its_launcher_is_refused(
    arguments: list[str], environment: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    output = [] if "TORCHELASTIC_MAX_RESTARTS" in environment else ["--output", "none"]
    done = train(*output, *arguments)
    assert isinstance(done.exception, ConfigError)
    assert sentence in str(done.exception)
    assert not Path("none").exists()


@pytest.mark.parametrize("variable", ["NCF_ATTEMPT", "TORCHELASTIC_RESTART_COUNT"])
def test_a_restart_before_the_run_began_leaves_or_replaces_an_older_run_as_asked(
    single: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    (single / "launch").write_text("elsewhere:1")
    done = train("--output", "single")
    assert isinstance(done.exception, StorageError)
    assert "holds a run already" in str(done.exception)
    anew = train("--output", f"anew-{variable}", "--set", "train.seed=1", "--set", "train.epochs=1", "--json")
    assert anew.exit_code == 0, anew.output
    again = train("--output", f"anew-{variable}", "--set", "train.epochs=1", "--overwrite", "--json")
    assert again.exit_code == 0, again.output
    assert "Resumed" not in again.stderr
    assert json.loads(again.stdout)["history"] != json.loads(anew.stdout)["history"]
    assert losses(Path(f"anew-{variable}")) == [row["loss"] for row in json.loads(again.stdout)["history"]]
