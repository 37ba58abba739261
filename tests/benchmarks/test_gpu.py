"""benchmarks/gpu.py without a GPU: it says so, runs dry, and estimates."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program on a machine whose GPUs, if it has some, are out of sight."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_without_a_gpu_it_refuses_with_one_sentence() -> None:
    done = run()
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "There is no GPU here" in done.stderr


def test_a_dry_run_goes_through_all_of_it_and_claims_nothing(tmp_path: Path) -> None:
    done = run("--dry-run-on-cpu", "--output", str(tmp_path / "dry.json"))
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "dry.json").read_text("utf-8"))
    assert document["benchmark"] == "gpu-dry-run"
    assert document["card"]["name"] == "the CPU, which measures nothing"
    assert len(document["epochs"]) == 4
    assert len(document["scoring"]) == 2
    assert len(document["time_to_hit"]) == 1
    assert "targets" not in document


def test_an_estimate_has_the_arithmetic(tmp_path: Path) -> None:
    done = run("--estimate", "--output", str(tmp_path / "estimate.json"))
    assert done.returncode == 0, done.stderr
    assert "nothing was run on a GPU" in done.stdout
    for step in json.loads((tmp_path / "estimate.json").read_text("utf-8"))["estimate"]["steps"]:
        moving, products = step["bytes"] / (0.8 * 3.35e12), step["flop"] / (0.3 * 989e12)
        positives = 994_169 if step["data"] == "ML-1M" else 20_000_263
        expected = (max(moving, products) + step["launches"] * 2e-6) * positives / step["groups"]
        assert step["epoch_seconds"] == pytest.approx(expected)
        assert 50 < step["launches"] < 200
