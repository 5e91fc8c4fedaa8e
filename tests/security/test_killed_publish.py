"""A publication that is ended in the middle of any call: the next one leaves one whole version."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from hub_server import Fault, Hub
from publish_fixtures import base_folder, made, quick, server
from publishing import ADAPTER, digest, refill, send, whole_versions

from ditto_hub.runs.folder import Run

pytestmark = [
    pytest.mark.usefixtures("quick"),
    # huggingface_hub asks httpx2 in words that it has retired; the child is forked on purpose
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


@pytest.mark.parametrize("ends_it", [signal.SIGTERM, signal.SIGKILL])
def test_ended_at_every_call(ends_it: int, made: Path, server: Hub, base_folder: Path) -> None:
    """The run keeps every byte, no half version is public, and a second publication is whole."""
    run, before = Run.load(made), digest(made)
    send(run, server, refill(server, base_folder), public=True)
    calls = len(server.requests)
    assert calls >= 8
    for number in range(1, calls + 1):
        token = refill(server, base_folder)
        server.faults.append(Fault("slow", at=number, seconds=0.3))
        publishing = multiprocessing.get_context("fork").Process(
            target=send, args=(run, server, token), kwargs={"public": True}
        )
        publishing.start()
        until = time.monotonic() + 30
        while len(server.requests) < number and time.monotonic() < until:
            time.sleep(0.005)
        assert publishing.pid
        os.kill(publishing.pid, ends_it)
        publishing.join(10)
        assert publishing.exitcode == -ends_it
        time.sleep(0.35)  # what was under way at the Hub has its effect, or none
        repo = server.state.repos.get(("model", ADAPTER))
        if repo is not None and whole_versions(server, ADAPTER) == 0:
            assert repo.private, f"an empty repo is public after call {number}"
        server.forget()
        assert send(run, server, token, public=True).good
        assert whole_versions(server, ADAPTER) == 1, f"ended at call {number}"
        assert not server.state.repos["model", ADAPTER].private
    assert digest(made) == before
