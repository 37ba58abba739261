"""A command without the packages of its extra names the extra in one sentence, before it does anything else.

The examples of help are run in an empty folder, so a command that looked at its data first would miss those.
"""

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from commandline import COMMANDS, EVERY
from ncf.cli import app
from ncf.errors import ConfigError, imported

PACKAGES = (
    "boto3", "botocore", "sagemaker", "mlflow", "sagemaker_mlflow", "optuna", "plotly", "tomli_w", "jinja2",
    "matplotlib", "implicit", "moto", "faiss",
)  # fmt: skip
PLAIN = ("sagemaker policy", "sagemaker double")
CLOUD = [name for typed in COMMANDS if (name := typed[4:]).startswith("sagemaker ") and name not in PLAIN]
NEEDS = {
    **dict.fromkeys(CLOUD, ("boto3", "sagemaker")),
    "sagemaker double": ("moto[server]", "dev"),
    "tune": ("jinja2, optuna, plotly and tomli-w", "tune"),
    "report": ("jinja2 and matplotlib", "evaluate"),
    "leaderboard": ("jinja2, matplotlib, optuna and tomli-w", "evaluate"),
    "experiments import": ("mlflow", "mlflow"),
}
"""What each command needs by default: its packages and the extra that has them."""
JOB = "sagemaker train neumf --data data/mine"
MORE = {
    "train --data data/mine --track mlflow.db": ("mlflow", "mlflow", "mlflow"),
    "train --data data/mine --minutes 5": ("optuna", "optuna", "tune"),
    "leaderboard ml-100k --output board": ("implicit", "implicit", "evaluate"),
    "leaderboard ml-100k --output board --page-only": ("matplotlib", "matplotlib", "evaluate"),
    f"{JOB} --track mlflow.db": ("mlflow", "mlflow", "mlflow"),
    f"{JOB} --script-mode": ("sagemaker", "sagemaker-core", "sagemaker"),
    f"{JOB} --distributed smddp": ("sagemaker", "sagemaker-core", "sagemaker"),
    "sagemaker fetch JOB --track mlflow.db": ("mlflow", "mlflow", "mlflow"),
    "sagemaker tune neumf --data d --space default --script-mode": (
        "sagemaker", "sagemaker-core", "sagemaker",
    ),
    "sagemaker prepare --input s3://shelf/e --output d": ("sagemaker", "sagemaker-core", "sagemaker"),
    "sagemaker transform run --output o.csv --script-mode": ("sagemaker", "sagemaker-core", "sagemaker"),
    "sagemaker deploy run --aws-image": ("sagemaker", "sagemaker-core", "sagemaker"),
    "sagemaker invoke shop --user 1": ("sagemaker", "sagemaker-core", "sagemaker"),
}  # fmt: skip
"""What an option needs: the module that is missing here, how it is called, and the extra that has it."""


def said(typed: str, absent: Iterable[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sentence of a `ConfigError`, or else what was printed. Nothing may have been made in the folder."""
    monkeypatch.chdir(folder)
    for module in absent:
        monkeypatch.setitem(sys.modules, module, None)
    done = CliRunner().invoke(app, shlex.split(typed))
    assert done.exit_code
    assert [*folder.iterdir()] == []
    return str(done.exception) if isinstance(done.exception, ConfigError) else done.output


@pytest.mark.parametrize("name", NEEDS)
def test_a_command_says_first_which_extra_it_needs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, extra = NEEDS[name]
    for line in EVERY[f"ncf {name}"].examples:
        sentence = said(line.removeprefix("ncf "), PACKAGES, tmp_path, monkeypatch)
        assert sentence == f"This needs {packages}, not installed here: pip install 'ncf[{extra}]'."


@pytest.mark.parametrize("typed", MORE)
def test_an_option_says_first_which_extra_it_needs(
    typed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent, package, extra = MORE[typed]
    sentence = said(typed, [absent], tmp_path, monkeypatch)
    assert sentence.startswith(f"This needs {package}, not installed here: pip install 'ncf[{extra}]'")


@pytest.mark.parametrize("name", ["prepare", "train", "evaluate", "compare", "batch", "serve", "suggest"])
def test_the_other_commands_need_no_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = EVERY[f"ncf {name}"].examples[0]
    assert "pip install" not in said(line.removeprefix("ncf "), PACKAGES, tmp_path, monkeypatch)


def test_a_package_that_is_broken_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"broken cannot be imported \(No module named 'no_such_module'\)"):
        imported("index", "broken")
