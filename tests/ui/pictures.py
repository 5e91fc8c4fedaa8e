"""Draw the app from its first screen to a published adapter, on a desktop and on a phone.

    make pictures      # writes docs/pictures/

The app runs as a Space does, with the tests' local sign-in and local Hub; what is trained is a
short run on the embedded base model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from browser import find
from hub_server import Hub
from oidc import Oidc
from pages import (
    PAIRS,
    PHONE,
    ROOT,
    TINY,
    App,
    Watch,
    go_to,
    new_visitor,
    set_dials,
    signed_env,
    write_cards,
)
from playwright.sync_api import Page, expect, sync_playwright
from test_ui_signed import sign_in

FOLDER = ROOT / "docs" / "pictures"
SCREENS = {"desktop": {"width": 1280, "height": 800}, "phone": PHONE}
SETTLED_MS = 1_500  # for what is drawn after the words are there
TRAINED_MS = 400_000


def story(page: Page, oidc: Oidc) -> Iterator[str]:
    """Go through the app and yield the name of each picture when it is there to be taken."""
    page.locator("#welcome-stage").wait_for()
    yield "1-first-screen"
    sign_in(page, oidc, "alice")
    page.click("#welcome-own")
    write_cards(page, PAIRS)
    expect(page.locator("#show-checks")).to_contain_text("4 demonstrations")
    yield "2-examples"
    go_to(page, "train")
    expect(page.locator("#train-estimate")).to_contain_text("Time, about")
    yield "3-train"
    set_dials(page, TINY)
    page.click("#train-start")
    expect(page.locator("#train-status")).to_contain_text("Finished", timeout=TRAINED_MS)
    yield "4-result"
    go_to(page, "compare")
    page.fill("#try-message :is(input, textarea)", PAIRS[0][0])
    page.click("#try-send")
    expect(page.locator("#try-chat .bot")).to_be_visible()
    yield "5-try"
    go_to(page, "publish")
    page.fill("#publish-name :is(input, textarea)", "my-voice")
    yield "6-publish"
    page.click("#publish-start")
    expect(page.locator("#publish-receipt")).to_contain_text("my-voice", timeout=TRAINED_MS)
    page.locator("#publish-snippet").scroll_into_view_if_needed()
    yield "7-published"
    go_to(page, "runs")
    page.locator("#runs-list article").first.wait_for()
    yield "8-my-runs"


def main() -> None:
    """Take every picture on every screen, each as a visitor of its own."""
    FOLDER.mkdir(exist_ok=True)
    chromium = find()
    with tempfile.TemporaryDirectory() as place, Hub() as hub, sync_playwright() as playwright:
        expect.set_options(timeout=TRAINED_MS)
        with Oidc(tokens={"alice": hub.add_user("alice")}) as oidc:
            app = App(Path(place) / "home", signed_env(hub, oidc)).start()
            browser = playwright.chromium.launch(executable_path=chromium)
            try:
                for screen, size in SCREENS.items():
                    page = new_visitor(browser, viewport=size).new_page()
                    page.watch = Watch(page)  # type: ignore[attr-defined]
                    page.goto(app.url)
                    for name in story(page, oidc):
                        page.wait_for_timeout(SETTLED_MS)
                        path = FOLDER / f"{name}-{screen}.jpg"
                        page.screenshot(path=path, type="jpeg", quality=55)
            finally:
                browser.close()
                app.stop()


if __name__ == "__main__":
    main()
