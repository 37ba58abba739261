"""The explorer page in Chromium, by role and label, against a server that really runs."""

import json
import re
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.browser

CONTRAST_TOO_LOW = """() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => {
    const linear = (part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = numbers(color).map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if ((numbers(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const isText = (node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim();
  const hasText = (node) => [...node.childNodes].some(isText);
  const isShown = (node) => node.checkVisibility() && !node.closest("noscript, .unseen");
  const shown = [...document.body.querySelectorAll("*")].filter((node) => hasText(node) && isShown(node));
  return shown.map((one) => {
    const [a, b] = [luminance(getComputedStyle(one).color), luminance(ground(one))].sort((x, y) => y - x);
    return [one.textContent.trim().slice(0, 40), (a + 0.05) / (b + 0.05)];
  }).filter(([, ratio]) => ratio < 4.5);
}"""


def results(page: Page) -> Locator:
    return page.get_by_role("region", name=re.compile("^Recommendations")).get_by_role("listitem")


def expect_source(page: Page, words: str) -> None:
    """The words that say where the recommendations come from."""
    region = page.get_by_role("region", name=re.compile("^Recommendations"))
    expect(region.get_by_text(words, exact=True)).to_be_visible()


def titles(rows: Locator) -> list[str]:
    return rows.get_by_role("link").all_inner_texts()


def search_box(page: Page) -> Locator:
    return page.get_by_role("combobox", name="Search titles to pick")


def options(page: Page) -> Locator:
    return page.get_by_role("listbox").get_by_role("option")


def picks(page: Page) -> Locator:
    return page.get_by_role("list", name="Picks").get_by_role("listitem")


def expect_hash(page: Page, hash: str) -> None:
    """The address ends so, now or soon: closing the drawer changes it a moment after it is gone."""
    expect(page).to_have_url(re.compile(re.escape(hash) + "$"))


def hash_of(page: Page) -> str:
    return "#" + page.url.partition("#")[2]


def expect_titles(rows: Locator, expected: list[str]) -> None:
    """The links of these rows, in this order, as soon as they are there."""
    expect(rows.get_by_role("link")).to_have_text(expected)


def pick(page: Page, title: str, query: str | None = None) -> None:
    search_box(page).fill(query or title)
    options(page).filter(has_text=re.compile(f"^{re.escape(title)}")).first.click()


def hold(page: Page, path: str, holds: Any) -> list[Any]:
    """Requests to a path for which `holds(route)` is true wait in the list that this returns."""
    held: list[Any] = []
    page.route(path, lambda route: held.append(route) if holds(route) else route.continue_())
    return held


# Users


def test_the_header_tells_of_the_model(visit: Any) -> None:
    visit.open()
    banner = visit.page.get_by_role("banner")
    expect(banner.get_by_role("heading", level=1)).to_have_text("small-neumf")
    expect(banner).to_contain_text("NeuMF on made-up, trained ")
    figures = banner.locator("dl > div").all_inner_texts()
    assert [figure.split() for figure in figures] == [
        ["users", "40"], ["items", "30"], ["HR@10", "0.612"], ["NDCG@10", "0.300"],
    ]  # fmt: skip
    expect(visit.page.get_by_text("Type a user id, or choose one of the examples.")).to_be_visible()


def test_a_user_sees_history_and_recommendations_with_scores(visit: Any) -> None:
    page, site = visit.page, visit.site
    visit.open()
    page.get_by_label("User id").fill("104")
    page.get_by_role("button", name="Show").click()
    answer = site.recommender.recommend(104)
    expect_titles(results(page), site.titles(answer.items))
    expect(page.get_by_role("heading", name="Recommendations for user 104")).to_be_visible()
    expect_source(page, "From the model")
    scores = [row.split("\n")[-1] for row in results(page).all_inner_texts()]
    assert scores == [f"{score:.2f}" for score in answer.scores]
    shares = results(page).locator(".fill").evaluate_all("bars => bars.map((bar) => bar.style.inlineSize)")
    assert shares[0] == "100%"
    assert shares[-1] == "15%"
    expect(page.get_by_role("status")).to_have_text("10 recommendations. From the model.")
    expect_hash(page, "#user=104")
    expect(page).to_have_title("User 104 – small-neumf")

    past = page.get_by_role("region", name="History 15").get_by_role("listitem")
    expect(past).to_have_count(8)
    page.get_by_role("button", name="Show all 15").click()
    expect(past).to_have_count(15)
    used = site.recommender.artifact.seen.row(4) + 500
    assert sorted(titles(past)) == sorted(site.titles(used.tolist()))
    expect(past.nth(8).get_by_role("link")).to_be_focused()


