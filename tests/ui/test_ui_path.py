"""Signed out, from nothing to an adapter; and what another visitor gets of it: nothing."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pages import (
    DESKTOP,
    PAIRS,
    PATIENCE_MS,
    PHONE,
    TINY,
    App,
    Watch,
    go_to,
    new_visitor,
    screenshot,
    set_dials,
    write_cards,
)
from playwright.sync_api import Browser, BrowserContext, Page, expect

MARK = "zyxprivatezyx"  # stands in the first visitor's texts alone
LABELS = """() => [...document.querySelectorAll('input, textarea, select')]
  .filter((e) => e.offsetParent && e.type !== 'file' && !e.labels?.length
    && !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby'))
  .map((e) => e.outerHTML.slice(0, 200))"""


@dataclass
class First:
    """The first visitor: the browser, a page, the run, and what the page should not have done."""

    context: BrowserContext
    page: Page
    run_id: str
    watch: Watch


@pytest.fixture(scope="module")
def first(app: App, browser: Browser) -> Iterator[First]:
    """Let somebody type demonstrations, train, and reload in the middle of it."""
    context = new_visitor(browser)
    expect.set_options(timeout=PATIENCE_MS)
    page = context.new_page()
    watch = Watch(page)
    page.goto(app.url)
    page.locator("#show-prompt-1").wait_for()
    write_cards(page, [(f"{prompt} {MARK}", text) for prompt, text in PAIRS])
    expect(page.locator("#show-checks")).to_contain_text("4 demonstrations")
    page.click("#show-next")
    set_dials(page, TINY)
    expect(page.locator("#train-estimate")).to_contain_text("Time")
    screenshot(page, "train-form-1280-light")
    page.dblclick("#train-start")
    expect(page.locator("#train-status")).to_contain_text("Training")
    page.reload()
    go_to(page, "train")
    expect(page.locator("#train-status")).to_contain_text("Finished")
    yield First(context, page, page.url.split("run=")[1].split("&")[0], watch)
    context.close()


def test_typed_demonstrations_become_an_adapter(first: First, app: App) -> None:
    """Typed, trained and found again after a reload; double clicks start one run."""
    page = first.page
    expect(page.locator("#train-scores")).to_contain_text("kept as the adapter")
    assert [p.name for p in (app.home / "runs").iterdir()] == [first.run_id]
    expect(page.locator("#train-verdict")).to_contain_text("Kept: ")
    assert page.locator("#train-charts details").get_attribute("open") is None
    screenshot(page, "train-finished-1280-light")


def test_the_page_shows_what_was_written_before_and_after(first: First) -> None:
    """For one demonstration: what was shown, the base beside the last round, others by slider."""
    voices = first.page.locator("#train-voices")
    for words in ("What you showed", "Before training", "After round 2"):
        expect(voices).to_contain_text(words)
    slider = first.page.locator("#train-at input[type=number]")
    slider.fill("1")
    slider.blur()
    expect(voices).to_contain_text("After the warm start")
    expect(voices).to_contain_text(PAIRS[0][1].splitlines()[0])


def test_what_came_out_can_be_compared_and_voted_on(first: First) -> None:
    """The page that watched the run offers its candidates, not what there was when it opened."""
    page = first.page
    go_to(page, "compare")
    for tab, group in (("side", "#compare-methods"), ("vote", "#compare-vote-methods")):
        page.click(f"#try-tab-{tab}-button")
        expect(page.locator(group)).to_contain_text("DITTO, round 2")
        expect(page.locator(f"{group} label:has-text('kept') input")).to_be_checked()


def test_drafts_stand_after_a_reload(first: First) -> None:
    """What was typed is kept in the browser."""
    go_to(first.page, "show")
    expect(first.page.locator("#show-prompt-4 textarea")).to_have_value(f"{PAIRS[3][0]} {MARK}")


@pytest.mark.parametrize("step", ["show", "train", "compare", "publish", "runs"])
def test_every_field_has_a_label_and_a_phone_is_wide_enough(first: First, step: str) -> None:
    """Nothing is nameless to a screen reader, and nothing sticks out at 390 px, light or dark."""
    page = first.page
    page.set_viewport_size(PHONE)
    go_to(page, step)
    assert page.evaluate(LABELS) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    screenshot(page, f"{step}-390-light")
    page.evaluate("document.body.classList.add('dark')")
    screenshot(page, f"{step}-390-dark")
    page.set_viewport_size(DESKTOP)
    screenshot(page, f"{step}-1280-dark")
    page.evaluate("document.body.classList.remove('dark')")
    screenshot(page, f"{step}-1280-light")


def test_the_keyboard_reaches_the_steps(first: First) -> None:
    """Arrow keys or Enter on the focused step go to it."""
    page = first.page
    page.locator("#step-train-button").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#train-status")).to_be_visible()


def test_another_visitor_is_not_shown_the_run(
    first: First, app: App, visit: Callable[..., Page]
) -> None:
    """With the run's id in the address, another browser sees neither the run nor its texts."""
    page = visit(f"{app.url}/?run={first.run_id}")
    expect(page.locator("#runs-note")).to_contain_text("is not here for you")
    go_to(page, "train")
    expect(page.locator("#train-start")).to_be_visible()
    go_to(page, "runs")
    expect(page.locator("#runs-list")).to_contain_text("You have no runs here yet.")
    assert MARK not in page.content()


def _get(url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {})) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_owner_gets_the_adapter_as_a_zip(first: First) -> None:
    """The download brings the adapter's files; no account is needed."""
    go_to(first.page, "publish")
    with first.page.expect_download() as got:
        first.page.click("#publish-download")
    with zipfile.ZipFile(got.value.path()) as packed:
        assert {"adapter_config.json", "adapter_model.safetensors"} <= set(packed.namelist())
    with first.page.expect_download() as got:
        first.page.click("#publish-pairs")
    rows = [json.loads(row) for row in Path(got.value.path()).read_text("utf-8").splitlines()]
    assert rows
    assert {row["kind"] for row in rows} <= {"online", "intermodel", "edit"}


