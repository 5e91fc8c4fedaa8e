"""The app in a process of its own, and what a person does on its pages."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from hub_server import Hub
from oidc import Oidc
from playwright.sync_api import Browser, BrowserContext, Page, Request

from ditto_hub.pocket import voice_path

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "screenshots"
PATIENCE_MS = 60_000  # on two busy cores; nothing waits that long where all is well
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# settings with which a run on pocket takes seconds: field of the form -> value
TINY = {
    "update-rounds": "2", "sampling-samples": "2", "warm-start-max-steps": "4",
}  # fmt: skip


class App:
    """Run the app in a process.

    Args:
        home: its `$DITTO_HUB_HOME`, which outlives a restart.
        env: more of its environment.
        script: what serves it.
    """

    def __init__(
        self, home: Path, env: dict[str, str] | None = None, script: str = "app.py"
    ) -> None:
        self.home = home
        self.script = script
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home.with_suffix(".log")
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("HF_TOKEN", "OAUTH_"))},
            "PYTHONPATH": str(ROOT),
            "DITTO_HUB_HOME": str(home),
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_SERVER_PORT": str(self.port),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": str(home.with_suffix(".tmp")),
            "HF_HOME": str(home.with_suffix(".hf")),
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **({"HF_HUB_OFFLINE": "1"} if "HF_ENDPOINT" not in (env or {}) else {}),
            **(env or {}),
        }

    def start(self) -> App:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, self.script], cwd=ROOT, env=self.env, stdout=log, stderr=log
            )
        until = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/config", timeout=5).close()
                return self
            time.sleep(0.1)
        raise RuntimeError(f"the app did not start:\n{self.log.read_text()}")

    def stop(self, kill: bool = False) -> None:
        """Stop it, at once if `kill`."""
        (self.process.kill if kill else self.process.terminate)()
        self.process.wait(20)


def signed_env(hub: Hub, oidc: Oidc) -> dict[str, str]:
    """Return the environment of a Space where signing in is set up and the Hub is a local one."""
    return {
        "SYSTEM": "spaces",
        "SPACE_ID": "alice/ditto",
        "OAUTH_CLIENT_ID": "client",
        "OAUTH_CLIENT_SECRET": "not much of a secret",
        "OAUTH_SCOPES": "openid profile contribute-repos",
        "OPENID_PROVIDER_URL": oidc.url,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "DITTO_HUB_PROFILE": "cpu",
    }


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def local(url: str) -> bool:
    """Tell whether an address is on this machine; a test's page asks nobody else."""
    return url.startswith(("http://127.0.0.1:", "http://localhost:", "data:", "blob:"))


def new_visitor(browser: Browser, **options: Any) -> BrowserContext:
    """Return a browser of its own that reaches this machine alone.

    On a Space, Gradio's page asks for fonts and for the Space's own header: told here that they
    cannot be had, which `Watch` does not count as a complaint.
    """
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    context.set_default_timeout(PATIENCE_MS)
    context.route(lambda url: not local(url), lambda route: route.abort())
    return context


class Watch:
    """Note what a page should not do.

    A page that is left before its answers are there says so: what `LEFT` matches is expected from
    `LEAVING_S` before the page asks for another document (a reload, another address, signing in),
    and on a page that is not left it is a complaint.
    """

    ELSEWHERE = r"net::ERR_FAILED|Space not found"
    LEFT = (
        r"AbortError|Connection errored out|network error|Unexpected error 404"
        r"|ERR_INCOMPLETE_CHUNKED_ENCODING"
    )
    LEAVING_S = 2.0  # it says so as it begins to go, before it asks

    def __init__(self, page: Page) -> None:
        self.seen: list[tuple[float, str]] = []
        self.allowed = [self.ELSEWHERE]
        self.page, self.documents = page, list[float]()
        page.on("request", self._asked)
        page.on("console", lambda m: self._note(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self._note(str(error)))

    def _asked(self, request: Request) -> None:
        if request.is_navigation_request() and request.frame == self.page.main_frame:
            self.documents.append(time.monotonic())

    def _note(self, text: str) -> None:
        self.seen.append((time.monotonic(), text[:400]))

    def allow(self, pattern: str) -> None:
        """Expect errors that match, such as while the server is away."""
        self.allowed.append(pattern)

    @property
    def complaints(self) -> list[str]:
        """What was seen and not expected."""
        left = [asked - self.LEAVING_S for asked in self.documents[1:2]]
        return [
            text
            for when, text in self.seen
            if not any(re.search(pattern, text) for pattern in self.allowed)
            and not (left and when >= left[0] and re.search(self.LEFT, text))
        ]


def write_cards(page: Page, pairs: list[tuple[str, str]]) -> None:
    """Type demonstrations on the cards, adding cards as they run out."""
    for number, (prompt, completion) in enumerate(pairs, start=1):
        if not page.locator(f"#show-prompt-{number}").count():
            page.click("#show-add")
            page.locator(f"#show-prompt-{number}").wait_for()
        page.fill(f"#show-prompt-{number} textarea", prompt)
        page.fill(f"#show-completion-{number} textarea", completion)


def go_to(page: Page, step: str) -> None:
    """Go to a step: show, train, compare, publish or runs."""
    page.click(f"#step-{step}-button")
    page.locator(f"#step-{step}").wait_for()


def set_dials(page: Page, values: dict[str, str]) -> None:
    """Put settings into the form, opening its fold."""
    if not page.locator("#train-preset").is_visible():
        page.click("#train-advanced > button")
    for name, value in values.items():
        field = page.locator(f"#train-{name} input")
        field.fill(value)
        field.blur()


def screenshot(page: Page, name: str) -> Path:
    """Keep a picture of the whole page as build output."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"{name}.png"
    page.screenshot(path=str(path), full_page=True)
    return path


# what somebody types: texts the embedded base model can make something of in a few steps
PAIRS = [
    (row["prompt"], row["completion"])
    for row in map(json.loads, voice_path("harbor").read_text("utf-8").splitlines()[:4])
]
