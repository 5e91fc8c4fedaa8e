"""Fixtures of the tests that publish: a local Hub, a finished run, quick bounds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub.constants
import pytest
from hub_server import Hub, local_hub
from publishing import refill
from run_folders import make_run

from ditto_hub import pocket
from ditto_hub.hub import bounds
from ditto_hub.runs.folder import Run

QUICK = bounds.Timeouts(connect_s=2.0, read_s=0.4, patience_s=5.0, waits_s=(0.01, 0.01))


@pytest.fixture(scope="session")
def base_folder(tiny: Callable[[str], Path]) -> Path:
    return tiny("llama3")


@pytest.fixture(scope="session")
def made(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on `base/tiny`, made once; tests take copies of it."""
    folder = tmp_path_factory.mktemp("runs") / "made"
    make_run(folder, base_folder, {"id": "base/tiny", "revision": None})
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, base_folder: Path) -> Iterator[None]:
    """Upload over HTTP, wait little, and let a tiny random model stand for pocket's weights."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setattr(pocket, "MODEL_DIR", base_folder)
    huggingface_hub.utils.disable_progress_bars()
    bounds.bound_time(QUICK)
    yield
    bounds.bound_time(bounds.Timeouts())
    huggingface_hub.utils.enable_progress_bars()


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with local_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, base_folder: Path) -> Hub:
    refill(server, base_folder)
    return server


@pytest.fixture
def token(hub: Hub) -> str:
    return next(iter(hub.state.tokens))


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    return Run.load(shutil.copytree(made, tmp_path / "run"))
