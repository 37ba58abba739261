"""The page of a leaderboard in Chromium: nothing is fetched, nothing complains, and it reads in light, dark
and on a phone.
"""

from pathlib import Path
from typing import Any

import pytest

import support
from ncf.data import Dataset
from ncf.leaderboard.entries import entries
from ncf.leaderboard.page import write_results
from ncf.leaderboard.results import read_results
from ncf.leaderboard.run import LeaderboardPlan, run
from ncf.leaderboard.search import Budget

pytestmark = pytest.mark.browser

DRAWN_TEXT = """() => [...document.querySelectorAll("svg text")].map((one) => {
  const box = one.getBoundingClientRect(), frame = one.closest("svg").getBoundingClientRect();
  const inside = box.left >= frame.left - 1 && box.right <= frame.right + 1
    && box.top >= frame.top - 1 && box.bottom <= frame.bottom + 1;
  return [one.textContent, getComputedStyle(one).fill, inside];
})"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    support.planted(users=80, items=50, each=12).save(folder / "data")
    chosen = entries(only=["popularity", "item-knn", "ease", "user-knn"])
    run(
        Dataset.open(folder / "data"),
        chosen,
        LeaderboardPlan(folder / "out", Budget(2)),
        data_path=folder / "data",
    )
    return write_results(read_results(folder / "out", chosen, 3), folder / "out")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_stands_by_itself_and_is_legible(
    browser: Any, page_file: Path, scheme: str, width: int
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, asked, complaints = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(page_file.as_uri())
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_by_role("heading", name="Every pair").is_visible()
    ground = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 24, 30)"}[scheme]
    drawn = page.evaluate(DRAWN_TEXT)
    assert [text for text, colour, inside in drawn if not inside or colour in (ground, "rgb(0, 0, 0)")] == []
    assert {"ItemKNN", "EASE", "UserKNN"} <= {text for text, *_ in drawn}
    context.close()
