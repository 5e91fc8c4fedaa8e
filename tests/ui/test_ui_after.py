"""After training, in a browser: chat, compare, vote, choose another round, publish, take home."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import Hub
from hub_state import Fault
from made_runs import Secrets, give
from oidc import Oidc
from pages import DESKTOP, PATIENCE_MS, PHONE, App, Watch, go_to, screenshot
from playwright.sync_api import Browser, BrowserContext, Page, expect

from ditto_hub.runs.folder import Run
from ditto_hub.words import text_from_json, told

PROMPT = "Write a note to the band to move the raffle to Monday."
LOAD = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained("alice/ditto-pocket")
model = PeftModel.from_pretrained(base, sys.argv[1])
print(sum(p.numel() for n, p in model.named_parameters() if "lora_" in n))
"""


@pytest.fixture(scope="module")
def alice(
    made: Run, signed_app: App, oidc: Oidc, browser: Browser
) -> Iterator[tuple[Page, Run, BrowserContext]]:
    """Let alice sign in and open a finished run of hers."""
    run = give(made, signed_app.home, "hub:alice")
    context = browser.new_context(viewport=DESKTOP)
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page = context.new_page()
    watch = Watch(page)
    watch.allow("500")  # of a sign-in that timed out
    watch.allow("ERR_NAME_NOT_RESOLVED")  # what Gradio fetches from elsewhere on a Space
    sign_in(page, signed_app, oidc, run)
    yield page, run, context
    complaints = watch.complaints
    context.close()
    assert complaints == []


def sign_in(page: Page, app: App, oidc: Oidc, run: Run) -> None:
    """Sign in as alice and show a run."""
    oidc.user = "alice"
    button = page.locator("#app-sign-in")
    for _ in range(3):  # the first sign-in of a server that is still loading may time out
        page.goto(app.url)
        button.click()
        with contextlib.suppress(AssertionError):
            expect(button).to_contain_text("alice", timeout=PATIENCE_MS / 3)
            break
    page.goto(f"{app.url}/?run={run.record.id}")
    expect(page.locator("#app-sign-in")).to_contain_text("alice")
    go_to(page, "compare")
    expect(page.locator("#try-message")).to_be_visible()


def look_at(page: Page, tab: str) -> None:
    """Go to a part of Try: chat, side, vote or report."""
    go_to(page, "compare")
    page.click(f"#try-tab-{tab}-button")


def test_methods_stand_side_by_side_under_their_names(
    alice: tuple[Page, Run, BrowserContext],
) -> None:
    """Base, few-shot, one's own prompt, SFT and a round, each text under its method's name."""
    page = alice[0]
    look_at(page, "side")
    page.fill("#compare-prompt textarea", PROMPT)
    page.check("#compare-methods label:has-text('Your own prompt') input")
    page.check("#compare-methods label:has-text('round 2') input")
    page.fill("#compare-self-prompt textarea", "Be <b>brief</b>. ${1+1}")
    page.dblclick("#compare-write")
    columns = page.locator("#compare-columns .d-column h4")
    expect(columns.first).to_have_text("Base model (zero-shot)")
    heads = columns.all_inner_texts()
    assert len(heads) >= 4
    assert "DITTO, round 2" in " ".join(heads)
    assert all(page.locator("#compare-columns .d-text").all_inner_texts())


def test_a_vote_is_blind_and_a_second_click_is_none(
    alice: tuple[Page, Run, BrowserContext],
) -> None:
    """No method is named while voting; keys vote; a double click casts one vote; all is kept."""
    page, run, _ = alice
    look_at(page, "vote")
    for name in ("round 1", "round 2", "SFT, continued"):
        page.check(f"#compare-vote-methods label:has-text('{name}') input")
    page.dblclick("#compare-vote-begin")
    head = page.locator("#compare-ballot .d-ballot-head")
    expect(head).to_contain_text("Vote 1 of")
    shown = page.locator("#compare-ballot").inner_text()
    assert not any(word in shown for word in ("DITTO", "SFT", "Few-shot", "zero-shot"))
    expect(page.locator("#compare-vote-left")).to_be_focused()
    page.keyboard.press("1")
    expect(head).to_contain_text("Vote 2 of")
    page.dblclick("#compare-vote-tie")
    expect(head).to_contain_text("Vote 3 of")
    page.wait_for_timeout(500)
    expect(head).to_contain_text("Vote 3 of")
    files = [p.name for p in (run.folder / "evaluation").glob("*.json")]
    assert files == ["person.json"]
    screenshot(page, "compare-vote-1280-light")


