"""Tables and text: what comes from data can never become code of the page."""

from hypothesis import given
from hypothesis import strategies as st

from ncf.analysis.report.html import Markup, facts, interval, number, table, text

HOSTILE = "<img src=x onerror='alert(1)'>"


def test_whatever_is_not_markup_is_escaped() -> None:
    for made in (table([HOSTILE], [[HOSTILE, HOSTILE]], caption=HOSTILE), facts([(HOSTILE, HOSTILE)])):
        assert "<img" not in made
    assert text(Markup("<b>x</b>")) == "<b>x</b>"


@given(st.text())
def test_no_text_brings_a_tag_or_ends_an_attribute(value: str) -> None:
    assert not set(text(value)) & set("<>\"'")


def test_words_stand_left_and_marked_rows_are_set_off() -> None:
    made = table(["model", "kind", "HR@10"], [["a", "gmf", 0.5], ["b", "mlp", 0.6]], left=2, marked=[1])
    assert "<th scope='col'>HR@10</th>" in made
    assert (
        "<tr class=marked><th scope='row' class=words>b</th><td class=words>mlp</td><td>0.6</td></tr>" in made
    )
    assert made.count("class=marked") == 1


def test_a_missing_figure_is_a_dash() -> None:
    assert (number(None), number(0.12345), number(0.5, 2)) == ("–", "0.1235", "0.50")
    assert (interval(None), interval((0.1, 0.25), 2)) == ("–", "0.10 – 0.25")
    assert interval((0.0, 0.0)) == "–"