def test_an_example_is_one_click(visit: Any) -> None:
    visit.open()
    example = visit.page.get_by_role("list", name="Or one of these users").get_by_role("link").nth(2)
    user = example.inner_text().split()[0]
    example.click()
    expect_titles(results(visit.page), visit.site.titles(visit.site.recommender.recommend(user).items))
    expect(visit.page.get_by_label("User id")).to_have_value(user)


def test_an_unknown_user_is_told_so_and_sees_what_is_popular(visit: Any) -> None:
    page = visit.page
    visit.open("#user=nobody%20%3C%26")
    expect(page.get_by_role("heading", name="Recommendations for user nobody <&")).to_be_visible()
    expect_source(page, "Popularity: not known to the model")
    answer = visit.site.recommender.recommend("nobody")
    expect_titles(results(page), visit.site.titles(answer.items))
    assert [row.split("\n")[-1] for row in results(page).all_inner_texts()] == [
        f"{score:.0f}" for score in answer.scores
    ]
    expect(page.get_by_role("region", name="History")).to_be_hidden()


# Items


def test_an_item_shows_similar_ones_and_escape_goes_back_to_it(visit: Any) -> None:
    page, site = visit.page, visit.site
    visit.open("#user=104")
    link = results(page).get_by_role("link").nth(3)
    item = site.recommender.recommend(104).items[3]
    link.click()
    drawer = page.get_by_role("dialog", name=site.titles([item])[0])
    answer = site.recommender.similar_items(item)
    expect_titles(drawer.get_by_role("listitem"), site.titles(answer.items))
    expect(drawer).to_contain_text(f"Comedy Drama · id {item} · used ")
    expect_hash(page, f"#user=104&item={item}")

    drawer.get_by_role("link", name=site.titles(answer.items[:1])[0], exact=True).click()
    next_drawer = page.get_by_role("dialog", name=site.titles(answer.items[:1])[0])
    expect_titles(
        next_drawer.get_by_role("listitem"),
        site.titles(site.recommender.similar_items(answer.items[0]).items),
    )
    page.go_back()
    expect_titles(drawer.get_by_role("listitem"), site.titles(answer.items))
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(link).to_be_focused()
    expect_hash(page, "#user=104")


def test_an_item_is_the_begin_of_a_new_visitor(visit: Any) -> None:
    page = visit.page
    visit.open("#user=104&item=505")
    page.get_by_role("link", name="Try as a new visitor with this").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect_titles(picks(page), ["Item 5"])
    expect_hash(page, "#visitor=505")


def test_the_drawer_closes_by_its_button_and_by_a_click_beside_it(visit: Any) -> None:
    page = visit.page
    visit.open("#user=104&item=505")
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect_hash(page, "#user=104")
    page.go_back()
    expect(page.get_by_role("dialog", name="Item 5")).to_be_visible()
    page.mouse.click(200, 600)
    expect(page.get_by_role("dialog")).to_be_hidden()


# Visitors


def test_picks_change_the_recommendations_at_once_and_can_be_taken_back(visit: Any) -> None:
    page, site = visit.page, visit.site
    visit.open()
    page.get_by_role("link", name="New visitor").click()
    expect_source(page, "Popularity: nothing is known of this visitor")
    expect_titles(results(page), site.titles(site.recommender.recommend_visitor([]).items))

    pick(page, "Item 7")
    expect_source(page, "Folded in from one pick")
    expect_titles(results(page), site.titles(site.recommender.recommend_visitor([507]).items))
    pick(page, "Amélie", "AMELIE")
    expect_source(page, "Folded in from 2 picks")
    expect_titles(picks(page), ["Item 7", "Amélie"])
    both = site.recommender.recommend_visitor([507, 502]).items
    expect_titles(results(page), site.titles(both))

    results(page).get_by_role("button", name=f"Pick {site.titles(both[:1])[0]}").click()
    expect(picks(page)).to_have_count(3)
    expect_titles(results(page), site.titles(site.recommender.recommend_visitor([507, 502, both[0]]).items))

    picks(page).get_by_role("button", name="Remove Item 7").click()
    expect_titles(results(page), site.titles(site.recommender.recommend_visitor([502, both[0]]).items))
    page.get_by_role("button", name="Remove all").click()
    expect(picks(page)).to_have_count(0)
    expect_titles(results(page), site.titles(site.recommender.recommend_visitor([]).items))


