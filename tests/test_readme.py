"""The README's Python runs as it stands, on the real data, and its links lead somewhere."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_python_example_trains_and_recommends(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    hit_ratio, *items = done.stdout.split("\n")[:11]
    assert float(hit_ratio) > 0.72
    assert len({int(line.split()[0]) for line in items}) == 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_named_in_the_documents_exists(page: Path) -> None:
    named = re.findall(
        r"`((?:src/ncf|tests|benchmarks|recipes|docs|scripts|data)/[\w./-]+\.\w+)`", page.read_text("utf-8")
    )
    assert [path for path in named if not path.startswith("data/") and not (ROOT / path).exists()] == []
