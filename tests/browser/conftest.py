"""Real servers of small artifacts, and Chromium to look at them.

The tests exist only where NCF_TEST_BROWSER is set; there, a missing Chromium is an error and never a skip.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ncf.data import Dataset, Vocabulary
from ncf.serving.artifact import write_artifact
from ncf.serving.recommender import Recommender
from processes import running
from support import checkerboard, experiment, model_of

HOSTILE = "<img src=x onerror=\"document.title='taken'\">"
UNBROKEN = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch" * 2
FIRST_LONG_ID = 2**53 + 1


@dataclass(frozen=True)
class Site:
    """A running server, and the recommender of the same artifact to compare with."""

    url: str
    recommender: Recommender

    def titles(self, items: list[Any]) -> list[str]:
        """What the page should call these items."""
        return [str(item.get("title", item["id"])) for item in self.recommender.describe(items)]


@dataclass
class Visit:
    """A page that is watched: every request it made and every complaint of its console."""

    page: Any
    site: Site
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, hash: str = "") -> None:
        """The page at this hash, freshly loaded, with its lists there."""
        self.page.bring_to_front()
        self.page.goto("about:blank")
        self.page.goto(self.site.url + hash)
        self.page.wait_for_load_state("networkidle")


def _titled() -> Dataset:
    """Users 100..139, items 500..529; two titles are meant to do harm."""
    dataset = checkerboard()
    titles = [HOSTILE, UNBROKEN, "Amélie", *(f"Item {row}" for row in range(3, 30))]
    columns = dataset.item_columns.with_columns(
        title=pl.Series(titles), year=pl.Series(range(1970, 2000)), genres=pl.lit("Comedy Drama")
    )
    return replace(dataset, item_columns=columns)


def _untitled() -> Dataset:
    """Items without titles whose ids a double does not hold."""
    dataset = checkerboard()
    ids = np.arange(FIRST_LONG_ID, FIRST_LONG_ID + 30)
    columns = dataset.item_columns.drop("title").with_columns(id=pl.Series(ids))
    return replace(dataset, items=Vocabulary(ids), item_columns=columns)


@contextmanager
def _serving(dataset: Dataset, folder: Path) -> Iterator[Site]:
    metrics = {"test": {"metrics": {"hr@10": 0.61234, "ndcg@10": 0.3}}}
    model = model_of("neumf", 40, 30, tower=[16, 8])
    artifact = write_artifact(folder / "artifact", model, experiment("neumf"), dataset, metrics, "")
    with running(artifact) as (_, port):
        yield Site(f"http://127.0.0.1:{port}/", Recommender.open(artifact))


@pytest.fixture(scope="module")
def titled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server whose items have titles."""
    with _serving(_titled(), tmp_path_factory.mktemp("titled")) as site:
        yield site


@pytest.fixture(scope="module")
def untitled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server whose items have only ids, long ones."""
    with _serving(_untitled(), tmp_path_factory.mktemp("untitled")) as site:
        yield site


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium is not None, "There is no chromium on PATH: run scripts/install-chromium."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def watched(browser: Any, site: Site, **settings: Any) -> Iterator[Visit]:
    """A new page on a site; all that it asks must be asked of the site itself."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | settings))
    context.set_default_timeout(10_000)
    page = context.new_page()
    visit = Visit(page, site)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("console", lambda message: visit.complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    yield visit
    context.close()
    assert [url for url in visit.requests if not url.startswith(site.url)] == []


@pytest.fixture
def visit(browser: Any, titled: Site) -> Iterator[Visit]:
    """A page that may complain of nothing."""
    with watched(browser, titled) as visit:
        yield visit
    assert visit.complaints == []


@pytest.fixture
def untitled_visit(browser: Any, untitled: Site) -> Iterator[Visit]:
    """A page of the server without titles that may complain of nothing."""
    with watched(browser, untitled) as visit:
        yield visit
    assert visit.complaints == []


@pytest.fixture
def troubled(browser: Any, titled: Site) -> Iterator[Visit]:
    """A page on which requests fail, of which Chromium's console may tell."""
    with watched(browser, titled) as visit:
        yield visit
    assert [one for one in visit.complaints if "Failed to load resource" not in one] == []
