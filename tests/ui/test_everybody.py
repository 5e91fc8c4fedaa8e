"""Every step, for everybody: axe-core finds nothing serious, and a narrow phone shows all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from hub_server import Hub
from made_runs import Secrets, give, known_visitor
from oidc import Oidc
from pages import (
    DESKTOP,
    PAIRS,
    PHONE,
    TINY,
    App,
    go_to,
    screenshot,
    set_dials,
    signed_env,
    write_cards,
)
from playwright.sync_api import Browser, Page, expect
from test_ui_signed import sign_in

from ditto_hub.runs.folder import Run

NARROW = {"width": 360, "height": 740}
# what each step shows last of a finished run
LAST_SHOWN = {
    "show": "#show-checks .d-count",
    "train": "#train-voices .d-voice",
    "compare": "#try-message",
    "publish": "#publish-card-box h2",
    "runs": "#runs-list article",
}
# it would fetch the style sheets of other sites anew
AXE_OPTIONS = {"resultTypes": ["violations"], "preload": False}
# whatever is cut off: the page's own box clips, so its width alone does not tell
STICKS_OUT = """() => {
  const within = (e) => {
    for (let up = e.parentElement; up; up = up.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(up).overflowX)) return true;
    return false;
  };
  return [...document.querySelectorAll(".gradio-container *")].filter((e) => {
    const box = e.getBoundingClientRect();
    if (!e.checkVisibility() || !box.width || !box.height) return false;
    if (box.width <= 1 || getComputedStyle(e).position === "fixed") return false;
    const cut = e.matches("button, label, summary") && e.scrollWidth > e.clientWidth + 1;
    return (box.right > innerWidth + 1 || cut) && !within(e);
  }).map((e) => e.outerHTML.slice(0, 160));
}"""


@dataclass
class Visitor:
    """Somebody on a page, and what they need to go on."""

    page: Page
    app: App
    secret: str
    made: Run
    oidc: Oidc


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory, hub: Hub, oidc: Oidc) -> Iterator[App]:
    """Serve the app as a Space does, with runs that wait after each step."""
    home = tmp_path_factory.mktemp("held") / "home"
    home.mkdir()
    (home / "hold").touch()
    running = App(home, signed_env(hub, oidc), script="tests/ui/held_app.py").start()
    yield running
    running.stop(kill=True)


@pytest.fixture(scope="module")
def anybody(held: App, browser: Browser, made: Run, oidc: Oidc) -> Iterator[Visitor]:
    """Open the page; the tests below go through it in their order."""
    with known_visitor(browser, held.url) as (page, known):
        expect(page.locator("#welcome-stage")).to_be_visible()
        yield Visitor(page, held, known.found, made, oidc)


def _examples(visitor: Visitor) -> None:
    visitor.page.click("#welcome-own")
    visitor.page.click("#show-import > button")


def _written(visitor: Visitor) -> None:
    write_cards(visitor.page, PAIRS)
    expect(visitor.page.locator("#show-checks")).to_contain_text("4 demonstrations")


def _train(visitor: Visitor) -> None:
    visitor.page.click("#show-next")
    visitor.page.click("#train-advanced > button")
    expect(visitor.page.locator("#train-estimate")).to_contain_text("Time")


def _result(visitor: Visitor) -> None:
    page = visitor.page
    run = give(visitor.made, visitor.app.home, f"browser:{visitor.secret}")
    page.goto(f"{visitor.app.url}/?run={run.record.id}")
    go_to(page, "train")
    expect(page.locator("#train-status")).to_contain_text("Finished")
    expect(page.locator("#train-voices")).to_contain_text("What you showed")


def _chat(visitor: Visitor) -> None:
    page = visitor.page
    go_to(page, "compare")
    page.fill("#try-message :is(input, textarea)", PAIRS[0][0])
    page.click("#try-send")
    expect(page.locator("#try-chat .bot")).to_be_visible()


def _vote(visitor: Visitor) -> None:
    page = visitor.page
    page.click("#try-tab-side-button")
    expect(page.locator("#compare-methods")).to_be_visible()
    page.click("#try-tab-vote-button")
    page.click("#compare-vote-begin")
    expect(page.locator("#compare-ballot .d-ballot-head")).to_contain_text("Vote 1 of")


def _publish(visitor: Visitor) -> None:
    go_to(visitor.page, "publish")
    expect(visitor.page.locator("#publish-card-box")).to_contain_text("How to load it")


def _runs(visitor: Visitor) -> None:
    go_to(visitor.page, "runs")
    visitor.page.locator("#runs-list summary").first.click()
    visitor.page.click("#app-privacy > button")
    expect(visitor.page.locator("#app-privacy-text")).to_be_visible()


def _publish_signed_in(visitor: Visitor) -> None:
    sign_in(visitor.page, visitor.oidc, "alice")
    _publish(visitor)
    expect(visitor.page.locator("#publish-namespace :is(input, textarea)")).to_have_value("alice")


def _training(visitor: Visitor) -> None:
    page = visitor.page
    go_to(page, "train")
    page.click("#train-another")
    set_dials(page, TINY)
    page.click("#train-start")
    expect(page.locator("#train-status")).to_contain_text("Training")
    expect(page.locator("#run-strip")).to_be_visible()


SCREENS: dict[str, Callable[[Visitor], None]] = {
    "first": lambda visitor: None,
    "examples": _examples,
    "written": _written,
    "train": _train,
    "result": _result,
    "chat": _chat,
    "vote": _vote,
    "publish": _publish,
    "runs": _runs,
    "publish-signed-in": _publish_signed_in,
    "training": _training,
}


def found(page: Page) -> list[str]:
    """Return what axe-core finds that keeps somebody out, Gradio's own parts included.

    Its passing messages alone are not: a close button inside a button, for which it has no setting.
    What fades in is looked at as it stays.
    """
    page.add_style_tag(content="* {transition: none !important; animation: none !important}")
    violations: list[dict[str, Any]] = Axe().run(page, options=AXE_OPTIONS).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
        if not (violation["id"] == "nested-interactive" and "toast-header" in node["html"])
    ]


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_keeps_nobody_out(anybody: Visitor, screen: str) -> None:
    """In both themes and at both widths, axe-core has no serious finding."""
    page = anybody.page
    SCREENS[screen](anybody)
    for theme in ("light", "dark"):
        page.evaluate(f"document.body.classList.toggle('dark', {str(theme == 'dark').lower()})")
        for width, size in (("1280", DESKTOP), ("390", PHONE)):
            page.set_viewport_size(size)
            assert found(page) == [], (theme, width)
    page.evaluate("document.body.classList.remove('dark')")
    page.set_viewport_size(DESKTOP)


@pytest.mark.parametrize("locale", ["en", "zh-TW"])
def test_a_narrow_phone_shows_all_of_every_step(
    held: App, made: Run, visit: Callable[..., Page], locale: str
) -> None:
    """At 360 px no label is cut off and nothing sticks out, with the longest words there are."""
    page = visit(held.url, viewport=NARROW, locale=locale)
    known = Secrets(page)
    page.reload()
    expect(page.locator("#welcome-watch")).to_be_enabled()
    assert page.evaluate(STICKS_OUT) == [], "first"
    write_cards(page, PAIRS)
    go_to(page, "train")
    page.click("#train-advanced > button")
    assert page.evaluate(STICKS_OUT) == [], "form"
    run = give(made, held.home, f"browser:{known.found}", 2 + len(locale) + ord(locale[-1]))
    page.goto(f"{held.url}/?run={run.record.id}")
    for step, shown in LAST_SHOWN.items():
        go_to(page, step)
        expect(page.locator(shown).first).to_be_visible()
        assert page.evaluate(STICKS_OUT) == [], step
        screenshot(page, f"{step}-360-{locale}")
