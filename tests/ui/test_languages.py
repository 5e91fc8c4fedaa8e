"""The page and what the server says, in the visitor's language."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from pages import App, go_to
from playwright.sync_api import Page, expect

from ditto_hub.words import say

MARK = re.compile(r"__i18n__|translation_metadata")


@pytest.mark.parametrize(
    ("browser_language", "locale"),
    [("zh-HK", "zh-TW"), ("zh-CN", "zh-CN"), ("fr-FR", "en")],
)
def test_the_page_speaks_the_visitors_language(
    app: App, visit: Callable[..., Page], browser_language: str, locale: str
) -> None:
    """Labels come in the browser's language, or the nearest there is; so do errors."""
    page = visit(app.url, locale=browser_language)
    expect(page.locator("#show-intro")).to_have_text(say("show.intro", locale))
    page.click("#show-import button")
    page.set_input_files(
        "#imports-file input[type=file]",
        {"name": "a.csv", "mimeType": "text/csv", "buffer": b" "},
    )
    told = say("files.empty.what", locale, name="a.csv")
    expect(page.locator("#imports-message")).to_contain_text(told)
    assert page.locator("html").get_attribute("lang") in (locale, browser_language[:2])


def test_no_step_shows_an_untranslated_mark(app: App, visit: Callable[..., Page]) -> None:
    """Every text of every step is translated by the time it is seen."""
    page = visit(app.url, locale="zh-TW")
    for step in ("show", "train", "compare", "publish", "runs"):
        go_to(page, step)
        if step == "train":
            expect(page.locator("#train-base")).to_contain_text("內附")
        assert not MARK.search(page.inner_text("body")), step
