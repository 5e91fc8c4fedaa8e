"""What every test has: one thread, no network but this machine's own, a home of its own."""

from __future__ import annotations

import os
import runpy
import socket
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

# Before torch and huggingface_hub are imported, which read these once. More threads than cores
# that are free makes tiny models twenty times slower, and one thread adds numbers in one order.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ.update(
    HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false"
)
for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
    os.environ.pop(name, None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Start a real browser once: Playwright allows one loop of its own in a process."""
    from playwright.sync_api import sync_playwright

    finder = runpy.run_path(str(Path(__file__).parent / "ui" / "browser.py"))
    path = finder["find"]()
    assert path, finder["ADVICE"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path)
        yield running
        running.close()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a home for its runs."""
    monkeypatch.setenv("DITTO_HUB_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def _offline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse any connection that leaves this machine, except in tests/live."""
    if "live" in request.path.parts:
        return
    connect = socket.socket.connect

    def connect_here(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if self.family != socket.AF_UNIX and host not in ("127.0.0.1", "::1", "localhost"):
            raise ConnectionRefusedError(f"a test tried to reach {address!r}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return family -> the folder of its tiny random model, built when first asked for."""
    from tiny_models import build_tiny

    @cache
    def build(family: str) -> Path:
        return build_tiny(family, tmp_path_factory.mktemp("tiny") / family)

    return build
