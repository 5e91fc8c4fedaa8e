"""What a visitor finds again after a reload, and what keyboards and a second visitor find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from made_runs import give, known_visitor
from pages import PAIRS, App, go_to, set_dials, write_cards
from playwright.sync_api import Browser, Page, expect

from ditto_hub.runs.folder import Run

FOCUS = """() => {
  const at = document.activeElement, style = at && getComputedStyle(at);
  if (!at || at === document.body || !at.checkVisibility()) return "";
  const ring = [at, ...at.querySelectorAll("*"), at.parentElement].some((e) => {
    const s = getComputedStyle(e);
    return (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== "none";
  });
  return ring || at.matches("input, textarea") ? "seen" : at.outerHTML.slice(0, 200);
}"""
MARKS = ("zyxonezyx", "zyxtwozyx")  # each stands in one visitor's texts alone
SHORT = {"update-rounds": "1", "sampling-samples": "2", "warm-start-max-steps": "4"}
TRAINED_MS = 400_000
STEPS_MOST = 120  # stops of the Tab key on the longest way, the settings' form


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Serve the app; a run waits after each step for as long as there is a `hold`."""
    home = tmp_path_factory.mktemp("held") / "home"
    home.mkdir()
    running = App(home, script="tests/ui/held_app.py").start()
    yield running
    running.stop(kill=True)


def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until the focus is on something; on the way it can always be seen."""
    for _ in range(STEPS_MOST):
        page.keyboard.press("Tab")
        assert page.evaluate(FOCUS) in ("seen", "")  # none where the page ends and begins
        if page.evaluate("(wanted) => document.activeElement.matches(wanted)", wanted):
            return
    raise AssertionError(f"Tab does not come to {wanted}")


@dataclass
class Back:
    """Somebody who comes back to the page again and again."""

    page: Page
    run: Run


@pytest.fixture(scope="module")
def back(held: App, browser: Browser, made: Run) -> Iterator[Back]:
    """Let somebody write cards, choose a base model and a setting, and have a finished run."""
    with known_visitor(browser, held.url) as (page, known):
        write_cards(page, PAIRS)
        go_to(page, "train")
        page.locator("#train-base input[value=smollm2]").check()
        page.click("#train-advanced > button")
        expect(page.locator("#train-preset input:checked")).to_have_value("small")
        set_dials(page, {"update-rounds": "3", "seed": "7"})
        yield Back(page, give(made, held.home, f"browser:{known.found}"))


def _show(page: Page) -> None:
    for number, (prompt, completion) in enumerate(PAIRS, start=1):
        expect(page.locator(f"#show-prompt-{number} textarea")).to_have_value(prompt)
        expect(page.locator(f"#show-completion-{number} textarea")).to_have_value(completion)


def _train(page: Page) -> None:
    expect(page.locator("#train-base input[value=smollm2]")).to_be_checked()
    page.click("#train-advanced > button")
    expect(page.locator("#train-update-rounds input")).to_have_value("3")
    expect(page.locator("#train-seed input")).to_have_value("7")


def _publish(page: Page) -> None:
    expect(page.locator("#publish-name :is(input, textarea)")).to_have_value("my-own-name")


STEPS: dict[str, Callable[[Page], None]] = {
    "show": _show,
    "train": _train,
    "result": lambda page: expect(page.locator("#train-status")).to_contain_text("Finished"),
    "compare": lambda page: expect(page.locator("#try-message")).to_be_visible(),
    "publish": _publish,
    "runs": lambda page: expect(page.locator("#runs-list article")).to_be_visible(),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_reload_loses_nothing(back: Back, held: App, step: str) -> None:
    """Whoever comes back is on the step where they were, and what they did there is there."""
    page, at = back.page, "train" if step == "result" else step
    if step == "result":
        page.goto(f"{held.url}/?run={back.run.record.id}")
        expect(page.locator("#train-another")).to_be_attached()
    go_to(page, at)
    if step == "publish":
        page.fill("#publish-name :is(input, textarea)", "my-own-name")
        page.locator("#publish-name :is(input, textarea)").blur()
        expect(page.locator("#publish-card-box")).to_contain_text("my-own-name")
    page.reload()
    expect(page.locator(f"#step-{at}")).to_be_visible()
    STEPS[step](page)


def test_two_visitors_at_once_share_nothing(held: App, visit: Callable[..., Page]) -> None:
    """Each sees their own cards, run and progress alone, and stops their own run alone."""
    (held.home / "hold").touch()
    pages = [visit(held.url) for _ in range(2)]
    ids = []
    for name, page in zip(MARKS, pages, strict=True):
        write_cards(page, [(f"{prompt} {name}", f"{text} {name}") for prompt, text in PAIRS[:2]])
        expect(page.locator("#show-checks")).to_contain_text("2 demonstrations")
        page.click("#show-next")
        page.click("#train-start")
        expect(page.locator("#train-status")).to_be_visible()
        expect(page.locator("#train-voices")).to_contain_text(name)
        ids.append(page.url.split("run=")[1].split("&")[0])
    first, second = pages
    expect(first.locator("#train-status")).to_contain_text("Training")
    second.click("#train-cancel")
    expect(second.locator("#train-status")).to_contain_text("Cancelled")
    first.reload()  # a run that is under way opens its progress
    expect(first.locator("#train-status")).to_contain_text("Training")
    for page, mine, theirs, run_id in zip(pages, MARKS, MARKS[::-1], ids[::-1], strict=True):
        go_to(page, "show")
        card = page.locator("#show-prompt-1 textarea")
        expect(card).to_have_value(f"{PAIRS[0][0]} {mine}")
        go_to(page, "runs")
        expect(page.locator("#runs-list article")).to_have_count(1)
        assert run_id not in page.content()
        assert theirs not in page.content()
    (held.home / "hold").unlink()
    go_to(first, "train")
    first.click("#train-cancel")
    expect(first.locator("#train-status")).to_contain_text("Cancelled")


def test_the_keyboard_goes_all_the_way(held: App, visit: Callable[..., Page]) -> None:
    """From the first screen to a result and to Try, with Tab, Enter and Space alone."""
    page = visit(held.url)
    press, write = page.keyboard.press, page.keyboard.insert_text
    tab_to(page, "#welcome-own")
    press("Enter")
    expect(page.locator("#show-prompt-1 textarea")).to_be_focused()
    for number, (prompt, completion) in enumerate(PAIRS[:2], start=1):
        if number > 1:
            tab_to(page, f"#show-prompt-{number} textarea")
        write(prompt)
        tab_to(page, f"#show-completion-{number} textarea")
        write(completion)
    expect(page.locator("#show-checks")).to_contain_text("2 demonstrations")
    tab_to(page, "#show-next")
    press("Enter")
    expect(page.locator("#train-base")).to_be_visible()
    expect(page.locator("#step-train-button")).to_be_focused()
    tab_to(page, "#train-advanced > button")
    press("Space")
    for name, value in SHORT.items():
        tab_to(page, f"#train-{name} input")
        press("Control+a")
        write(value)
    expect(page.locator("#train-estimate")).to_contain_text("Time")
    tab_to(page, "#train-start")
    press("Space")
    expect(page.locator("#train-status")).to_contain_text("Finished", timeout=TRAINED_MS)
    expect(page.locator("#step-train-button")).to_be_focused()
    tab_to(page, "#step-compare-button")
    press("Enter")
    expect(page.locator("#try-message")).to_be_visible()
    assert page.evaluate(FOCUS) == "seen"