def test_the_owner_gets_a_gguf_adapter_for_ollama(first: First) -> None:
    """Made when it is asked for: the adapter, a Modelfile, and how to use both."""
    go_to(first.page, "publish")
    with first.page.expect_download() as got:
        first.page.click("#publish-gguf")
    assert got.value.suggested_filename == f"ditto-{first.run_id}-gguf.zip"
    with zipfile.ZipFile(got.value.path()) as packed:
        assert {"adapter.gguf", "Modelfile", "README.txt"} <= set(packed.namelist())


@pytest.mark.parametrize(
    "path",
    [
        "/ditto/runs/{id}/adapter.zip",
        "/ditto/runs/{id}/gguf.zip",
        "/ditto/runs/{id}/pairs.jsonl",
        "/gradio_api/file={home}/runs/{id}/run.json",
        "/gradio_api/file={home}/runs/{id}/demos.jsonl",
        "/gradio_api/file/{home}/runs/{id}/run.json",
        "/file={home}/runs/{id}/run.json",
        "/gradio_api/deep_link?session_hash=x",
        "/gradio_api/run-history/records",
    ],
)
@pytest.mark.parametrize("secret", ["", "x" * 43])
def test_another_visitor_gets_no_file(first: First, app: App, path: str, secret: str) -> None:
    """No address gives a file of a run without its owner's secret."""
    address = app.url + path.format(id=first.run_id, home=app.home)
    status, body = _get(address, {"x-ditto-secret": secret} if secret else None)
    assert status in (403, 404, 422)
    assert MARK.encode() not in body


def _call(url: str, fn_index: int, data: list[Any], session: str) -> str:
    """Call a handler as the page's own script would and return all that comes back."""
    pressed = {"run": data[0] if data else "", "step": "train"}
    event = {"fn_index": fn_index, "session_hash": session, "event_data": pressed}
    body = json.dumps({"data": data, **event}).encode()
    request = urllib.request.Request(
        f"{url}/gradio_api/queue/join", body, {"content-type": "application/json"}
    )
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    said = ""
    with urllib.request.urlopen(f"{url}/gradio_api/queue/data?session_hash={session}") as stream:
        for line in stream:
            said += line.decode()
            if "process_completed" in said or "close_stream" in said:
                break
    return said


def test_another_visitor_gets_nothing_out_of_any_handler(first: First, app: App) -> None:
    """Each handler, called with the run's id in every field, answers with nothing of the run."""
    config = json.loads(_get(f"{app.url}/config")[1])
    called = 0
    for number, handler in enumerate(config["dependencies"]):
        if handler["backend_fn"]:
            data = [first.run_id] * len(handler["inputs"])
            assert MARK not in _call(app.url, handler["id"], data, f"other{number}")
            called += 1
    assert called > 30


def test_a_run_is_deleted_with_everything(first: First, app: App) -> None:
    """Delete asks once more, then the folder is gone and the list is empty."""
    page = first.page
    go_to(page, "runs")
    expect(page.locator("#runs-list")).to_contain_text(first.run_id)
    page.click("#runs-delete-1")
    page.click("#runs-sure-1")
    expect(page.locator("#runs-list")).to_contain_text("You have no runs here yet.")
    assert list((app.home / "runs").iterdir()) == []
    go_to(page, "train")
    expect(page.locator("#train-start")).to_be_visible()


def test_the_pages_complained_of_nothing(first: First) -> None:
    """No error stood on the console all the way."""
    assert first.watch.complaints == []
