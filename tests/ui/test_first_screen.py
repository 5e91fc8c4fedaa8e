"""What a stranger sees first, the run strip, the choice of a language, and coming back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pages import PAIRS, PHONE, App, go_to, write_cards
from playwright.sync_api import Page, expect

from ditto_hub.words import say

FOLD = {"width": 1280, "height": 800}
SMALL = {"width": 360, "height": 780}
IN_VIEW = """(id) => {
  const box = document.getElementById(id).getBoundingClientRect();
  return box.top >= 0 && box.top < window.innerHeight;
}"""
BY_NOW = ".d-by-now [data-prompt]:not([hidden])"


@pytest.fixture(scope="module")
def held_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Run the app so that its runs wait where they are."""
    home = tmp_path_factory.mktemp("held") / "home"
    home.mkdir()
    (home / "hold").touch()
    running = App(home, script="tests/ui/held_app.py").start()
    yield running
    running.stop()


@pytest.fixture
def first(app: App, visit: Callable[..., Page]) -> Page:
    """Open the app as a stranger."""
    page = visit(app.url, viewport=FOLD)
    page.locator("#welcome-stage").wait_for()
    return page


def test_a_stranger_sees_what_it_does_and_nothing_else(first: Page) -> None:
    """One sentence, two ways on and a real run are above the fold; the cards are below it."""
    expect(first.locator("#welcome-title")).to_have_text(say("welcome.title", "en"))
    expect(first.locator("#welcome-example")).to_contain_text("SmolLM2-135M-Instruct")
    expect(first.locator(".d-shown mark").first).to_have_text("Tom,")
    expect(first.locator(f"{BY_NOW} mark")).to_have_text(["Sam,", "Ines"])
    note = first.locator("#welcome-example .d-note").bounding_box()
    assert note is not None
    assert note["y"] + note["height"] <= FOLD["height"]
    assert not first.evaluate(IN_VIEW, "show-intro")


def test_the_slider_goes_through_the_training_by_keyboard(first: Page) -> None:
    """Arrow keys show an earlier text, named to a screen reader, with no server to ask."""
    expect(first.locator("#show-checks")).to_contain_text(say("check.zero", "en"))
    first.watch.allow("ERR_INTERNET_DISCONNECTED|Failed to fetch|onnection")  # type: ignore[attr-defined]
    first.context.set_offline(True)
    stage = first.locator("#welcome-stage")
    stage.focus()
    first.keyboard.press("ArrowLeft")
    expect(stage).to_have_attribute("aria-valuetext", say("voice.sft", "en"))
    expect(first.locator(BY_NOW)).to_contain_text("The new apartment is looking quite nice")
    first.select_option("#welcome-prompt", index=1)
    expect(first.locator(BY_NOW)).to_contain_text("Nadia")
    expect(first.locator(BY_NOW)).to_have_count(1)


def test_own_writing_opens_the_cards_and_a_draft_is_found_again(first: Page) -> None:
    """The first screen makes way for the cards, and is not shown to who has written on one."""
    first.click("#welcome-own")
    expect(first.locator("#welcome")).to_be_hidden()
    expect(first.locator("#show-prompt-1 textarea")).to_be_focused()
    write_cards(first, PAIRS[:2])
    first.reload()
    expect(first.locator("#show-prompt-2 textarea")).to_have_value(PAIRS[1][0])
    expect(first.locator("#welcome")).to_be_hidden()


def test_a_run_to_watch_is_followed_on_every_step_and_after_a_reload(
    held_app: App, visit: Callable[..., Page]
) -> None:
    """One click starts it and opens its progress; the strip follows, and says when it is done."""
    first = visit(held_app.url, viewport=FOLD)
    strip = first.locator("#run-strip")
    expect(strip).to_be_hidden()
    first.dblclick("#welcome-watch")
    expect(first.locator("#train-status")).to_contain_text("Training")
    go_to(first, "publish")
    expect(strip).to_contain_text(say("strip.label", "en"))
    first.reload()  # lands on the progress by itself
    expect(first.locator("#train-status")).to_be_visible()
    go_to(first, "runs")
    expect(first.locator("#runs-list article")).to_have_count(1)
    (held_app.home / "hold").unlink()
    expect(first.locator("#run-strip-text")).to_contain_text(say("state.finished", "en"))
    first.click("#run-strip-open")
    expect(first.locator("#train-status")).to_be_visible()
    expect(strip).to_be_hidden()


def test_the_chosen_language_holds_over_a_reload(first: Page) -> None:
    """Labels and what the server says come in it; the choice shows it and Gradio offers none."""
    expect(first.locator("#app-language-choice")).to_have_accessible_name("Language")
    for language in ("zh-CN", "zh-TW", "en"):
        first.select_option("#app-language-choice", language)
        expect(first.locator("#welcome-title")).to_have_text(say("welcome.title", language))
        first.reload()
        expect(first.locator("#welcome-title")).to_have_text(say("welcome.title", language))
        expect(first.locator("#app-language-choice")).to_have_value(language)
        expect(first.locator("#show-checks")).to_contain_text(say("check.zero", language))
        expect(first.locator("#step-compare-button")).to_have_text(say("app.compare", language))
    assert first.locator("footer .settings").count() == 0


def test_english_can_be_chosen_in_a_chinese_browser(app: App, visit: Callable[..., Page]) -> None:
    """What is chosen goes before what the browser asks for."""
    page = visit(app.url, locale="zh-TW")
    expect(page.locator("#welcome-title")).to_have_text(say("welcome.title", "zh-TW"))
    page.select_option("#app-language-choice", "en")
    expect(page.locator("#welcome-title")).to_have_text(say("welcome.title", "en"))
    expect(page.locator("#show-checks")).to_contain_text(say("check.zero", "en"))


def test_a_phone_shows_each_step_from_its_top(app: App, visit: Callable[..., Page]) -> None:
    """Nothing is wider than 360 px, the way on stays in view, and a step begins at its top."""
    page = visit(app.url, viewport=SMALL)
    page.locator("#welcome-stage").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= SMALL["width"]
    page.set_viewport_size(PHONE)
    page.click("#welcome-own")
    write_cards(page, PAIRS)
    page.evaluate("window.scrollTo(0, 300)")
    assert page.evaluate(IN_VIEW, "show-next")
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    page.click("#show-next")
    page.locator("#train-start").wait_for()
    page.wait_for_function("window.scrollY === 0")
    page.set_viewport_size(SMALL)
    for step in ("show", "train", "compare", "publish", "runs"):
        go_to(page, step)
        assert page.evaluate("document.documentElement.scrollWidth") <= SMALL["width"], step
