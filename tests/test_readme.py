"""The README's Python runs as it stands, as does its quick start, and its links lead somewhere."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which the README's quick start ran, all but its server, and what it printed."""
    folder = tmp_path_factory.mktemp("quick-start")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    commands = code_after("## Quick start", "").replace("ncf serve runs/mine --port 8080\n", "")
    return folder, run(["bash", "-euc", commands], folder)


def code_after(heading: str, language: str) -> str:
    """The first block of code in a language below a heading."""
    _, _, below = README.partition(heading)
    return re.findall(rf"```{language}\n(.*?)```", below, re.DOTALL)[0]


def run(command: list[str], folder: Path) -> str:
    """Standard output of a command that succeeds; `ncf` is this package's."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_quick_start_prints_what_the_readme_shows(quick_start: tuple[Path, str]) -> None:
    """Figures and scores aside, whose last digits differ between processors."""
    _, _, shown = README.partition("Among other lines, it prints:")
    lines = re.findall(r"```\n(.*?)```", shown, re.DOTALL)[0].splitlines()
    printed = quick_start[1]
    for line in lines[:2]:
        assert line in printed
    items = [re.findall(r"(?:jazz|rock)\d+", line) for line in (*lines, *printed.splitlines())]
    assert [item for item in items[: len(lines)] if item] == [item for item in items[len(lines) :] if item]


def test_the_python_example_trains_and_recommends(quick_start: tuple[Path, str]) -> None:
    said, hit_ratio, *frame = run(
        [sys.executable, "-c", code_after("## Quick start", "python")], quick_start[0]
    ).splitlines()
    assert said.startswith("<GMF(): HR@10 ")
    assert float(hit_ratio) > 0.3
    items = re.findall(r"(jazz|rock)\d+", "\n".join(frame))
    assert items == ["jazz"] * 3 + ["rock"] * 3
    assert (quick_start[0] / "model" / "manifest.json").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text("utf-8")):
        if not target.startswith("https://"):
            file = page.parent / target if target else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_named_in_the_documents_exists(page: Path) -> None:
    named = re.findall(
        r"`((?:src/ncf|tests|benchmarks|recipes|docs|scripts|data)/[\w./-]+\.\w+)`", page.read_text("utf-8")
    )
    assert [path for path in named if not path.startswith("data/") and not (ROOT / path).exists()] == []
