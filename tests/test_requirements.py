"""What the image installs (containers/requirements.py): the plain dependencies, and extras by name."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def asked(*extras: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "containers/requirements.py", *extras]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_without_extras_there_is_no_tracking() -> None:
    assert "torch" in asked().stdout
    assert "mlflow" not in asked().stdout


def test_of_mlflow_the_client_alone_is_taken() -> None:
    lines = asked("mlflow,tune").stdout.splitlines()
    assert any(line.startswith("mlflow-skinny>=") for line in lines)
    assert any(line.startswith("sagemaker-mlflow") for line in lines)
    assert any(line.startswith("optuna") for line in lines)
    assert not any(line.startswith("mlflow>") for line in lines)


def test_what_is_no_extra_ends_the_build() -> None:
    done = asked("nothing")
    assert done.returncode == 1
    assert "EXTRAS names 'nothing'" in done.stderr
