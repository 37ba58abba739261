"""The document: nothing from outside, colours that can be told from their ground."""

import re
from html.parser import HTMLParser

import pytest

from ncf.analysis.report.page import DARK, LIGHT, Section, page
from ncf.analysis.report.svg import SERIES, inline, panels, styled


class Reading(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def read(document: str) -> list[tuple[str, dict[str, str | None]]]:
    reading = Reading()
    reading.feed(document)
    return reading.tags


def two_sections() -> str:
    return page(
        "a <b>", "<p>Lead</p>", [Section("One & all", "Read <i>so</i>.", "x"), Section("One all", "", "y")]
    )


def test_titles_are_escaped_and_html_is_not() -> None:
    document = two_sections()
    assert "<title>a &lt;b&gt;</title>" in document
    assert "<h2>One &amp; all</h2><p class='reading'>Read <i>so</i>.</p>x" in document
    assert "<p>Lead</p>" in document


def test_each_section_has_its_own_anchor_in_the_contents() -> None:
    tags = read(two_sections())
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    anchors = ["#" + str(attributes["id"]) for tag, attributes in tags if tag == "section"]
    assert links == anchors == ["#one-all", "#one-all-2"]


def test_nothing_comes_from_outside() -> None:
    tags = read(two_sections())
    assert not {"script", "img", "iframe"} & {tag for tag, _ in tags}
    assert [attributes["href"] for tag, attributes in tags if tag == "link"] == ["data:,"]
    assert any(
        "default-src 'none'" in str(attributes.get("content")) for tag, attributes in tags if tag == "meta"
    )


def test_every_colour_of_a_drawing_is_defined_in_both_modes() -> None:
    with styled():
        drawing, axes = panels(2)
        for colour in SERIES:
            axes[1].plot([1, 2], color=colour)
        used = set(re.findall(r"var\(--([a-z]+)\)", inline(drawing, "x") + two_sections()))
    assert used <= LIGHT.keys()
    assert LIGHT.keys() == DARK.keys()


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_told_from_the_ground(colours: dict[str, str]) -> None:
    """WCAG 2.2: 4.5 for text, 3 for lines and marks."""
    for name in ("ink", "soft"):
        for ground in ("back", "card"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for name in ("one", "two", "three", "four", "five", "six"):
        assert contrast(colours[name], colours["back"]) >= 3, name


def contrast(a: str, b: str) -> float:
    """Ratio of relative luminances (WCAG 2.2, 1.4.3)."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