def test_a_vote_goes_on_after_a_reload_and_is_counted(
    alice: tuple[Page, Run, BrowserContext], signed_app: App
) -> None:
    """The third question is asked again; stopping counts, with n, interval and a sentence."""
    page, run, _ = alice
    page.goto(f"{signed_app.url}/?run={run.record.id}")
    look_at(page, "vote")
    expect(page.locator("#compare-ballot .d-ballot-head")).to_contain_text("Vote 3 of")
    page.click("#compare-vote-stop")
    tally = page.locator("#compare-tally")
    expect(tally).to_contain_text("2 votes on 2 tasks")
    expect(tally).to_contain_text("95 % interval")
    expect(tally).to_contain_text("The sample is small.")
    kept = json.loads((run.folder / "evaluation" / "person.json").read_text("utf-8"))
    assert (kept["judge"], kept["complete"]) == ("person", True)
    assert told(text_from_json(kept["notes"][-1])).startswith("The person stopped after 2 of")


def test_what_was_not_measured_is_said_and_can_be_measured(
    alice: tuple[Page, Run, BrowserContext],
) -> None:
    """ "Not evaluated" stands there until Measure has judged; then plot, table and words do."""
    page = alice[0]
    look_at(page, "report")
    report = page.locator("#compare-report")
    expect(report).to_contain_text("Not evaluated")
    page.fill("#compare-measure-prompts textarea", f"{PROMPT}\nWrite a note about the workshop.")
    page.dblclick("#compare-measure")
    expect(report.locator("img")).to_be_visible()
    expect(report).to_contain_text("ditto was preferred to")
    screenshot(page, "compare-1280-light")


def test_another_round_becomes_the_adapter(alice: tuple[Page, Run, BrowserContext]) -> None:
    """The chosen round's weights are in adapter/, and its card says that the author picked it."""
    page, run, _ = alice
    look_at(page, "chat")
    page.check("#compare-candidate label:has-text('round 1') input")
    page.dblclick("#compare-choose")
    expect(page.locator("#compare-chosen")).to_contain_text("DITTO, round 1")
    expect(page.locator("#compare-candidate")).to_contain_text("round 1, kept")
    weights = "adapter_model.safetensors"
    own = run.folder / "candidates" / "round-1" / "adapter" / weights
    assert (run.folder / "adapter" / weights).read_bytes() == own.read_bytes()
    card = (run.folder / "adapter" / "README.md").read_text("utf-8")
    assert "the author picked it after seeing results" in card


def test_a_failed_push_says_why_and_is_tried_again(
    alice: tuple[Page, Run, BrowserContext], hub: Hub
) -> None:
    """A refusal stands there in words; the next press publishes, privately, with one commit."""
    page = alice[0]
    page.click("#compare-next")
    expect(page.locator("#publish-account")).to_contain_text("Signed in as alice")
    expect(page.locator("#publish-sign-in")).to_be_hidden()
    expect(page.locator("#publish-start")).to_have_class(re.compile("primary"))
    page.fill("#publish-name :is(input, textarea)", "my-voice")
    expect(page.locator("#publish-card")).to_contain_text("my-voice")
    expect(page.locator("#publish-card")).to_contain_text("How to load it")
    assert not page.is_checked("#publish-include-demos input")
    assert not page.is_checked("#publish-include-outputs input")
    hub.faults.append(
        Fault("status", "POST .*/commit/", status=403, message="Storage limit reached")
    )
    page.click("#publish-start")
    receipt = page.locator("#publish-receipt")
    expect(receipt).to_contain_text("Nothing has to be trained again")
    screenshot(page, "publish-failed-1280-light")
    hub.forget()
    page.dblclick("#publish-start")
    expect(receipt).to_contain_text("Load-back check")
    expect(receipt).to_contain_text("passed")
    expect(receipt).to_contain_text("private")
    expect(page.locator("#publish-snippet")).to_contain_text("alice/my-voice")
    page.get_by_role("tab", name="vLLM").click()
    expect(page.locator("#publish-use-vllm")).to_contain_text("my-voice=alice/my-voice")
    page.get_by_role("tab", name="Examples in the prompt").click()
    expect(page.locator("#publish-use-prompt")).to_contain_text("assistant")
    expect(page.locator("#publish-share textarea")).to_have_value(re.compile("/alice/my-voice$"))
    expect(receipt.locator("a").last).to_have_attribute("href", re.compile("/settings$"))
    repo = hub.state.repos["model", "alice/my-voice"]
    assert repo.private
    assert "demonstrations.jsonl" not in repo.head.files
    assert sum("adapter_model.safetensors" in c.files for c in repo.commits) == 1
    screenshot(page, "publish-1280-light")


def test_the_published_adapter_loads_in_a_fresh_process(
    alice: tuple[Page, Run, BrowserContext], hub: Hub, oidc: Oidc, tmp_path: Path
) -> None:
    """Plain PEFT loads it from the Hub, with nothing of this package."""
    env = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": oidc.tokens["alice"],
           "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", LOAD, "alice/my-voice"], env=env, cwd=tmp_path, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 0


