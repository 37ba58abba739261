"""Drawings: legible colours, ids of their own, the same bytes every time."""

import re
import subprocess
import sys
from xml.etree import ElementTree

from ncf.analysis.report import svg
from ncf.analysis.report.page import Section
from reports import html

TITLE = 'A "drawing" of <lines>'


@svg.styled()
def drawn(height: float = 0.5) -> str:
    drawing, axes = svg.figure(400, 200)
    for colour, marker, dash in zip(svg.SERIES, svg.MARKERS, svg.DASHES, strict=True):
        axes.plot(
            [1, 2], [0.25, height], color=colour, marker=marker, linestyle=dash, label=f"<{marker}> & co"
        )
    axes.set_xlabel("epoch")
    axes.legend()
    return svg.framed(drawing, TITLE).markup


def test_a_drawing_is_well_formed_and_its_text_stays_text() -> None:
    root = ElementTree.fromstring(drawn())
    assert root.tag.endswith("svg")
    assert root.get("viewBox") == "0 0 400 200"
    texts = {"".join(node.itertext()) for node in root.iter() if node.tag.endswith("text")}
    assert {"epoch", "<o> & co"} <= texts


def test_the_page_names_a_drawing_for_those_who_cannot_see_it() -> None:
    drawing, _ = svg.figure()
    page = html(Section("", "", [svg.framed(drawing, TITLE, "A & B")]))
    assert '<div role="img" aria-label="A &#34;drawing&#34; of &lt;lines&gt;"><svg' in page
    assert "<figcaption>A &amp; B</figcaption>" in page


def test_only_the_colours_of_the_palette_are_used() -> None:
    colours = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", drawn()))
    assert colours <= {*svg.SERIES, svg.SOFT}


def test_ids_of_two_drawings_differ_and_all_references_are_found() -> None:
    first, second = drawn(), drawn(0.6)
    ids = [set(re.findall(r'id="([^"]+)"', each)) for each in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for each, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', each)) <= own


def test_the_same_drawing_has_the_same_bytes() -> None:
    assert drawn() == drawn()


def test_panels_stand_beside_each_other_and_pyplot_is_not_imported() -> None:
    code = (
        "import sys; from ncf.analysis.report import svg; drawing, axes = svg.panels(3); print(len(axes));"
        "svg.framed(drawing, 'x'); print('matplotlib.pyplot' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["3", "False"]
