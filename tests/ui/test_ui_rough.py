"""What goes wrong: cancelled, the server killed in the middle, odd texts, programs at the door."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pages import PAIRS, TINY, App, go_to, set_dials, write_cards
from playwright.sync_api import Page, expect

LONGER = {**TINY, "warm-start-max-steps": "2000"}  # in its warm start however fast the machine
ODD = [
    (
        "<script>window.broken = 1</script> **bold** {{x}}",
        '<img src=x onerror="window.broken = 2">',
    ),
    ("اكتب رسالة إلى الفريق عن النزهة", "مرحبا يا فريق 🎉👩‍👩‍👧 نلتقي غدا"),
]


def start(page: Page, pairs: list[tuple[str, str]], dials: dict[str, str]) -> None:
    """Write demonstrations and start a run on them."""
    write_cards(page, pairs)
    expect(page.locator("#show-checks")).to_contain_text(f"{len(pairs)} demonstrations")
    page.click("#show-next")
    set_dials(page, dials)
    page.click("#train-start")


@pytest.mark.filterwarnings("ignore")
def test_programs_can_check_estimate_and_ask(app: App) -> None:
    """The endpoints answer gradio_client; nothing else is on offer to programs."""
    from gradio_client import Client
    from gradio_client.exceptions import AppError

    client = Client(app.url, verbose=False)
    rows = [{"prompt": prompt, "completion": text} for prompt, text in PAIRS]
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {
        "/check", "/estimate", "/start", "/status", "/texts", "/write_text", "/publish_adapter",
    }  # fmt: skip
    assert client.predict(rows, api_name="/check")["usable"] is True
    assert client.predict(rows[:1], api_name="/check")["usable"] is False
    found = client.predict(rows, "pocket", "", "", api_name="/estimate")
    assert found["total_seconds"] > 0
    with pytest.raises(AppError, match="There is no run"):
        client.predict("20260101-00000000", "x" * 43, api_name="/status")
    client.close()


def test_cancelled_killed_and_resumed(app: App, visit: Callable[..., Page]) -> None:
    """Cancel keeps what there is, resume goes on; so it does after the server was killed.

    The demonstrations are markup, right-to-left text and emoji: shown as written, they run nothing.
    """
    page = visit(app.url)
    start(page, ODD, LONGER)
    expect(page.locator("#train-status")).to_contain_text("warm start")
    page.dblclick("#train-cancel")
    status = page.locator("#train-status")
    expect(status).to_contain_text("Cancelled")
    expect(page.locator("#train-voices")).to_contain_text('<img src=x onerror="window.broken = 2">')
    assert page.evaluate("window.broken") is None
    page.dblclick("#train-resume")
    expect(status).to_contain_text("Training")

    page.watch.allow("ERR_CONNECTION|ERR_INCOMPLETE|Failed to fetch|network|AbortError|errored out")  # type: ignore[attr-defined]
    app.stop(kill=True)
    app.start()
    page.reload()
    go_to(page, "train")
    expect(status).to_contain_text("The server stopped during this run")
    page.click("#train-resume")
    expect(status).to_contain_text("step")
    page.click("#train-cancel")
    expect(status).to_contain_text("Cancelled")


def test_a_base_model_that_cannot_be_used_trains_no_other(
    app: App, visit: Callable[..., Page]
) -> None:
    """A start says why, as the note does; with the name gone, the ticked model is trained."""
    page = visit(app.url)
    other = page.locator("#train-base-other textarea, #train-base-other input")
    write_cards(page, PAIRS)
    expect(page.locator("#show-checks")).to_contain_text(f"{len(PAIRS)} demonstrations")
    page.click("#show-next")
    set_dials(page, TINY)
    bad = (("nobody/no-such-model", "nobody/no-such-model"), ("no id", "not a model id"))
    for name, why in bad:
        other.fill(name)
        page.click("#train-start")
        expect(page.locator("#train-note")).to_contain_text(why)
        expect(page.locator("#train-base-note")).to_contain_text(why)
        expect(page.locator("#train-run")).to_be_hidden()
    other.fill("")
    expect(page.locator("#train-estimate")).to_contain_text("Time")
    page.click("#train-start")
    expect(page.locator("#train-status")).to_be_visible()
