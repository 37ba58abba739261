"""The page: data never become code, nothing is fetched, colours can be told from their ground."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from ncf.analysis.report import page as module
from ncf.analysis.report.page import (
    Code,
    Drawing,
    Facts,
    Heading,
    ListsBlock,
    Section,
    Sentences,
    TableBlock,
    Text,
    interval,
    number,
    page,
)
from ncf.analysis.report.svg import SERIES
from ncf.errors import ConfigError
from reports import html

HOSTILE = "<img src=x onerror='alert(1)'>"
STYLE = (Path(module.__file__).parent / "templates" / "style.css").read_text("utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part)) for part in STYLE.split("@media screen")[:2]
)


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
    sections = [Section("One & all", "Read <so>.", [Text("x")]), Section("One all", "", [])]
    return page("a <b>", [Text("Lead")], sections, "made by a test")


def test_titles_and_text_are_escaped() -> None:
    document = two_sections().replace("\n", "")
    assert "<title>a &lt;b&gt;</title>" in document
    assert '<h2>One &amp; all</h2><p class="reading">Read &lt;so&gt;.</p><p>x</p>' in document
    assert '<div class="lead"><p>Lead</p>' in document


def test_whatever_is_not_markup_is_escaped() -> None:
    blocks = [
        Text(HOSTILE),
        Heading(HOSTILE),
        TableBlock([HOSTILE], [[HOSTILE, HOSTILE]], caption=HOSTILE),
        Code(HOSTILE),
        Facts([(HOSTILE, HOSTILE)]),
        Sentences([HOSTILE]),
        ListsBlock([(HOSTILE, True, [(HOSTILE, HOSTILE)])]),
        Drawing("", HOSTILE, HOSTILE),
    ]
    assert "<img" not in html(Section(HOSTILE, HOSTILE, blocks))
    assert "<p><b>x</b></p>" in html(Section("", "", [Text(Markup("<b>x</b>"))]))


@given(st.text())
def test_no_text_brings_a_tag_or_ends_an_attribute(value: str) -> None:
    written = html(Section("", "", [Text(value)])).strip().removeprefix("<p>").removesuffix("</p>")
    assert not set(written) & set("<>\"'")


def test_words_stand_left_and_marked_rows_are_highlighted() -> None:
    table = TableBlock(["model", "kind", "HR@10"], [["a", "gmf", 0.5], ["b", "mlp", 0.6]], left=2, marked=[1])
    made = html(Section("", "", [table]))
    assert '<th scope="col">HR@10</th>' in made
    row = '<th scope="row" class="words">b</th><td class="words">mlp</td><td>0.6</td>'
    assert f'<tr class="marked">{row}</tr>' in made
    assert made.count('class="marked"') == 1


def test_a_missing_figure_is_a_dash() -> None:
    assert (number(None), number(0.12345), number(0.5, 2)) == ("–", "0.1235", "0.50")
    assert (interval(None), interval((0.1, 0.25), 2)) == ("–", "0.10 – 0.25")
    assert interval((0.0, 0.0)) == "–"


def test_each_section_has_its_own_anchor_in_the_contents() -> None:
    tags = read(two_sections())
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    anchors = ["#" + str(attributes["id"]) for tag, attributes in tags if tag == "section"]
    assert links == anchors == ["#one-all", "#one-all-2"]


def test_nothing_comes_from_outside() -> None:
    tags = read(two_sections())
    assert not {"script", "img", "iframe"} & {tag for tag, _ in tags}
    assert [attributes["href"] for tag, attributes in tags if tag == "link"] == ["data:,"]
    policies = [str(attributes.get("content")) for tag, attributes in tags if "http-equiv" in attributes]
    assert len(policies) == 1
    assert "default-src 'none'" in policies[0]
    assert "script-src" not in policies[0]


def test_without_jinja2_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    module._template.cache_clear()
    with pytest.raises(ConfigError, match=r"jinja2, not installed here: pip install 'ncf\[evaluate\]'"):
        two_sections()
    module._template.cache_clear()


def test_every_colour_is_defined_in_both_modes() -> None:
    assert set(re.findall(r"var\(--([a-z]+)\)", STYLE)) == LIGHT.keys() == DARK.keys()


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_told_from_the_ground(colours: dict[str, str]) -> None:
    """WCAG 2.2: 4.5 for text, 3 for lines and marks."""
    for name in ("ink", "soft"):
        for ground in ("back", "card"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["link"], colours["back"]) >= 4.5
    for colour in SERIES:
        assert contrast(colour, colours["back"]) >= 3, colour


def contrast(a: str, b: str) -> float:
    """Ratio of relative luminances (WCAG 2.2, 1.4.3)."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