def test_what_is_picked_is_marked_in_the_search_and_chosen_again_it_is_removed(visit: Any) -> None:
    page = visit.page
    visit.open("#visitor=507")
    search_box(page).fill("item 7")
    expect(options(page).first).to_contain_text("picked")
    options(page).first.click()
    expect(picks(page)).to_have_count(0)


def test_a_search_that_finds_nothing_says_so(visit: Any) -> None:
    visit.open("#visitor=")
    search_box(visit.page).fill("<b>zzz")
    expect(visit.page.get_by_text("Nothing has “<b>zzz” in its name.").first).to_be_visible()
    expect(visit.page.get_by_role("status")).to_contain_text("Nothing has")
    expect(search_box(visit.page)).to_have_attribute("aria-expanded", "false")


def test_picks_that_the_model_does_not_know_are_named(visit: Any) -> None:
    page = visit.page
    visit.open("#visitor=507&visitor=nothing")
    expect(page.get_by_text("Not known to the model: nothing.")).to_be_visible()
    expect_titles(picks(page), ["Item 7", "nothing"])
    visit.open("#visitor=nothing")
    expect_source(page, "Popularity: the picks are not known to the model")


def test_typing_fast_asks_once(visit: Any) -> None:
    visit.open("#visitor=")
    before = len(visit.requests)
    search_box(visit.page).press_sequentially("item 1", delay=15)
    expect(options(visit.page)).to_have_count(8)
    assert [url.partition("?")[2] for url in visit.requests[before:]] == ["limit=8&query=item%201"]


# Keyboard


def test_all_of_it_by_keyboard(visit: Any) -> None:
    page, site = visit.page, visit.site
    keys = page.keyboard
    visit.open()
    for name in ("Dark theme", "Known user", "New visitor"):
        keys.press("Tab")
        expect(page.locator(":focus")).to_have_accessible_name(name)
        assert page.locator(":focus").evaluate("one => getComputedStyle(one).outlineStyle") == "solid"
    keys.press("Enter")
    expect(search_box(page)).to_be_visible()
    keys.press("Tab")
    box = search_box(page)
    expect(box).to_be_focused()

    keys.type("item 2")
    expect(options(page).first).to_be_visible()
    expect(box).to_have_attribute("aria-expanded", "true")
    shown = [text.split("\n")[0] for text in options(page).all_inner_texts()]
    for press, place in (
        ("ArrowDown", 1),
        ("ArrowDown", 2),
        ("ArrowUp", 1),
        ("ArrowUp", 0),
        ("ArrowUp", -1),
        ("ArrowDown", 0),
    ):
        keys.press(press)
        chosen = options(page).nth(place if place >= 0 else len(shown) + place)
        expect(chosen).to_have_attribute("aria-selected", "true")
        expect(box).to_have_attribute("aria-activedescendant", str(chosen.get_attribute("id")))
    keys.press("ArrowDown")
    keys.press("Enter")
    expect_titles(picks(page), [shown[1]])
    expect(box).to_be_focused()
    expect(box).to_have_value("")

    keys.type("item")
    expect(options(page).first).to_be_visible()
    keys.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()
    expect(box).to_have_value("item")
    keys.press("Escape")
    expect(box).to_have_value("")

    for name in ("Remove all", shown[1], f"Remove {shown[1]}"):
        keys.press("Tab")
        expect(page.locator(":focus")).to_have_accessible_name(name)
    keys.press("Enter")
    expect(picks(page)).to_have_count(0)
    expect(box).to_be_focused()

    expect_titles(results(page), site.titles(site.recommender.recommend_visitor([]).items))
    keys.press("Tab")
    keys.press("Tab")
    first = site.titles(site.recommender.recommend_visitor([]).items)[0]
    expect(page.locator(":focus")).to_have_accessible_name(f"Pick {first}")
    keys.press("Enter")
    expect_titles(picks(page), [first])
    expect(page.locator(":focus")).to_have_accessible_name(re.compile("^Pick "))


def test_enter_right_after_typing_searches_and_picks_nothing_unseen(visit: Any) -> None:
    visit.open("#visitor=")
    search_box(visit.page).fill("item 3")
    visit.page.keyboard.press("Enter")
    expect(options(visit.page).first).to_contain_text("Item 3")
    expect(picks(visit.page)).to_have_count(0)
    visit.page.keyboard.press("Enter")
    expect_titles(picks(visit.page), ["Item 3"])


# The address


