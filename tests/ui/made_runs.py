"""Finished runs for the steps after training, made once and given to whichever visitor asks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from pages import PATIENCE_MS, Watch, new_visitor
from playwright.sync_api import Browser, Page, Request, expect

from ditto_hub import api
from ditto_hub.config import preset
from ditto_hub.runs.folder import Run, hash_owner, to_json_bytes

# Enough for six candidates' worth of buttons, and texts short enough to be written in seconds.
SETTINGS = (
    "warm_start.max_steps=8",
    "sampling.samples=2",
    "sampling.max_new_tokens=32",
    "update.rounds=2",
    "update.steps=3",
    "update.pairs=4",
    "selection.samples=2",
)


def make_run(folder: Path) -> Run:
    """Train pocket for a few steps on a shipped voice."""
    config = preset("pocket", seed=3)
    for setting in SETTINGS:
        config = config.with_setting(setting)
    return api.train("example:harbor", "pocket", config, output=folder)


def give(made: Run, home: Path, owner: str, number: int = 1) -> Run:
    """Put a copy of a run into an app's home, as a visitor's own."""
    name = f"20261122-{number:08x}"
    folder = home / "runs" / name
    shutil.copytree(made.folder, folder)
    record = {**asdict(made.record), "id": name, "owner": hash_owner(owner)}
    (folder / "run.json").write_bytes(to_json_bytes(record))
    return Run.load(folder)


class Secrets:
    """Learn a page's secret from what it sends, as its own server does.

    Args:
        page: before it is opened, or about to be reloaded.
    """

    def __init__(self, page: Page) -> None:
        self.found = ""
        page.on("request", self._see)

    def _see(self, request: Request) -> None:
        if not request.url.endswith("/queue/join?") and "/queue/join" not in request.url:
            return
        for value in json.loads(request.post_data or "{}").get("data", []):
            if isinstance(value, str) and len(value) == 43 and " " not in value:
                self.found = value


@contextmanager
def known_visitor(browser: Browser, url: str) -> Iterator[tuple[Page, Secrets]]:
    """Open the page as somebody to whom runs can be given; an error on its console is refused."""
    context = new_visitor(browser)
    expect.set_options(timeout=PATIENCE_MS)
    page = context.new_page()
    known, watch = Secrets(page), Watch(page)
    page.goto(url)
    expect(page.locator("#welcome-watch")).to_be_enabled()  # the page has its secret
    for _ in range(100):
        if known.found:
            break
        page.wait_for_timeout(100)
    yield page, known
    complaints = watch.complaints
    context.close()
    assert complaints == []
