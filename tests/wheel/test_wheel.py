"""The wheel: what is in it, and that it works where there is no checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--disable-pip-version-check",
    ]
    subprocess.run([sys.executable, *build, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def ran(installed: Path, folder: Path, *arguments: str) -> str:
    """Standard output of `ncf` from the wheel; the packages that it needs are those of these tests."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    start = (
        f"import ncf; assert ncf.__file__.startswith({str(installed)!r}); from ncf.cli import main; main()"
    )
    command = [sys.executable, "-c", start, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_holds_all_that_the_source_holds(installed: Path) -> None:
    for source, target in ((ROOT / "src" / "ncf", "ncf"), (ROOT / "recipes", "ncf/recipes")):
        wanted = {
            path.relative_to(source)
            for path in source.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        there = {
            path.relative_to(installed / target) for path in (installed / target).rglob("*") if path.is_file()
        }
        assert wanted <= there


def test_a_table_becomes_recommendations_without_a_checkout(installed: Path, tmp_path: Path) -> None:
    rows = [f"u{user},i{(user * 7 + n * n) % 150},{n}" for user in range(60) for n in range(12)]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time", *rows]))
    where = ran(installed, tmp_path, "recipes", "list")
    assert "default" in where
    ran(installed, tmp_path, "prepare", "--input", "events.csv", "--output", "data", "--negatives", "20")
    ran(
        installed,
        tmp_path,
        "train",
        "--data",
        "data",
        "--output",
        "run",
        "--set",
        "train.epochs=1",
        "--quiet",
    )
    assert "i" in ran(installed, tmp_path, "recommend", "run", "--user", "u1", "-k", "3")