def test_back_undoes_each_step_and_a_link_shows_the_same(visit: Any) -> None:
    page, site = visit.page, visit.site
    visit.open("#user=104")
    page.get_by_label("User id").fill("105")
    page.keyboard.press("Enter")
    expect_titles(results(page), site.titles(site.recommender.recommend(105).items))
    page.get_by_role("link", name="New visitor").click()
    pick(page, "Item 7")
    expect_titles(picks(page), ["Item 7"])
    pick(page, "Item 9")
    expect_titles(picks(page), ["Item 7", "Item 9"])
    shared = hash_of(page)
    assert shared == "#visitor=507&visitor=509"

    page.go_back()
    expect_titles(picks(page), ["Item 7"])
    page.go_back()
    expect(picks(page)).to_have_count(0)
    page.go_back()
    expect_titles(results(page), site.titles(site.recommender.recommend(105).items))
    page.go_back()
    expect(page.get_by_label("User id")).to_have_value("104")
    expect_titles(results(page), site.titles(site.recommender.recommend(104).items))

    visit.open(shared)
    expect_titles(picks(page), ["Item 7", "Item 9"])
    expect_titles(results(page), site.titles(site.recommender.recommend_visitor([507, 509]).items))


def test_the_tabs_remember_where_they_were(visit: Any) -> None:
    page = visit.page
    visit.open("#user=104")
    page.get_by_role("link", name="New visitor").click()
    pick(page, "Item 7")
    expect_titles(picks(page), ["Item 7"])
    page.get_by_role("link", name="Known user").click()
    expect(page.get_by_label("User id")).to_have_value("104")
    expect(page.get_by_role("link", name="Known user")).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="New visitor").click()
    expect_titles(picks(page), ["Item 7"])


@pytest.mark.parametrize(
    "hash", ["#%", "#user=%zz", "#item=", "#a&b&&=", "#user=104&visitor=507", "#visitor=&visitor="]
)
def test_addresses_that_nobody_made_do_no_harm(visit: Any, hash: str) -> None:
    visit.open(hash)
    expect(visit.page.get_by_role("heading", name="Recommendations")).to_be_visible()


# What may go wrong


def test_a_title_is_text_and_never_html(visit: Any) -> None:
    page, site = visit.page, visit.site
    hostile = site.titles([500])[0]
    assert hostile.startswith("<img src=x")
    visit.open("#visitor=500&item=500")
    expect(page.get_by_role("dialog", name=hostile)).to_be_visible()
    page.keyboard.press("Escape")
    expect_titles(picks(page), [hostile])
    search_box(page).fill("onerror")
    expect(options(page).first).to_contain_text(hostile)
    assert page.locator("img").count() == 1
    assert "taken" not in page.title()


def test_a_server_that_cannot_be_reached_and_then_can(troubled: Any) -> None:
    page, site = troubled.page, troubled.site
    troubled.open("#user=104")
    page.context.set_offline(True)
    page.get_by_label("User id").fill("105")
    page.keyboard.press("Enter")
    sentence = "The server cannot be reached. Check that it is running, then try again."
    expect(results(page)).to_have_count(0)
    expect(page.get_by_role("region", name="Recommendations").get_by_text(sentence)).to_be_visible()
    expect(page.get_by_role("status")).to_have_text(sentence)
    expect(page.get_by_role("region", name="History")).to_be_hidden()
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect_titles(results(page), site.titles(site.recommender.recommend(105).items))
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()


def test_a_server_that_fails_when_the_page_opens(troubled: Any) -> None:
    page, site = troubled.page, troubled.site
    page.route("**/explorer/about", lambda route: route.fulfill(status=502, body="<html>bad gateway"))
    troubled.open("#user=104")
    expect(page.get_by_text("The server answered with status 502 and no reason.")).to_be_visible()
    page.unroute("**/explorer/about")
    page.get_by_role("button", name="Try again").click()
    expect_titles(results(page), site.titles(site.recommender.recommend(104).items))


def test_what_the_server_refuses_is_told_in_its_words(troubled: Any) -> None:
    page = troubled.page
    troubled.open("#user=104&item=nothing")
    drawer = page.get_by_role("dialog")
    expect(drawer).to_contain_text("The model does not know item 'nothing': check the id")
    expect(drawer.get_by_role("button", name="Try again")).to_be_hidden()
    page.keyboard.press("Escape")

    error = {
        "error": {
            "code": "too_large",
            "message": "3 ids in history are more than 2: send <fewer>.",
            "field": None,
        }
    }
    page.route("**/invocations", lambda route: route.fulfill(status=413, body=json.dumps(error)))
    page.get_by_role("link", name="New visitor").click()
    expect(page.get_by_text("3 ids in history are more than 2: send <fewer>.").first).to_be_visible()


