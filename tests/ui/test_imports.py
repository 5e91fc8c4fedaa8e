"""The ways in beside typing, in a browser: drop a file, look, tick, and it stands on cards."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import PAIRS, App, write_cards
from playwright.sync_api import Page, expect

SCRIPT = "<script>alert(1)</script>"
DEMOS = "\n".join(
    json.dumps({"prompt": f"Write note {n}", "completion": f"Note {n}. {SCRIPT}"}) for n in range(3)
)
TABLE = "title,body\n" + "\n".join(f"Title {n},Body {n}" for n in range(12))
CHAT = json.dumps(
    [{"name": "Boats", "chat_messages": [
        {"sender": "human", "text": "Tell me of boats"},
        {"sender": "assistant", "text": "They float."},
    ]}]
)  # fmt: skip
ANSWERED = re.compile(r"/gradio_api/run/predict")


@pytest.fixture
def panel(app: App, visit: Callable[..., Page]) -> Page:
    """Return a new visitor's page with the panel open."""
    page = visit(app.url)
    page.click("#show-import button")
    return page


def drop(page: Page, name: str, content: str | bytes) -> None:
    """Drop a file on the panel."""
    data = content.encode() if isinstance(content, str) else content
    page.set_input_files(
        "#imports-file input[type=file]",
        {"name": name, "mimeType": "application/octet-stream", "buffer": data},
    )


def uploads(app: App) -> list[Path]:
    """Return every file that uploads have left."""
    return [path for path in app.home.with_suffix(".tmp").rglob("*") if path.is_file()]


def test_a_file_of_demonstrations_is_added_whole(app: App, panel: Page) -> None:
    """A small file is ticked whole, lands on cards as text, and leaves no file behind."""
    drop(panel, "demos.jsonl", DEMOS)
    expect(panel.locator("#imports-message")).to_contain_text("demos.jsonl: 3 found.")
    expect(panel.locator("#imports-rows input:checked")).to_have_count(3)
    panel.click("#imports-add")
    expect(panel.locator("#imports-message")).to_contain_text("3 added below.")
    expect(panel.locator("#show-completion-3 textarea")).to_have_value(f"Note 2. {SCRIPT}")
    expect(panel.locator("#show-checks")).to_contain_text("3 demonstrations")
    assert uploads(app) == []


def test_columns_are_chosen_and_rows_ticked_by_keyboard(panel: Page) -> None:
    """A table of unknown columns asks for them; rows are then ticked and read in full."""
    drop(panel, "posts.csv", TABLE)
    expect(panel.locator("#imports-message")).to_contain_text("choose the columns")
    for side, column in (("prompt", "title"), ("completion", "body")):
        panel.click(f"#imports-{side}-column input")
        option = panel.get_by_role("option", name=column)
        expect(option).to_have_count(1)  # the list of the other one has closed
        with panel.expect_response(ANSWERED):  # which unticks the rows
            option.click()
    rows = panel.locator("#imports-rows input")
    expect(rows).to_have_count(12)
    expect(panel.locator("#imports-message")).to_contain_text("posts.csv: 12 found.")
    expect(panel.locator("#imports-rows input:checked")).to_have_count(0)
    rows.nth(4).focus()
    panel.keyboard.press("Space")
    expect(panel.locator("#imports-text textarea")).to_have_value("Title 4\n\n---\n\nBody 4")
    panel.click("#imports-add")
    expect(panel.locator("#show-prompt-1 textarea")).to_have_value("Title 4")
    expect(panel.locator("#show-completion-1 textarea")).to_have_value("Body 4")


def test_of_a_chat_ones_own_writing_can_be_taken(panel: Page) -> None:
    """A chat export asks whose writing is wanted, and shows that."""
    drop(panel, "conversations.json", CHAT)
    expect(panel.locator("#imports-rows")).to_contain_text("They float.")
    panel.locator("#imports-voice input").nth(1).check()
    expect(panel.locator("#imports-rows")).to_contain_text("→ Tell me of boats")
    expect(panel.locator("#imports-rows")).not_to_contain_text("They float.")


