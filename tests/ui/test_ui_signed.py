"""Signed in: what a browser began signed out is claimed, and another account sees none of it."""

from __future__ import annotations

from collections.abc import Callable

from oidc import Oidc
from pages import PAIRS, TINY, App, go_to, screenshot, set_dials, write_cards
from playwright.sync_api import Page, expect


def sign_in(page: Page, oidc: Oidc, name: str) -> None:
    """Sign in with the local provider as somebody."""
    oidc.user = name
    page.click("#app-sign-in")
    expect(page.locator("#app-sign-in")).to_contain_text(f"Logout ({name})")
    expect(page.locator("#show-prompt-1 textarea")).to_be_attached()  # the page came anew


def test_a_run_begun_signed_out_is_claimed(
    signed_app: App, oidc: Oidc, visit: Callable[..., Page]
) -> None:
    """Signing in takes the run along; signed out again, and as another user, it is not there."""
    page = visit(signed_app.url)
    write_cards(page, PAIRS)
    expect(page.locator("#show-checks")).to_contain_text("4 demonstrations")
    page.click("#show-next")
    set_dials(page, TINY)
    page.click("#train-start")
    expect(page.locator("#train-status")).to_contain_text("Training")
    run_id = page.url.split("run=")[1].split("&")[0]

    sign_in(page, oidc, "alice")
    go_to(page, "runs")
    expect(page.locator("#runs-list")).to_contain_text(run_id)
    screenshot(page, "runs-signed-in-1280-light")
    go_to(page, "train")
    expect(page.locator("#train-status")).to_contain_text("Finished")  # and is claimed with that

    elsewhere = visit(signed_app.url)
    sign_in(elsewhere, oidc, "alice")
    go_to(elsewhere, "runs")
    expect(elsewhere.locator("#runs-list")).to_contain_text(run_id)
    elsewhere.click("#runs-open-1")
    expect(elsewhere.locator("#train-status")).to_contain_text("Finished")

    page.reload()  # what was worked on when it was signed in is claimed by now
    expect(page.locator("#app-sign-in")).to_contain_text("Logout (alice)")
    page.click("#app-sign-in")
    expect(page.locator("#app-sign-in")).to_contain_text("Sign in with Hugging Face")
    go_to(page, "runs")
    expect(page.locator("#runs-list")).to_contain_text("You have no runs here yet.")
    sign_in(page, oidc, "mallory")
    go_to(page, "runs")
    expect(page.locator("#runs-list")).to_contain_text("You have no runs here yet.")