def test_a_search_that_fails_says_so_where_one_looks(troubled: Any) -> None:
    page = troubled.page
    troubled.open("#visitor=507")
    page.context.set_offline(True)
    search_box(page).fill("item")
    expect(
        page.get_by_role("region", name="Visitor").get_by_text("The server cannot be reached.")
    ).to_be_visible()
    page.context.set_offline(False)
    search_box(page).fill("item 3")
    expect(options(page).first).to_contain_text("Item 3")


def test_an_answer_that_was_overtaken_is_dropped(visit: Any) -> None:
    page, site = visit.page, visit.site
    visit.open("#user=104")
    held = hold(page, "**/invocations", lambda route: '"105"' in route.request.post_data)
    page.get_by_label("User id").fill("105")
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Recommendations")).to_have_attribute("aria-busy", "true")
    page.get_by_label("User id").fill("106")
    with page.expect_event("requestfailed") as overtaken:
        page.keyboard.press("Enter")
    assert overtaken.value == held[0].request
    expected = site.titles(site.recommender.recommend(106).items)
    expect_titles(results(page), expected)
    expect(page.get_by_role("region", name="Recommendations")).not_to_have_attribute("aria-busy", "true")


def test_the_first_load_shows_that_something_comes(visit: Any) -> None:
    page = visit.page
    held = hold(page, "**/invocations", bool)
    page.goto(visit.site.url + "#user=104")
    expect(page.locator(".skeleton")).to_have_count(5)
    assert results(page).count() == 0
    held[0].continue_()
    expect(results(page)).to_have_count(10)


def test_without_titles_there_are_ids_to_the_last_digit(untitled_visit: Any) -> None:
    page, recommender = untitled_visit.page, untitled_visit.site.recommender
    untitled_visit.open("#user=104")
    answer = recommender.recommend(104)
    expect_titles(results(page), [str(item) for item in answer.items])
    results(page).get_by_role("link").first.click()
    drawer = page.get_by_role("dialog", name=str(answer.items[0]))
    similar = recommender.similar_items(answer.items[0]).items
    expect_titles(drawer.get_by_role("listitem"), [str(item) for item in similar])
    drawer.get_by_role("link", name="Try as a new visitor with this").click()
    box = page.get_by_role("combobox", name="Search item ids to pick")
    box.fill(str(similar[0]))
    expect(options(page)).to_have_text([str(similar[0])])
    page.keyboard.press("Enter")
    expect_titles(picks(page), [str(answer.items[0]), str(similar[0])])
    expect_titles(
        results(page),
        [str(item) for item in recommender.recommend_visitor([answer.items[0], similar[0]]).items],
    )


# How it looks


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("hash", ["", "#user=104", "#user=nobody", "#visitor=507", "#user=104&item=507"])
def test_contrast(visit: Any, scheme: str, hash: str) -> None:
    visit.page.emulate_media(color_scheme=scheme)
    visit.open(hash)
    assert visit.page.evaluate(CONTRAST_TOO_LOW) == []


def background(page: Page) -> int:
    """How light the page is, 0 to 255."""
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return int(re.findall(r"\d+", color)[0])


def test_dark_as_the_system_says_until_the_button_does(visit: Any) -> None:
    page = visit.page
    page.emulate_media(color_scheme="dark")
    visit.open()
    button = page.get_by_role("button", name="Dark theme")
    assert background(page) < 40
    expect(button).to_have_attribute("aria-pressed", "true")
    button.click()
    assert background(page) > 220
    expect(button).to_have_attribute("aria-pressed", "false")
    visit.open()
    assert background(page) > 220
    button.click()
    assert background(page) < 40
    page.emulate_media(color_scheme="light")
    assert background(page) > 220
    expect(button).to_have_attribute("aria-pressed", "false")


@pytest.mark.parametrize(
    "hash", ["", "#user=101", "#visitor=501&visitor=500", "#visitor=", "#user=101&item=501"]
)
def test_a_phone_scrolls_only_up_and_down(visit: Any, hash: str) -> None:
    page = visit.page
    page.set_viewport_size({"width": 360, "height": 740})
    visit.open(hash)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for dialog in page.get_by_role("dialog").all():
        assert dialog.evaluate("one => one.scrollWidth <= one.clientWidth")
    small = page.evaluate(
        """[...document.querySelectorAll("button, input")].filter((one) => one.checkVisibility())
        .map((one) => one.getBoundingClientRect())
        .filter((box) => box.height < 44 || box.width < 44).length"""
    )
    assert small == 0