def test_a_file_of_no_use_is_told(app: App, panel: Page) -> None:
    """What is wrong with a file is told in a sentence, and it is deleted all the same."""
    for name, content, told in (
        ("a.pdf", b"%PDF-1.7", "a PDF, not text"),
        ("a.jsonl", "{broken", "not valid JSON"),
        ("a.csv", "prompt,completion\n", "holds no demonstrations"),
        ("a.log", "Dear all", "neither JSONL, a JSON array, nor CSV"),
    ):
        drop(panel, name, content)
        expect(panel.locator("#imports-message")).to_contain_text(told)
    expect(panel.locator("#imports-add")).to_be_hidden()
    assert uploads(app) == []


def test_more_than_a_run_takes_is_refused(panel: Page) -> None:
    """Ticking more rows than a run takes adds none of them and says so."""
    rows = "\n".join(json.dumps({"prompt": f"p{n}", "completion": f"c{n}"}) for n in range(60))
    drop(panel, "many.jsonl", rows)
    expect(panel.locator("#imports-rows input")).to_have_count(60)
    panel.evaluate("document.querySelectorAll('#imports-rows input').forEach(b => b.click())")
    expect(panel.locator("#imports-rows input:checked")).to_have_count(60)
    panel.click("#imports-add")
    expect(panel.locator("#imports-message")).to_contain_text("a run takes 50 here")
    expect(panel.locator("#show-prompt-1 textarea")).to_have_value("")


def test_a_dataset_is_asked_for_by_name(panel: Page) -> None:
    """Without a name nothing is asked of the Hub; out of reach, that is told."""
    panel.click("#imports-dataset-look")
    expect(panel.locator("#imports-message")).to_contain_text("Write the dataset's name first.")
    panel.fill("#imports-dataset input, #imports-dataset textarea", "alice/open")
    panel.keyboard.press("Enter")
    expect(panel.locator("#imports-message")).to_contain_text("Offline")


def test_a_draft_is_edited_in_place(app: App, visit: Callable[..., Page]) -> None:
    """What the model wrote can be changed, the difference is shown, and both outlive a reload.

    It is asked for while the libraries may still be loading.
    """
    page = visit(app.url)
    page.click("#show-draft-1")
    change, text = page.locator("#show-change-1"), page.locator("#show-completion-1 textarea")
    expect(change).to_contain_text("Write the prompt first")
    page.fill("#show-prompt-1 textarea", PAIRS[0][0])
    page.dblclick("#show-draft-1")
    expect(change).to_contain_text("The base model wrote this.")
    text.press("Control+End")
    text.press_sequentially(" Inserted")
    expect(change.locator("ins")).to_have_text("Inserted")
    expect(page.locator("#show-checks")).to_contain_text("1 demonstration")
    page.reload()
    expect(text).to_have_value(re.compile(" Inserted$"))
    expect(change.locator("ins")).to_have_text("Inserted")
    expect(text).to_be_editable()


def test_cards_that_were_replaced_come_back(app: App, visit: Callable[..., Page]) -> None:
    """An example set, or emptying all, takes the place of what was typed; one press undoes it."""
    page = visit(app.url)
    prompt = page.locator("#show-prompt-2 textarea")
    expect(page.locator("#show-checks")).to_contain_text("No demonstration yet")
    prompt.fill("Mine")
    expect(page.locator("#show-checks")).to_contain_text("1 demonstration")
    for button in ("#show-example-harbor", "#show-empty"):
        page.click(button)
        expect(prompt).not_to_have_value("Mine")
        page.click("#show-undo")
        prompt = page.locator("#show-prompt-1 textarea")
        expect(prompt).to_have_value("Mine")
        expect(page.locator("#show-undo")).to_be_hidden()


def test_cards_come_and_go_in_haste(app: App, visit: Callable[..., Page]) -> None:
    """Cards are added right after typing, none of it is lost, and a double click counts once."""
    page = visit(app.url)
    write_cards(page, [(f"Prompt {n}", f"Text {n}") for n in range(1, 7)])
    expect(page.locator("#show-checks")).to_contain_text("6 demonstrations")
    page.dblclick("#show-remove-2")
    expect(page.locator("#show-checks")).to_contain_text("5 demonstrations")
    expect(page.locator("#show-prompt-2 textarea")).to_have_value("Prompt 3")
    page.dblclick("#show-add")
    expect(page.locator("#show-prompt-6 textarea")).to_have_value("")
    expect(page.locator("#show-completion-5 textarea")).to_have_value("Text 6")
