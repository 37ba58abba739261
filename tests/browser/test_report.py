"""The report's page in Chromium: from a file, without a network, in light, in dark and on paper."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ncf.analysis.report import page as page_module
from ncf.analysis.report import svg
from ncf.analysis.report.write import write_report
from reports import titled, trained
from support import experiment as small

pytestmark = pytest.mark.browser

STYLE = (Path(page_module.__file__).parent / "templates" / "style.css").read_text("utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part)) for part in STYLE.split("@media screen")[:2]
)
TEXTS = """() => [...document.querySelectorAll('figure svg')].map(svg => [...svg.querySelectorAll('text')]
  .filter(node => node.textContent.trim()).map(node => {
    const box = node.getBoundingClientRect();
    return {text: node.textContent.trim(), left: box.left, right: box.right, top: box.top, bottom: box.bottom,
      frame: svg.getBoundingClientRect().toJSON()};
  }))"""
BLEEDING = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
FONT_SIZES = """() => [...document.querySelectorAll('figure svg')].map(svg => {
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  const sizes = [...svg.querySelectorAll('text')].map(node => parseFloat(getComputedStyle(node).fontSize));
  return scale * Math.min(...sizes);
})"""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every section."""
    folder = tmp_path_factory.mktemp("runs")
    return write_report(trained(titled(), small("neumf", epochs=3, patience=3), folder, "neumf")).page


@contextmanager
def opened(browser: Any, document: Path, **settings: Any) -> Iterator[Any]:
    """The page, which may ask for nothing but itself and complain of nothing."""
    context = browser.new_context(
        **({"viewport": {"width": 1100, "height": 800}, "offline": True} | settings)
    )
    page = context.new_page()
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(document.as_uri())
    page.wait_for_load_state("networkidle")
    yield page
    context.close()
    assert asked == [document.as_uri()]
    assert complaints == []


def colour(page: Any, selector: str, name: str) -> str:
    return str(page.eval_on_selector(selector, f"one => getComputedStyle(one).{name}"))


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


@pytest.mark.parametrize(
    ("scheme", "media", "colours"),
    [("light", "screen", LIGHT), ("dark", "screen", DARK), ("dark", "print", LIGHT)],
    ids=["light", "dark", "print"],
)
def test_drawings_have_the_colours_of_the_page(
    browser: Any, document: Path, scheme: str, media: str, colours: dict[str, str]
) -> None:
    with opened(browser, document, color_scheme=scheme) as page:
        page.emulate_media(media=media, color_scheme=scheme)
        assert colour(page, "body", "backgroundColor") == rgb(colours["back"])
        used = set(
            page.eval_on_selector_all("figure svg text", "all => all.map(one => getComputedStyle(one).fill)")
        )
        assert used == {rgb(colours["ink"])}
        lines = set(
            page.eval_on_selector_all(
                "figure svg path", "all => all.map(one => getComputedStyle(one).stroke)"
            )
        )
        palette = {*map(rgb, svg.SERIES), rgb(svg.SOFT)}
        assert {rgb(svg.SERIES[0]), rgb(svg.SERIES[1]), rgb(svg.SOFT)} <= lines <= {"none", *palette}


@pytest.mark.parametrize("media", ["screen", "print"])
def test_words_in_a_drawing_do_not_run_into_each_other_or_over_its_edge(
    browser: Any, document: Path, media: str
) -> None:
    with opened(browser, document, color_scheme="light") as page:
        page.emulate_media(media=media)
        drawings = page.evaluate(TEXTS)
        assert len(drawings) == 9
        for texts in drawings:
            for text in texts:
                frame = text["frame"]
                assert frame["left"] - 1 <= text["left"], text["text"]
                assert text["right"] <= frame["right"] + 1, text["text"]
                assert frame["top"] - 1 <= text["top"], text["text"]
                assert text["bottom"] <= frame["bottom"] + 1, text["text"]
            for index, text in enumerate(texts):
                for other in texts[index + 1 :]:
                    across = min(text["right"], other["right"]) - max(text["left"], other["left"])
                    down = min(text["bottom"], other["bottom"]) - max(text["top"], other["top"])
                    assert across <= 1 or down <= 3, (text["text"], other["text"])


@pytest.mark.parametrize("width", [360, 1100])
def test_drawings_stay_legible_and_the_page_as_wide_as_the_screen(
    browser: Any, document: Path, width: int
) -> None:
    with opened(browser, document, viewport={"width": width, "height": 700}) as page:
        assert page.evaluate(BLEEDING) <= 0
        assert min(page.evaluate(FONT_SIZES)) >= 9


def test_every_drawing_has_a_name_and_every_section_a_link(browser: Any, document: Path) -> None:
    with opened(browser, document) as page:
        names = page.locator("[role=img]").evaluate_all(
            "all => all.map(one => one.getAttribute('aria-label'))"
        )
        assert len(names) == len(set(names)) == 9
        for link in page.get_by_role("navigation").get_by_role("link").all():
            assert (
                page.locator(str(link.get_attribute("href"))).get_by_role("heading", level=2).inner_text()
                == link.inner_text()
            )


def test_titles_are_shown_and_not_run(browser: Any, document: Path) -> None:
    with opened(browser, document) as page:
        assert page.title() == "small-neumf: report"
        assert page.locator("script").count() == 0


def test_paper_has_all_of_it(browser: Any, document: Path) -> None:
    with opened(browser, document) as page:
        paper = page.pdf(format="A4")
        assert paper.startswith(b"%PDF")
        page.set_viewport_size({"width": 794 - 76, "height": 1000})
        page.emulate_media(media="print")
        assert page.evaluate(BLEEDING) <= 0
