"""The cards of the first step, on a server that is slow or does not answer at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from pages import App, go_to, write_cards
from playwright.sync_api import Page, Route, expect

TEXTS = [(f"Prompt {n}", f"Text {n}") for n in range(1, 7)]
CALLS = re.compile(r"/gradio_api/(queue/join|run|call)")
LATEST_MS = 4000  # by then the slow app has answered all that it was asked


@pytest.fixture(scope="module")
def slow_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Run the app with a server that answers late and out of order."""
    running = App(tmp_path_factory.mktemp("slow") / "home", script="tests/ui/slow_app.py").start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def lost_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Run the app with a server one of whose answers is to cards of before."""
    running = App(tmp_path_factory.mktemp("lost") / "home", script="tests/ui/lost_app.py").start()
    yield running
    running.stop()


def expect_cards(page: Page, texts: list[tuple[str, str]]) -> None:
    """Expect these texts on the first cards."""
    for number, (prompt, completion) in enumerate(texts, start=1):
        expect(page.locator(f"#show-prompt-{number} textarea")).to_have_value(prompt)
        expect(page.locator(f"#show-completion-{number} textarea")).to_have_value(completion)


def test_a_slow_server_loses_nothing_that_is_typed(
    slow_app: App, visit: Callable[..., Page]
) -> None:
    """However late the server answers an earlier change, what was typed since stays and counts."""
    page = visit(slow_app.url)
    write_cards(page, TEXTS)
    expect_cards(page, TEXTS)
    expect(page.locator("#show-checks")).to_contain_text("6 demonstrations")
    page.wait_for_timeout(LATEST_MS)
    expect(page.locator("#show-checks")).to_contain_text("6 demonstrations")
    expect_cards(page, TEXTS)


def test_an_answer_that_was_lost_is_asked_for_again(
    lost_app: App, visit: Callable[..., Page]
) -> None:
    """Where the newest cards go unanswered, the page sends them anew by itself."""
    page = visit(lost_app.url)
    expect(page.locator("#show-checks")).to_contain_text("No demonstration yet")
    write_cards(page, TEXTS[:2])
    expect(page.locator("#show-checks")).to_contain_text("2 demonstrations")
    expect_cards(page, TEXTS[:2])
    # a late answer to an older state, after that to the newest
    with page.expect_request(lambda asked: TEXTS[1][1] in (asked.post_data or "")):
        page.evaluate("dittoCards.changes({version: 0, cards: {}})")


def test_cards_need_no_server(app: App, visit: Callable[..., Page]) -> None:
    """While the server does not answer at all, cards are added, written on and removed."""
    page = visit(app.url)
    expect(page.locator("#show-checks")).to_contain_text("No demonstration yet")
    held: list[Route] = []
    away = True
    page.route(CALLS, lambda route: held.append(route) if away else route.continue_())
    write_cards(page, TEXTS)
    page.click("#show-remove-2")
    left = [TEXTS[0], *TEXTS[2:]]
    expect_cards(page, left)
    away = False
    for route in held:
        route.continue_()
    expect(page.locator("#show-checks")).to_contain_text("5 demonstrations")
    expect_cards(page, left)


PASTE = """(area, text) => {
  const clipboardData = new DataTransfer();
  clipboardData.setData("text/plain", text);
  const event = { clipboardData, bubbles: true, cancelable: true };
  return area.dispatchEvent(new ClipboardEvent("paste", event));
}"""


def test_a_page_at_rest_asks_nothing(app: App, visit: Callable[..., Page]) -> None:
    """Once what was typed in haste is answered, no handler is asked again."""
    page = visit(app.url)
    write_cards(page, TEXTS)
    expect(page.locator("#show-checks")).to_contain_text("6 demonstrations")
    page.wait_for_timeout(LATEST_MS)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(LATEST_MS)
    assert asked == []


def test_several_texts_pasted_at_once_get_a_card_each(app: App, visit: Callable[..., Page]) -> None:
    """Between lines of dashes or wide gaps; one press takes it back; one text is pasted as ever."""
    page = visit(app.url)
    expect(page.locator("#show-checks")).to_contain_text("No demonstration yet")
    box = page.locator("#show-completion-1 textarea")
    assert box.evaluate(PASTE, "One text\n\nof two paragraphs, and a -- dash")
    expect(box).to_have_value("")  # the browser would have put it there
    assert not box.evaluate(PASTE, "Hi all,\n\nfirst!\r\n---\r\nSecond <b>\n\n\n\nשלום\n----")
    expect(page.locator("#show-message")).to_have_text(re.compile("3 texts were found"))
    expect_cards(page, [("", "Hi all,\n\nfirst!"), ("", "Second <b>"), ("", "שלום")])
    expect(page.locator("#show-checks")).to_contain_text("3 demonstrations")
    assert box.evaluate(PASTE, "a\n---\nb")  # the box is not empty: an ordinary paste
    page.click("#show-undo")
    expect_cards(page, [("", ""), ("", "")])


def test_cards_fold_to_a_line(app: App, visit: Callable[..., Page]) -> None:
    """By a press each; more than a voice needs come folded, and keep what is on them."""
    page = visit(app.url)
    expect(page.locator("#show-checks")).to_contain_text("No demonstration yet")
    write_cards(page, TEXTS[:2])
    fold, text = page.locator("#show-fold-1"), page.locator("#show-completion-1 textarea")
    fold.press("Enter")
    expect(text).to_be_hidden()
    expect(page.locator(".d-line").first).to_have_text(TEXTS[0][0])
    expect(fold).to_have_attribute("aria-expanded", "false")
    expect(fold).to_be_focused()
    expect(page.locator("#show-completion-2 textarea")).to_be_visible()
    fold.press("Enter")
    expect(text).to_be_visible()
    many = [{"prompt": f"Prompt {n}", "completion": f"Text {n}"} for n in range(3, 12)]
    page.evaluate("(cards) => dittoCards.add(cards)", many)
    expect(page.locator(".d-folded")).to_have_count(11)
    expect(page.locator("#show-checks")).to_contain_text("11 demonstrations")
    page.reload()
    expect(page.locator(".d-folded")).to_have_count(11)
    expect(page.locator("#show-completion-11 textarea")).to_have_value("Text 11")


def test_cards_are_moved_and_copied_by_keyboard(app: App, visit: Callable[..., Page]) -> None:
    """The focus stays with the card that moves, and a copy stands after its original."""
    page = visit(app.url)
    expect(page.locator("#show-checks")).to_contain_text("No demonstration yet")
    write_cards(page, TEXTS[:3])
    page.focus("#show-up-3")
    page.keyboard.press("Enter")
    expect_cards(page, [TEXTS[0], TEXTS[2], TEXTS[1]])
    page.keyboard.press("Enter")
    expect_cards(page, [TEXTS[2], TEXTS[0], TEXTS[1]])
    expect(page.locator("#show-down-1")).to_be_focused()
    expect(page.locator("#show-up-1")).to_be_disabled()
    page.focus("#show-copy-2")
    page.keyboard.press("Space")
    expect_cards(page, [TEXTS[2], TEXTS[0], TEXTS[0], TEXTS[1]])
    page.fill("#show-completion-3 textarea", "Changed")
    expect_cards(page, [TEXTS[2], TEXTS[0], (TEXTS[0][0], "Changed"), TEXTS[1]])
    expect(page.locator("#show-checks")).to_contain_text("4 demonstrations")


def test_a_press_is_answered_before_the_server_does(app: App, visit: Callable[..., Page]) -> None:
    """A button that starts something is switched off at once, and on again with the answer."""
    page = visit(app.url)
    go_to(page, "train")
    expect(page.locator("#train-estimate")).to_contain_text("Write your demonstrations first")
    start = page.locator("#train-start")
    held: list[Route] = []
    away = True
    page.route(CALLS, lambda route: held.append(route) if away else route.continue_())
    start.click()
    expect(start).to_be_disabled()
    away = False
    for route in held:
        route.continue_()
    expect(start).to_be_enabled()
    expect(page.locator("#train-note")).not_to_be_empty()


def test_a_refused_check_does_not_keep_the_next_from_being_asked(
    app: App, visit: Callable[..., Page]
) -> None:
    """What was typed while a question was under way that fails is asked about all the same."""
    page = visit(app.url)
    expect(page.locator("#show-checks")).to_contain_text("No demonstration yet")
    page.watch.allow("status of 503|Service Unavailable|not valid JSON")  # type: ignore[attr-defined]
    held: list[Route] = []
    away = True
    page.route(CALLS, lambda route: held.append(route) if away else route.continue_())
    write_cards(page, TEXTS)
    away = False
    assert held
    for route in held:
        route.fulfill(status=503, json={"detail": "busy"})
    expect(page.locator("#show-checks")).to_contain_text("6 demonstrations")