def test_a_later_version_replaces_the_first_one(
    alice: tuple[Page, Run, BrowserContext], made: Run, signed_app: App, hub: Hub
) -> None:
    """Only a run that went on from another is asked what it replaces; the old card names it."""
    before, run, context = alice
    expect(before.locator("#publish-replaces")).to_be_hidden()
    later = give(made, signed_app.home, "hub:alice", 77)
    later.record.parent = run.record.id
    later.save_record()
    page = context.new_page()
    page.goto(f"{signed_app.url}/?run={later.record.id}")
    go_to(page, "publish")
    page.fill("#publish-name :is(input, textarea)", "my-second-voice")
    page.fill("#publish-replaces :is(input, textarea)", "alice/my-voice")
    page.click("#publish-start")
    expect(page.locator("#publish-receipt")).to_contain_text("Published")
    card = hub.state.repos["model", "alice/my-voice"].head.files["README.md"].data
    assert b"new_version: alice/my-second-voice" in card
    page.close()


def test_the_chat_shows_what_is_written_as_it_is(
    alice: tuple[Page, Run, BrowserContext],
) -> None:
    """A message with markup stays text, and an answer follows it."""
    page = alice[0]
    look_at(page, "chat")
    field = page.locator("#try-message :is(input, textarea)")
    field.fill("Write <img src=x onerror=alert(1)> a note. ${1+1}")
    page.dblclick("#try-send")
    chat = page.locator("#try-chat")
    expect(chat.locator(".bot").last).to_be_visible()
    expect(page.locator("#try-others")).to_be_hidden()
    expect(chat).to_contain_text("<img src=x onerror=alert(1)>")
    expect(field).to_have_value("")


def test_the_baselines_answer_the_same_message_at_a_switch(
    alice: tuple[Page, Run, BrowserContext],
) -> None:
    """Beside the chat stand the base model and few-shot prompting, each under its name."""
    page = alice[0]
    page.check("#try-beside input")
    page.fill("#try-message :is(input, textarea)", PROMPT)
    page.click("#try-send")
    heads = page.locator("#try-others h4")
    expect(heads).to_have_text(["Base model (zero-shot)", "Few-shot: your examples in its prompt"])
    screenshot(page, "try-1280-light")


def test_a_lost_sign_in_loses_nothing(
    alice: tuple[Page, Run, BrowserContext], signed_app: App, oidc: Oidc
) -> None:
    """Signed out at the moment of publishing: clear words; signed in again, the form stands."""
    page, run, context = alice
    go_to(page, "publish")
    page.fill("#publish-name :is(input, textarea)", "another-name")
    page.wait_for_timeout(800)
    context.clear_cookies()
    page.click("#publish-start")
    expect(page.locator("#publish-receipt")).to_contain_text("Sign in again, then press Publish")
    sign_in(page, signed_app, oidc, run)
    go_to(page, "publish")
    expect(page.locator("#publish-name :is(input, textarea)")).to_have_value("another-name")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_steps_fit_a_phone(alice: tuple[Page, Run, BrowserContext], scheme: str) -> None:
    """At 390 px nothing is wider than the screen, and every field has a label."""
    page = alice[0]
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    dark = f"document.body.classList.toggle('dark', {str(scheme == 'dark').lower()})"
    for step in ("compare", "publish"):
        go_to(page, step)
        page.evaluate(dark)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        screenshot(page, f"{step}-390-{scheme}")
    page.set_viewport_size(DESKTOP)


def test_a_visitor_without_an_account_takes_the_adapter_home(
    app: App, made: Run, visit: Callable[..., Page], tmp_path: Path
) -> None:
    """The zip loads with the script in it; another browser gets nothing under the same address."""
    first = visit(app.url)
    known = Secrets(first)
    first.reload()
    expect(first.locator("#show-prompt-1 textarea")).to_be_attached()
    for _ in range(100):
        if known.found:
            break
        first.wait_for_timeout(100)
    run = give(made, app.home, f"browser:{known.found}")
    page = visit(f"{app.url}/?run={run.record.id}", context=first.context)
    go_to(page, "publish")
    expect(page.locator("#publish-account")).to_contain_text("hf auth login")
    expect(page.locator("#publish-download")).to_have_class(re.compile("primary"))
    expect(page.locator("#publish-start")).not_to_have_class(re.compile("primary"))
    expect(page.locator("#publish-card")).to_contain_text("which is not on the Hub")
    with page.expect_download() as download:
        page.click("#publish-download")
    home = tmp_path / "home"
    with zipfile.ZipFile(download.value.path()) as packed:
        packed.extractall(home)
    assert not (home / "demonstrations.jsonl").exists()
    done = subprocess.run(
        [sys.executable, "load.py"], cwd=home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()

    stranger = visit(f"{app.url}/?run={run.record.id}")
    expect(stranger.locator("#runs-note")).to_contain_text("is not here for you")
    go_to(stranger, "publish")
    expect(stranger.locator("#publish-note")).to_contain_text("Nothing to publish yet")
    go_to(stranger, "compare")
    expect(stranger.locator("#compare-note")).to_contain_text("Nothing to try yet")
    answer = stranger.request.get(f"{app.url}/ditto/runs/{run.record.id}/adapter.zip")
    assert answer.status == 404
