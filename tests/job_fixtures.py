"""Fixtures of the tests that use the local Hub with jobs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from job_script import Script, make_run
from jobs_server import JobsHub, local_jobs_hub

from ditto_hub.backends.jobs import job as backend
from ditto_hub.hub import bounds
from ditto_hub.runs.folder import Run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobsHub]:
    """Run a local Hub with jobs, and let this process wait for it but briefly."""
    bounds.bound_time(bounds.Timeouts(connect_s=5.0, read_s=20.0, waits_s=(0.01, 0.01)))
    with local_jobs_hub(folder=tmp_path_factory.mktemp("jobs")) as hub:
        yield hub
    bounds.bound_time(bounds.Timeouts())


@pytest.fixture
def hub(server: JobsHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobsHub]:
    """Give the Hub, emptied, as the one this process talks to and looks at often."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.endpoint)
    monkeypatch.setattr(backend, "Watch", partial(backend.Watch, poll_s=0.02, settle_s=5.0))
    server.state.repos.clear()
    server.credit.clear()
    server.forget()
    server.logs, server.cut, server.quiet_s = "", 0, 0.02
    yield server
    server.stop_jobs()


@pytest.fixture
def script(hub: JobsHub, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Return what the Hub's jobs do; the adapters they make are none that a card could describe."""
    monkeypatch.setattr("ditto_hub.api.training.refresh_card", lambda run: "")
    monkeypatch.setattr("ditto_hub.api.job_runs.refresh_card", lambda run: "")
    hub.runner = script = Script(hub)
    return script


@pytest.fixture
def token(hub: JobsHub) -> str:
    """Return alice's token."""
    return next(name for name, t in hub.state.tokens.items() if t.user == "alice")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Create a run."""
    return make_run(tmp_path / "run")
