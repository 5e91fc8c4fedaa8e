"""The app, a real browser, and a local sign-in and Hub for those who ask.

A module's tests share one app, so that the room stays short; a page that logs an error on its
console fails its test. What a test does on a page stands in pages.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hub_server import Hub
from made_runs import make_run
from oidc import Oidc
from pages import PATIENCE_MS, App, Watch, new_visitor, signed_env
from playwright.sync_api import Browser, BrowserContext, Page, expect

from ditto_hub.runs.folder import Run


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Run the app as `make app` does: one's own machine, signing in not set up."""
    running = App(tmp_path_factory.mktemp("app") / "home").start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train once; a test that changes the run changes a copy (`made_runs.give`)."""
    return make_run(tmp_path_factory.mktemp("made") / "run")


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """Run a local Hub with alice and mallory."""
    with Hub() as running:
        yield running


@pytest.fixture(scope="module")
def oidc(hub: Hub) -> Iterator[Oidc]:
    """Run a local sign-in whose tokens the local Hub knows."""
    tokens = {name: hub.add_user(name) for name in ("alice", "mallory")}
    with Oidc(tokens=tokens) as running:
        yield running


@pytest.fixture(scope="module")
def signed_app(tmp_path_factory: pytest.TempPathFactory, hub: Hub, oidc: Oidc) -> Iterator[App]:
    """Run the app as a Space does: signing in set up, the Hub is the local one."""
    running = App(tmp_path_factory.mktemp("signed") / "home", signed_env(hub, oidc)).start()
    yield running
    running.stop()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that opens a page as a new visitor, or as one that is there already."""
    contexts: list[BrowserContext] = []
    watches: list[Watch] = []

    def open_page(url: str, context: BrowserContext | None = None, **options: Any) -> Page:
        if context is None:
            context = new_visitor(browser, **options)
            contexts.append(context)
        page = context.new_page()
        page.watch = Watch(page)  # type: ignore[attr-defined]
        watches.append(page.watch)  # type: ignore[attr-defined]
        page.goto(url)
        expect(page.locator("#show-prompt-1 textarea")).to_be_attached(timeout=PATIENCE_MS)
        return page

    expect.set_options(timeout=PATIENCE_MS)
    yield open_page
    complaints = [text for watch in watches for text in watch.complaints]
    for context in contexts:
        context.close()
    assert complaints == []
