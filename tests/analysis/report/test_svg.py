"""Drawings: colours of the page, ids of their own, the same bytes every time."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from ncf.analysis.report import svg

NAMES = "ink|soft|line|back|card|one|two|three|four|five|six"


@svg.styled()
def drawn(height: float = 0.5) -> str:
    drawing, axes = svg.figure(400, 200)
    for colour, marker, dash in zip(svg.SERIES, svg.MARKERS, svg.DASHES, strict=True):
        axes.plot(
            [1, 2], [0.25, height], color=colour, marker=marker, linestyle=dash, label=f"<{marker}> & co"
        )
    axes.set_xlabel("epoch")
    axes.legend()
    return svg.inline(drawing, 'A "drawing" of <lines>')


def test_a_drawing_is_well_formed_and_says_what_it_is() -> None:
    root = ElementTree.fromstring(drawn())
    assert root.tag.endswith("svg")
    assert root.get("viewBox") == "0 0 400 200"
    assert root.get("aria-label") == 'A "drawing" of <lines>'
    assert root[0].text == 'A "drawing" of <lines>'


def test_text_stays_text() -> None:
    texts = {
        "".join(node.itertext())
        for node in ElementTree.fromstring(drawn()).iter()
        if node.tag.endswith("text")
    }
    assert {"epoch", "<o> & co"} <= texts


def test_every_colour_is_a_variable_of_the_page() -> None:
    drawing = drawn()
    assert set(re.findall(r"var\(--([^)]*)\)", drawing)) <= set(NAMES.split("|"))
    assert not re.search(r"(?:fill|stroke): (?!none|var\()", drawing)
    assert "<style" not in drawing


def test_a_colour_that_is_not_the_pages_is_refused() -> None:
    with svg.styled():
        drawing, axes = svg.figure()
        axes.plot([1, 2], [1, 2], color="red")
        with pytest.raises(AssertionError, match="#ff0000 is no colour of the page"):
            svg.inline(drawing, "red")


def test_ids_of_two_drawings_differ_and_all_references_are_found() -> None:
    one, two = drawn(), drawn(0.6)
    ids = [set(re.findall(r'id="([^"]+)"', each)) for each in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for each, own in zip((one, two), ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', each)) == own


def test_the_same_drawing_has_the_same_bytes() -> None:
    assert drawn() == drawn()


def test_panels_stand_beside_each_other_and_pyplot_is_not_there() -> None:
    code = (
        "import sys; from ncf.analysis.report import svg; drawing, axes = svg.panels(3); print(len(axes));"
        "svg.inline(drawing, 'x'); print('matplotlib.pyplot' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["3", "False"]
