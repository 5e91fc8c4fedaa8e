"""Texts without prompts, in a browser: the base model writes these, and the person edits them."""

from __future__ import annotations

from collections.abc import Callable

from pages import App
from playwright.sync_api import Page, expect

from ditto_hub.demos.importers import load_demos
from ditto_hub.pocket import voice_path
from ditto_hub.pocket.grammar import parse_prompt

TEXTS = [demo.completion for demo in load_demos(voice_path("harbor"))][:3]


def test_missing_prompts_are_written_and_edited(app: App, visit: Callable[..., Page]) -> None:
    """A file of texts lands on cards, their prompts are written, and marked until edited."""
    page = visit(app.url)
    page.click("#show-import button")
    content = "\n---\n".join(TEXTS).encode()
    page.set_input_files(
        "#imports-file input[type=file]",
        {"name": "mine.txt", "mimeType": "text/plain", "buffer": content},
    )
    expect(page.locator("#imports-rows input:checked")).to_have_count(3)
    page.click("#imports-add")
    expect(page.locator("#imports-message")).to_contain_text("3 have no prompt")
    page.fill("#show-prompt-2 textarea", "Mine")
    said = "#show-prompts-note"
    page.evaluate(
        """(said) => { window.seen = new Set();
        new MutationObserver(() => window.seen.add(document.querySelector(said).textContent))
          .observe(document.body, {childList: true, subtree: true, characterData: true}); }""",
        said,
    )
    page.click("#show-prompts")
    expect(page.locator(said)).to_contain_text("2 prompts were written.")
    assert any("1 of 2 prompts" in text for text in page.evaluate("[...window.seen]"))
    first, mark = page.locator("#show-prompt-1 textarea"), page.locator("#show-prompt-1 .d-author")
    parse_prompt(first.input_value())  # one of pocket's grammar
    expect(page.locator("#show-prompt-2 textarea")).to_have_value("Mine")
    expect(mark).to_have_text("written by the model; edit it")
    expect(page.locator("#show-prompt-2 .d-author")).to_be_hidden()
    page.wait_for_timeout(2000)  # a page that is left in the middle of an answer complains
    page.reload()
    expect(mark).to_be_visible()
    first.press("End")
    first.press_sequentially(" Soon")
    expect(mark).to_be_hidden()
    expect(page.locator("#show-prompt-3 .d-author")).to_be_visible()


def test_what_cannot_get_prompts_is_told(app: App, visit: Callable[..., Page]) -> None:
    """Without a text there is nothing to do; pocket names a model that knows other texts."""
    page = visit(app.url)
    note = page.locator("#show-prompts-note")
    page.click("#show-prompts")
    expect(note).to_contain_text("No card has a text without a prompt.")
    page.fill("#show-completion-1 textarea", "The roof leaks. Again.")
    page.click("#show-prompts")
    expect(note).to_contain_text("pocket")
    expect(note).to_contain_text("smollm2")
    expect(page.locator("#show-prompt-1 textarea")).to_have_value("")


def test_an_empty_card_follows_the_last_text(app: App, visit: Callable[..., Page]) -> None:
    """A text on the last card brings the next one, up to seven; a prompt alone brings none."""
    page = visit(app.url)
    page.fill("#show-prompt-2 textarea", "A prompt alone.")
    expect(page.locator("#show-prompt-3")).to_have_count(0)
    for number in range(2, 8):
        page.fill(f"#show-completion-{number} textarea", f"Text {number}.")
        expect(page.locator(f"#show-prompt-{number + 1}")).to_have_count(int(number < 7))
    expect(page.locator("#show-completion-7 textarea")).to_be_focused()
    page.click("#show-add")
    expect(page.locator("#show-prompt-8")).to_have_count(1)
